"""LoRA adapters: made, filled, listed, and kept where only their owner reads them."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.errors import InvalidRequest
from tests.support.lists import AI, client_of, error_of, lists_app, result_of
from wrangler_compat import finetunes as finetunes_module
from wrangler_compat.finetunes import CONFIG, MAX_ADAPTERS, WEIGHTS, Finetunes

pytestmark = pytest.mark.anyio

BASE = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
CONFIG_BYTES = json.dumps({"r": 8, "model_type": "mistral", "peft_type": "LORA"}).encode()


def weights(header: Any = None, data: bytes = b"\0" * 8) -> bytes:
    """A file of the safetensors format with one tensor, or with another header."""
    if header is None:
        header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(lists_app(tmp_path)) as client:
        yield client


async def make(client: httpx.AsyncClient, name: str = "mine", **fields: Any) -> dict[str, Any]:
    """As wrangler does: JSON that calls itself text."""
    body = json.dumps({"model": BASE, "name": name, "description": "", **fields})
    answer = await client.post(f"{AI}/finetunes", content=body, headers={"content-type": "text/plain;charset=UTF-8"})
    made: dict[str, Any] = result_of(answer)
    return made


async def upload(client: httpx.AsyncClient, of: str, file_name: str, data: bytes, slash: str = "") -> httpx.Response:
    return await client.post(
        f"{AI}/finetunes/{of}/finetune-assets{slash}", data={"file_name": file_name}, files={"file": (file_name, data)}
    )


async def test_an_adapter_is_made_filled_and_found(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = await make(client, description="for tests")
    assert (made["model"], made["name"], made["description"], made["public"]) == (BASE, "mine", "for tests", False)
    finetunes = Finetunes(tmp_path)
    found = finetunes.find("mine")
    assert found is not None and found.id == made["id"] and finetunes.lacking(found) == (CONFIG, WEIGHTS)
    assert result_of(await upload(client, made["id"], CONFIG, CONFIG_BYTES))["file_name"] == CONFIG
    assert finetunes.lacking(found) == (WEIGHTS,)
    result_of(await upload(client, "mine", WEIGHTS, weights(), slash="/"))
    assert finetunes.lacking(found) == ()
    assert finetunes.find(made["id"]) == finetunes.find("mine") and finetunes.find("other") is None
    (row,) = result_of(await client.get(f"{AI}/finetunes?"))
    assert row["id"] == made["id"] and row["modified_at"] >= row["created_at"] == made["created_at"]


async def test_what_is_stored_is_its_owners_alone(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = await make(client)
    await upload(client, "mine", CONFIG, CONFIG_BYTES)
    folder = tmp_path / "finetunes" / made["id"]
    assert (folder / CONFIG).read_bytes() == CONFIG_BYTES
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, "finetune.json"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


async def test_a_second_upload_takes_the_place_of_the_first(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = await make(client)
    for rank in (4, 2):
        result_of(await upload(client, "mine", CONFIG, json.dumps({"r": rank, "model_type": "llama"}).encode()))
    assert json.loads((tmp_path / "finetunes" / made["id"] / CONFIG).read_bytes())["r"] == 2


NOT_MADE: dict[str, tuple[bytes, int, int, str]] = {
    "no JSON": (b"model=x", 400, 5006, "parse"),
    "no model": (b'{"name":"a"}', 400, 5006, "'model'"),
    "no name": (b'{"model":"x"}', 400, 5006, "'name'"),
    "a name with a slash": (b'{"model":"x","name":"a/b"}', 400, 5006, "'name'"),
    "an empty name": (b'{"model":"x","name":""}', 400, 5006, "'name'"),
    "a public that is no flag": (b'{"model":"x","name":"a","public":"yes"}', 400, 5006, "'public'"),
    "an unknown model": (b'{"model":"no-such-model","name":"a"}', 400, 5007, "no-such-model"),
    "a model of another task": (b'{"model":"@cf/baai/bge-m3","name":"a"}', 405, 5005, "@cf/baai/bge-m3"),
}


@pytest.mark.parametrize(("body", "status", "code", "word"), NOT_MADE.values(), ids=NOT_MADE)
async def test_no_adapter_is_made_of(client: httpx.AsyncClient, body: bytes, status: int, code: int, word: str) -> None:
    told = error_of(await client.post(f"{AI}/finetunes", content=body))
    assert told[:2] == (status, code) and word in told[2]
    assert result_of(await client.get(f"{AI}/finetunes")) == []


async def test_a_name_is_given_once(client: httpx.AsyncClient) -> None:
    made = await make(client)
    for name in ("mine", made["id"]):
        body = {"model": BASE, "name": name}
        status, _, message = error_of(await client.post(f"{AI}/finetunes", json=body))
        assert status == 400 and "'name'" in message


async def test_there_are_only_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetunes_module, "MAX_ADAPTERS", 2)
    finetunes = Finetunes(tmp_path)
    for name in ("a", "b"):
        finetunes.create(model=BASE, name=name)
    with pytest.raises(InvalidRequest, match="2 are allowed"):
        finetunes.create(model=BASE, name="c")
    assert MAX_ADAPTERS == 100


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "a name of its own": ("../../token", b"x", "'file_name'"),
    "a config that is no JSON": (CONFIG, b"r=8", "no JSON"),
    "a config that is a list": (CONFIG, b"[]", "no JSON object"),
    "a config beyond reason": (CONFIG, b" " * (2**20 + 1), "1 MiB"),
    "no rank": (CONFIG, b'{"model_type":"llama"}', "rank"),
    "a rank that is a flag": (CONFIG, b'{"r":true,"model_type":"llama"}', "rank"),
    "too high a rank": (CONFIG, b'{"r":9,"model_type":"llama"}', "from 1 to 8"),
    "no kind of model": (CONFIG, b'{"r":8}', "'model_type'"),
    "another kind of model": (CONFIG, b'{"r":8,"model_type":"gpt2"}', "mistral, gemma, llama"),
    "no weights": (WEIGHTS, b"", "length of a header"),
    "a pickle": (WEIGHTS, b"\x80\x04\x95" + b"\0" * 20, "length of a header"),
    "a header longer than the file": (WEIGHTS, (10**6).to_bytes(8, "little") + b"{}", "length of a header"),
    "a header that is too long": (WEIGHTS, weights(b"{" + b" " * 5 * 2**20 + b"}"), "length of a header"),
    "a header that is no JSON": (WEIGHTS, weights(b"{a}"), "no JSON"),
    "no tensors": (WEIGHTS, weights({"__metadata__": {}}), "tensors"),
    "a tensor that is none": (WEIGHTS, weights({"a": 1}), "tensors"),
    "a tensor without a type": (WEIGHTS, weights({"a": {"shape": [], "data_offsets": [0, 0]}}), "tensors"),
    "a shape that is none": (WEIGHTS, weights({"a": {"dtype": "F", "shape": [-1], "data_offsets": [0, 0]}}), "tensors"),
    "one offset": (WEIGHTS, weights({"a": {"dtype": "F", "shape": [], "data_offsets": [0]}}), "tensors"),
    "offsets beyond the end": (WEIGHTS, weights({"a": {"dtype": "F", "shape": [], "data_offsets": [0, 9]}}), "tensors"),
    "offsets that run backwards": (
        WEIGHTS,
        weights({"a": {"dtype": "F", "shape": [], "data_offsets": [4, 0]}}),
        "tensors",
    ),
}


@pytest.mark.parametrize(("file_name", "data", "word"), BAD_FILES.values(), ids=BAD_FILES)
async def test_what_is_no_file_of_an_adapter_is_refused(
    client: httpx.AsyncClient, tmp_path: Path, file_name: str, data: bytes, word: str
) -> None:
    made = await make(client)
    status, code, message = error_of(await upload(client, "mine", file_name, data))
    assert (status, code) == (400, 5006) and word in message
    assert [path.name for path in (tmp_path / "finetunes" / made["id"]).iterdir()] == ["finetune.json"]


async def test_a_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetunes_module, "MAX_FILE", 10)
    finetunes = Finetunes(tmp_path)
    finetunes.create(model=BASE, name="a")
    with pytest.raises(InvalidRequest, match="more than"):
        finetunes.keep_asset("a", CONFIG, BytesIO(CONFIG_BYTES))


async def test_an_upload_larger_than_any_file_is_stopped(client: httpx.AsyncClient) -> None:
    """By its announced length, before a byte of it is taken."""
    headers = {"content-type": "multipart/form-data; boundary=b", "content-length": str(102 * 2**20)}
    answer = await client.post(f"{AI}/finetunes/a/finetune-assets", content=b"--b--", headers=headers)
    assert error_of(answer)[:2] == (413, 3006)


BAD_FORMS: dict[str, tuple[dict[str, str], bytes, str]] = {
    "JSON": ({"content-type": "application/json"}, b"{}", "multipart/form-data"),
    "no type": ({}, b"{}", "multipart/form-data"),
    "no boundary": ({"content-type": "multipart/form-data"}, b"{}", "boundary"),
    "not the boundary": ({"content-type": "multipart/form-data; boundary=b"}, b"--c--\r\n", "form"),
    "no name": (
        {"content-type": "multipart/form-data; boundary=b"},
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n',
        "'file_name'",
    ),
    "no file": (
        {"content-type": "multipart/form-data; boundary=b"},
        b'--b\r\ncontent-disposition: form-data; name="file_name"\r\n\r\nx\r\n--b--\r\n',
        "'file'",
    ),
}


@pytest.mark.parametrize(("headers", "body", "word"), BAD_FORMS.values(), ids=BAD_FORMS)
async def test_a_bad_form_is_told_what_is_wrong(
    client: httpx.AsyncClient, headers: dict[str, str], body: bytes, word: str
) -> None:
    await make(client)
    status, code, message = error_of(
        await client.post(f"{AI}/finetunes/mine/finetune-assets", content=body, headers=headers)
    )
    assert (status, code) == (400, 5006) and word in message


async def test_a_file_may_come_as_a_plain_field(client: httpx.AsyncClient) -> None:
    """As the SDKs' types have it, a text."""
    made = await make(client)
    form = {"file_name": (None, CONFIG), "file": (None, CONFIG_BYTES.decode())}
    answer = await client.post(f"{AI}/finetunes/{made['id']}/finetune-assets", files=form)
    assert result_of(answer)["file_name"] == CONFIG


