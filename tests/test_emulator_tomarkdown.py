"""`ai/tomarkdown`: one row a file, whatever becomes of the others; and the binding's form of it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from adapters.errors import Fault, InvalidRequest, RelayError
from tests.support.documents import docx, pdf, xlsx
from tests.support.lists import AI, client_of, error_of, lists_app, result_of
from tests.support.servers import DEADLINE
from tests.support.simulated_time import simulated
from wrangler_compat.markdown import conversion, worker
from wrangler_compat.markdown.conversion import Converter, Document
from wrangler_compat.markdown.options import Options, read_options
from wrangler_compat.markdown.worker import MAX_MEMORY, Job
from wrangler_compat.tomarkdown import transform

pytestmark = pytest.mark.anyio

PAGE = b'<body><nav>menu</nav><main><h1>A</h1><a href="/b">c</a></main></body>'


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(lists_app(tmp_path)) as client:
        yield client


def options(**parts: Any) -> Options:
    return read_options(json.dumps(parts))


async def convert(name: str, data: bytes, wanted: Options | None = None, per_file: float = 30.0) -> dict[str, Any]:
    (row,) = await Converter(per_file=per_file).convert([Document(name, "", BytesIO(data))], wanted or Options())
    return row


async def test_one_failing_file_does_not_fail_the_call(client: httpx.AsyncClient) -> None:
    files = [
        ("files", ("a.md", b"# A\n", "text/markdown")),
        ("files", ("b.pdf", b"no pdf", "application/pdf")),
        ("files", ("c.bin", b"?", "application/x-thing")),
        ("files", ("d.txt", b"d" * 9, "text/plain")),
    ]
    rows = result_of(await client.post(f"{AI}/tomarkdown", files=files))
    assert [(row["name"], row["mimeType"], row["format"]) for row in rows] == [
        ("a.md", "text/markdown", "markdown"),
        ("b.pdf", "application/pdf", "error"),
        ("c.bin", "application/x-thing", "error"),
        ("d.txt", "text/plain", "markdown"),
    ]
    assert len({row["id"] for row in rows}) == 4
    assert (rows[0]["data"], rows[3]["tokens"]) == ("# A", 3)
    assert "could not be read" in rows[1]["error"] and "cannot be converted" in rows[2]["error"]
    assert "data" not in rows[1] and "error" not in rows[0]


async def test_options_are_taken_and_those_without_effect_let_through(client: httpx.AsyncClient) -> None:
    images = {"convert": True, "maxConvertedImages": 3, "descriptionLanguage": "de"}
    wanted = {
        "output": {"format": "text"},
        "html": {"images": {**images, "convertOGImage": False}},
        "docx": {"images": images},
        "pdf": {"metadata": True, "images": images},
        "image": {"descriptionLanguage": "fr"},
    }
    form = {"conversionOptions": json.dumps(wanted)}
    (row,) = result_of(await client.post(f"{AI}/tomarkdown", data=form, files={"file": ("a.md", b"# A")}))
    assert (row["format"], row["data"]) == ("text", "A")


@pytest.mark.parametrize("name", ["files", "files[]", "file"])
async def test_files_are_found_under_each_name_that_clients_give_them(client: httpx.AsyncClient, name: str) -> None:
    (row,) = result_of(await client.post(f"{AI}/tomarkdown", files={name: ("a.md", b"# A")}))
    assert row["data"] == "# A"


BAD_FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "no files": ({"files": {"other": ("a", b"")}}, "'files'"),
    "a text in place of a file": ({"files": {"files": (None, "text")}}, "'files'"),
    "options that are no JSON": (
        {"files": {"files": ("a.md", b"a")}, "data": {"conversionOptions": "{"}},
        "'conversionOptions': it is no JSON",
    ),
    "options that are a file": (
        {"files": {"files": ("a.md", b"a"), "conversionOptions": ("o", b"{}")}},
        "'conversionOptions'",
    ),
    "a format that there is not": (
        {"files": {"files": ("a.md", b"a")}, "data": {"conversionOptions": '{"output":{"format":"pdf"}}'}},
        "output.format",
    ),
    "too many files": ({"files": [("files", ("a.md", b"a"))] * 51}, "50"),
}


@pytest.mark.parametrize(("form", "word"), BAD_FORMS.values(), ids=BAD_FORMS)
async def test_a_bad_form_is_told_what_is_wrong(client: httpx.AsyncClient, form: dict[str, Any], word: str) -> None:
    status, code, message = error_of(await client.post(f"{AI}/tomarkdown", **form))
    assert (status, code) == (400, 5006) and word in message


BAD_OPTIONS: dict[str, tuple[str, str]] = {
    "an unknown option": ('{"colour":"blue"}', "Unknown option 'conversionOptions.colour'"),
    "an unknown option deep down": ('{"pdf":{"images":{"a":1}}}', "'conversionOptions.pdf.images.a'"),
    "no object": ("[]", "Invalid type for 'conversionOptions'"),
    "a null": ("null", "Invalid type for 'conversionOptions'"),
    "a wrong type": ('{"html":{"hostname":5}}', "'conversionOptions.html.hostname': expected a string"),
    "a flag that is none": ('{"pdf":{"metadata":"yes"}}', "'conversionOptions.pdf.metadata': expected a boolean"),
    "too small a number": ('{"docx":{"images":{"maxConvertedImages":-1}}}', "docx.images.maxConvertedImages"),
    "a language that is not spoken": ('{"image":{"descriptionLanguage":"xx"}}', "image.descriptionLanguage"),
    "a host with another scheme": ('{"html":{"hostname":"ftp://x"}}', "hostname has to be"),
    "a host with a space": ('{"html":{"hostname":"a b"}}', "hostname has to be"),
    "an address without a host": ('{"html":{"hostname":"https:///x"}}', "hostname has to be"),
    "an address that is none": ('{"html":{"hostname":"http://[x"}}', "hostname has to be"),
}


@pytest.mark.parametrize(("text", "words"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
async def test_a_bad_option_is_named(client: httpx.AsyncClient, text: str, words: str) -> None:
    form = {"conversionOptions": text}
    answer = await client.post(f"{AI}/tomarkdown", data=form, files={"files": ("a.md", b"a")})
    status, code, message = error_of(answer)
    assert (status, code) == (400, 5006) and words in message


HOSTS: dict[str, tuple[str, str]] = {
    "a name": ("example.com", "https://example.com/b"),
    "a name and a port": ("example.com:8443", "https://example.com:8443/b"),
    "a name between spaces": (" example.com ", "https://example.com/b"),
    "an address": ("https://example.com", "https://example.com/b"),
    "an address with a path": ("http://example.com/a/x.html", "http://example.com/b"),
    "none": ("", "/b"),
}


@pytest.mark.parametrize(("hostname", "address"), HOSTS.values(), ids=HOSTS)
async def test_addresses_are_relative_to_the_host_however_it_is_written(hostname: str, address: str) -> None:
    row = await convert("a.html", b'<a href="/b">c</a>', options(html={"hostname": hostname}))
    assert row["data"] == f"[c]({address})"


async def test_a_name_of_no_character_set_is_told_in_ours(client: httpx.AsyncClient) -> None:
    body = b'--b\r\ncontent-disposition: form-data; name="files"; filename="+2AA-.md"\r\n\r\na\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b; charset=utf-7"}
    (row,) = result_of(await client.post(f"{AI}/tomarkdown", content=body, headers=headers))
    assert (row["name"], row["mimeType"], row["data"]) == ("?.md", "application/octet-stream", "a")


async def test_what_is_supported_can_be_asked(client: httpx.AsyncClient) -> None:
    rows = result_of(await client.get(f"{AI}/tomarkdown/supported"))
    assert {"extension": ".html", "mimeType": "text/html"} in rows
    assert not any(row["mimeType"].startswith("image/") for row in rows)


async def test_the_binding_sends_its_files_in_json() -> None:
    files = [{"name": "a.txt", "mimeType": "text/plain", "data": base64.b64encode(b"hello").decode()}]
    for wanted in ({}, None, {"gateway": {"id": "x"}, "extraHeaders": {}}):
        (row,) = await transform(json.dumps({"files": files, "options": wanted}).encode(), Converter())
        assert (row["name"], row["data"]) == ("a.txt", "hello")


async def test_the_binding_sends_the_conversions_options_among_others() -> None:
    """Cloudflare's `ConversionRequestOptions`: they stand beside a gateway and more headers."""
    page = {"name": "a.html", "mimeType": "text/html", "data": base64.b64encode(b"<h1>A</h1>").decode()}
    wanted = {"conversionOptions": {"output": {"format": "text"}}, "gateway": {"id": "x"}}
    (row,) = await transform(json.dumps({"files": [page], "options": wanted}).encode(), Converter())
    assert (row["format"], row["data"]) == ("text", "A")