async def test_files_of_no_adapter_are_refused(client: httpx.AsyncClient) -> None:
    status, code, message = error_of(await upload(client, "nobody", CONFIG, CONFIG_BYTES))
    assert (status, code) == (400, 5007) and "no finetune" in message


PUBLIC: dict[str, tuple[dict[str, str], list[str]]] = {
    "all": ({}, ["b", "a"]),
    "a limit": ({"limit": "1"}, ["b"]),
    "an offset": ({"limit": "1", "offset": "1"}, ["a"]),
    "past the end": ({"offset": "2"}, []),
    "pages": ({"page": "2"}, []),
    "in order": ({"orderBy": "name"}, ["a", "b"]),
    "in no order that there is": ({"orderBy": "__class__"}, ["b", "a"]),
}


@pytest.mark.parametrize(("query", "names"), PUBLIC.values(), ids=PUBLIC)
async def test_the_public_ones_are_listed(client: httpx.AsyncClient, query: dict[str, str], names: list[str]) -> None:
    for name in ("b", "a"):
        await make(client, name, public=True)
    await make(client, "hidden")
    rows = result_of(await client.get(f"{AI}/finetunes/public", params=query))
    assert [row["name"] for row in rows] == names


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    finetunes = Finetunes(tmp_path)
    kept = finetunes.create(model=BASE, name="kept")
    folder = tmp_path / "finetunes"
    for name, text in {
        "empty": None,
        "broken": b"{",
        "foreign": (folder / kept.id / "finetune.json").read_bytes(),
    }.items():
        (folder / name).mkdir()
        if text is not None:
            (folder / name / "finetune.json").write_bytes(text)
    (folder / "a-file").write_text("")
    assert finetunes.all() == [kept]


async def test_a_removed_adapter_is_gone_with_its_files(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = await make(client)
    await make(client, "other")
    await upload(client, "mine", CONFIG, CONFIG_BYTES)
    assert result_of(await client.delete(f"{AI}/finetunes/mine")) == {"id": made["id"]}
    assert not (tmp_path / "finetunes" / made["id"]).exists()
    assert [row["name"] for row in result_of(await client.get(f"{AI}/finetunes"))] == ["other"]
    assert error_of(await client.delete(f"{AI}/finetunes/{made['id']}"))[:2] == (400, 5007)


def test_the_limit_holds_for_those_who_come_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes between the first one's check and its writing, and has to wait for it."""
    monkeypatch.setattr(finetunes_module, "MAX_ADAPTERS", 1)
    now = finetunes_module._now
    with ThreadPoolExecutor(1) as pool:
        others: list[Future[Any]] = []

        def meanwhile() -> str:
            if not others:
                others.append(pool.submit(Finetunes(tmp_path).create, model=BASE, name="second"))
                wait(others, timeout=0.2)
            return now()

        monkeypatch.setattr(finetunes_module, "_now", meanwhile)
        Finetunes(tmp_path).create(model=BASE, name="first")
        with pytest.raises(InvalidRequest, match="1 are allowed"):
            others[0].result()
    assert [finetune.name for finetune in Finetunes(tmp_path).all()] == ["first"]