async def test_the_binding_without_files_gets_no_rows() -> None:
    assert await transform(b'{"files":[]}', Converter()) == []


BAD_BODIES = {
    "no files": (b"{}", "files"),
    "data that is no base64": (b'{"files":[{"name":"a","data":"?"}]}', r"files\[0\].data"),
    "a file that is none": (b'{"files":["a"]}', r"files\[0\]"),
    "an unknown option": (
        b'{"files":[],"options":{"conversionOptions":{"html":{"colour":1}}}}',
        r"'options\.conversionOptions\.html\.colour'",
    ),
    "options that are none": (b'{"files":[],"options":{"conversionOptions":[]}}', r"'options\.conversionOptions'"),
}


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_body_of_the_binding_is_told_by_its_field(body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        await transform(body, Converter())


# ------------------------------------------------------------------ with the extra


@pytest.fixture
def library() -> None:
    pytest.importorskip("markitdown", reason="the extra [markdown] is not installed")


def pptx(text: str) -> bytes:
    presentation = pytest.importorskip("pptx").Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = text
    packed = BytesIO()
    presentation.save(packed)
    return packed.getvalue()


@pytest.mark.usefixtures("library")
async def test_documents_of_offices_become_markdown() -> None:
    made = {"a.docx": docx("Heading"), "a.pdf": pdf("A line"), "a.xlsx": xlsx("Head"), "a.pptx": pptx("Title")}
    documents = [Document(name, "", BytesIO(data)) for name, data in made.items()]
    rows = {row["name"]: row for row in await Converter().convert(documents, Options())}
    assert rows["a.docx"]["data"] == "# Heading"
    assert rows["a.pdf"]["data"] == "A line"
    assert "| Head |\n| --- |\n| 7 |" in rows["a.xlsx"]["data"]
    assert "# Title" in rows["a.pptx"]["data"]


@pytest.mark.usefixtures("library")
async def test_pages_are_read_in_part_and_with_their_host() -> None:
    everything = await convert("a.html", PAGE)
    assert everything["data"] == "menu\n\n# A\n\n[c](/b)"
    part = await convert("a.html", PAGE, options(html={"hostname": "example.com", "cssSelector": "main"}))
    assert part["data"] == "# A\n\n[c](https://example.com/b)"


@pytest.mark.usefixtures("library")
def test_a_selector_that_is_none_or_picks_nothing_is_passed_over() -> None:
    from wrangler_compat.markdown import library as reading  # noqa: PLC0415 - the extra may be missing

    assert reading.of_html(PAGE, "", "main[") == reading.of_html(PAGE, "", "") == reading.of_html(PAGE, "", ".none")
    bad = b'<a href="http://[bad">c</a><a>d</a><img src="/i.png">'
    assert "https://example.com/i.png" in reading.of_html(bad, "https://example.com/", "")
    assert worker.outcome(Job("html", 5), PAGE)["text"].startswith("menu")
    assert worker.outcome(Job("docx", 5), docx("Hi")) == {"text": "# Hi"}


@pytest.mark.usefixtures("library")
async def test_nothing_that_a_document_names_is_fetched() -> None:
    """A picture outside the document: neither a file of this machine nor an address on the network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for address in (f"http://127.0.0.1:{server.getsockname()[1]}/secret.png", Path(__file__).as_uri()):
            row = await convert("a.docx", docx("Hi", address))
            assert "Hi" in row.get("data", "Hi") and "base64" not in str(row)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_without_the_extra_such_documents_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "has_extra", lambda: False)
    row = await convert("a.pdf", pdf("x"))
    assert row["format"] == "error" and "workers-ai-relay[markdown]" in row["error"]


# ------------------------------------------------------------------ limits


async def test_a_conversion_that_takes_too_long_is_ended() -> None:
    with anyio.fail_after(DEADLINE):
        row = await convert("a.csv", b"a,b\n" * 5_000_000, per_file=0.3)
    assert row["format"] == "error" and "too long" in row["error"]


def taking(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Converter:
    """A converter whose documents take so long, each at most 0.4 seconds and a call 1.2; for simulated time."""

    async def converted(job: object, data: bytes) -> str:
        await anyio.sleep(seconds)
        return "done"

    async def without_a_thread(read: Callable[[], bytes]) -> bytes:
        return read()

    monkeypatch.setattr(conversion, "_in_a_process", converted)
    monkeypatch.setattr("anyio.to_thread.run_sync", without_a_thread)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    return Converter(per_file=0.4, per_call=1.2)


async def texts_of(converter: Converter, calls: int) -> list[str]:
    rows: list[dict[str, Any]] = []

    async def one(owner: str) -> None:
        rows.extend(await converter.convert([Document("a.txt", "", BytesIO(b"a"))], Options(), owner))

    async with anyio.create_task_group() as group:
        for number in range(calls):
            group.start_soon(one, str(number))
    return [row.get("data") or row["error"] for row in rows]


@simulated
async def test_the_time_of_a_document_begins_with_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await texts_of(taking(0.2, monkeypatch), calls=6) == ["done"] * 6


@simulated
async def test_a_document_whose_turn_does_not_come_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    told = await texts_of(taking(9.0, monkeypatch), calls=8)
    assert "The conversion took too long." in told
    assert any("others took too long" in text for text in told)


async def test_no_owner_has_all_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[bytes] = []
    turn, done = anyio.Event(), anyio.Event()

    async def converted(job: object, data: bytes) -> str:
        running.append(data)
        if len(running) == 3:  # in whichever order their files were read
            turn.set()
        await done.wait()
        return "done"

    monkeypatch.setattr(conversion, "_in_a_process", converted)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)  # four processes
    converter = Converter()

    async def call(owner: str) -> None:
        await converter.convert([Document("a.txt", "", BytesIO(owner.encode()))], Options(), owner)

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as group:
            for owner in "aaaaaab":
                group.start_soon(call, owner)
            await turn.wait()
            assert sorted(running) == [b"a", b"a", b"b"]
            done.set()
    assert sorted(running) == [b"a"] * 6 + [b"b"]


async def test_a_call_that_takes_too_long_answers_for_the_rest_at_once() -> None:
    documents = [Document("a.txt", "", BytesIO(b"a")) for _ in range(3)]
    rows = await Converter(per_call=0.0).convert(documents, Options())
    assert ["too long" in row["error"] for row in rows] == [True] * 3


@pytest.mark.parametrize("size", [1, 10_000_000])
async def test_a_process_that_breaks_off_costs_its_row_alone(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    row = await convert("a.txt", b"a" * size)
    assert row["format"] == "error" and "broke off" in row["error"]


async def test_a_document_over_the_limit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MAX_FILE", 3)
    assert "more than" in (await convert("a.txt", b"abcd"))["error"]


async def test_a_call_has_no_more_text_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MAX_TEXT", 5)
    documents = [Document("a.txt", "", BytesIO(b"a" * size)) for size in (3, 2, 1)]
    rows = await Converter().convert(documents, Options())
    assert [row.get("data") for row in rows] == ["aaa", "aa", None] and "no room" in rows[2]["error"]
    documents = [Document("a.txt", "", BytesIO(b"a" * size)) for size in (3, 3, 1)]
    rows = await Converter().convert(documents, Options())
    assert [row["format"] for row in rows] == ["markdown", "error", "error"]


def run_worker(job: Job, data: bytes) -> dict[str, str]:
    """As the relay does, but with the environment of the tests, so that its lines are counted."""
    command = [sys.executable, "-m", "wrangler_compat.markdown.worker"]
    sent = msgspec.json.encode(job) + b"\n" + data
    environ = {**os.environ, **conversion._ENVIRONMENT}
    done = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=150, env=environ)
    told: dict[str, str] = json.loads(done.stdout)
    return told


def test_a_worker_confines_itself() -> None:
    assert run_worker(Job("text", 20), b"a") == {"text": "a"}
    assert "more than 16 million characters" in run_worker(Job("csv", 40), b"a," * 5_000_000)["error"]


def confined(seconds: int, then: str) -> subprocess.CompletedProcess[str]:
    program = f"from wrangler_compat.markdown.worker import confine; confine({seconds}); {then}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=150, text=True)


def test_a_worker_has_no_more_memory_than_it_may() -> None:
    done = confined(20, f"bytearray({MAX_MEMORY})")
    assert done.returncode == 1 and done.stderr.endswith("MemoryError\n")


def test_a_worker_computes_no_longer_than_it_may() -> None:
    done = confined(1, "any(iter(int, 1))")
    assert done.returncode == -signal.SIGXCPU


@pytest.mark.usefixtures("library")
def test_a_worker_loads_the_library_within_its_limits() -> None:
    assert run_worker(Job("pdf", 20), pdf("A line")) == {"text": "A line"}


# ------------------------------------------------------------------ images


async def see(data: bytes, media_type: str, language: str) -> str:
    if not data:
        raise RelayError(Fault.UPSTREAM_ERROR, "The model is not well.")
    return f"{media_type} {language} {len(data)}"


async def test_images_are_described_by_whoever_can() -> None:
    async def row(converter: Converter, data: bytes) -> dict[str, Any]:
        documents = [Document("a.png", "image/png", BytesIO(data))]
        (told,) = await converter.convert(documents, options(image={"descriptionLanguage": "fr"}))
        return told

    assert (await row(Converter(see), b"abc"))["data"] == "image/png fr 3"
    assert (await row(Converter(see), b""))["error"] == "The model is not well."
    assert "describe images" in (await row(Converter(), b"abc"))["error"]
