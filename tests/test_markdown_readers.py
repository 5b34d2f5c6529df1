"""Documents of common kinds to Markdown, without a library and without a process."""

from __future__ import annotations

import sys
import zipfile
from io import BytesIO
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.documents import zipped
from wrangler_compat.markdown import kinds, plain, simple_html, worker
from wrangler_compat.markdown.kinds import KINDS, kind_of
from wrangler_compat.markdown.worker import Job, forbid, outcome

TEXTS: dict[str, tuple[str, bytes, str]] = {
    "text": ("text", b" a\nb \n", "a\nb"),
    "text with a mark in front": ("text", b"\xef\xbb\xbfa", "a"),
    "text of two bytes": ("text", "ä".encode("utf-16"), "ä"),
    "text of the other two bytes": ("text", b"\xfe\xff\x00\xe4", "ä"),
    "text of Windows": ("text", b"\x93a\x94 \xe4", "“a” ä"),
    "a table": ("csv", b"a,b\r\n1,2\r\n", "| a | b |\n| --- | --- |\n| 1 | 2 |"),
    "a table of semicolons": ("csv", b"a;b\n1,5;2", "| a | b |\n| --- | --- |\n| 1,5 | 2 |"),
    "a ragged table": ("csv", b"a\n1,2\n\n", "| a |  |\n| --- | --- |\n| 1 | 2 |"),
    "a table with a short line": ("csv", b"a,b\n1\n", "| a | b |\n| --- | --- |\n| 1 |  |"),
    "cells with bars and lines": ("csv", b'a,"x|y\nz"\n', "| a | x\\|y z |\n| --- | --- |"),
    "an empty table": ("csv", b"\n", ""),
    "JSON": ("json", b'{"a":["\xc3\xa4"]}', '```json\n{\n  "a": [\n    "ä"\n  ]\n}\n```'),
    "XML": ("xml", b"<a/>\n", "```xml\n<a/>\n```"),
    "XML with a fence in it": ("xml", b"<a>```` ```</a>", "`````xml\n<a>```` ```</a>\n`````"),
}


@pytest.mark.parametrize(("reader", "data", "markdown"), TEXTS.values(), ids=TEXTS)
def test_a_document_becomes_markdown(reader: str, data: bytes, markdown: str) -> None:
    assert outcome(Job(reader, 5), data) == {"text": markdown}


PAGES: dict[str, tuple[str, str]] = {
    "headings": ("<h1>A</h1><h3>B <b>c</b></h3>", "# A\n\n### B **c**"),
    "paragraphs": ("<p>a\n  b<p>c<br>d</p>e", "a b\n\nc\nd\n\ne"),
    "a list": ("<ul><li>a</li><li>b</li></ul><p>c", "- a\n- b\n\nc"),
    "lists within lists": ("<ol><li>a<ul><li>b</ul><li>c</ol>", "1. a\n  - b\n2. c"),
    "an item of no list": ("<li>a", "- a"),
    "links and images": ('<a href="/x">l</a> <img src="i.png" alt="p"> <img>', "[l](/x) ![p](i.png) ![]()"),
    "a link that only ends": ("a</a>b", "ab"),
    "code": ("<p>a <code>x</code><pre>  y\n <b>z</b></pre>b", "a `x`\n\n```\n  y\n z\n```\n\nb"),
    "blocks within code": ("<pre>a  b<p>c</pre>", "a  b\n\n```\nc\n```"),
    "a quotation and a line": ("<blockquote>a</blockquote><hr>b", "> a\n\n---\n\nb"),
    "what is not shown": ("<head><title>t</title></head><script>x</script><style>y</style>a</style>", "a"),
    "a table": ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a b\n\n1 2"),
    "entities": ("<p>a &lt; b &auml;</p>", "a < b ä"),
    "nothing": ("<p> </p>", ""),
}


@pytest.mark.parametrize(("html", "markdown"), PAGES.values(), ids=PAGES)
def test_a_page_becomes_markdown(html: str, markdown: str) -> None:
    assert simple_html.of_html(html) == markdown


def test_addresses_are_relative_to_the_host() -> None:
    html = '<a href="/x">l</a><img src="http://[bad"><a href="https://other/">m</a>'
    assert simple_html.of_html(html, "https://example.com/") == (
        "[l](https://example.com/x)![](http://[bad)[m](https://other/)"
    )


@given(st.text(alphabet="<>/abhpreliodu =\"'\n&!-", max_size=200))
def test_any_text_can_be_read_as_a_page(html: str) -> None:
    assert isinstance(simple_html.of_html(html, "https://example.com/"), str)


def test_without_the_extra_pages_are_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "has_extra", lambda: False)
    job = Job("html", 5, base="https://example.com/")
    assert outcome(job, b'<h2>A</h2><a href="x">y</a>') == {"text": "## A\n\n[y](https://example.com/x)"}


MARKED: dict[str, tuple[str, str]] = {
    "headings": ("# A\n\n## B", "A\n\nB"),
    "emphasis": ("a **b** *c* __d__ 2*3*4", "a b c d 2*3*4"),
    "links and images": ("[a](http://x) ![b](y)", "a b"),
    "code": ("`a`\n\n```json\n{}\n```", "a\n\n{}"),
    "tables": ("| a | b |\n| --- | --- |\n| 1 | 2 |", "a | b\n\n1 | 2"),
    "quotations": ("> a", "a"),
}


@pytest.mark.parametrize(("markdown", "text"), MARKED.values(), ids=MARKED)
def test_text_is_markdown_without_its_marks(markdown: str, text: str) -> None:
    assert plain.without_marks(markdown) == text
    assert outcome(Job("text", 5, as_text=True), markdown.encode()) == {"text": text}


FAILURES: dict[str, tuple[str, bytes, str]] = {
    "what is no JSON": ("json", b"{", "JSONDecodeError"),
    "JSON nested beyond reason": ("json", b"[" * 100_000, "RecursionError"),
    "what is no archive": ("docx", b"PK", "BadZipFile"),
    "a cell beyond reason": ("csv", b'"' + b"a" * (2**20 + 1) + b'"', "Error"),
}


@pytest.mark.parametrize(("reader", "data", "word"), FAILURES.values(), ids=FAILURES)
def test_what_cannot_be_read_is_told_without_quoting_it(reader: str, data: bytes, word: str) -> None:
    told = outcome(Job(reader, 5), data)
    assert told == {"error": f"The document could not be read ({word})."}


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped({"a": b"\0" * 1000})
    monkeypatch.setattr(worker, "MAX_UNPACKED", 999)
    assert "unpacks to more than" in outcome(Job("xlsx", 5), bomb)["error"]


def test_an_archive_never_unpacks_to_more_than_its_directory_says() -> None:
    """What the bound on what a document unpacks to relies on."""
    packed = zipped({"a": b"\0" * 1000})
    lying = packed.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != packed
    with zipfile.ZipFile(BytesIO(lying)) as archive:
        assert archive.infolist()[0].file_size == 10
        with pytest.raises(zipfile.BadZipFile):
            archive.read("a")


def test_a_text_beyond_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_TEXT", 3)
    assert "characters" in outcome(Job("text", 5), b"abcd")["error"]


def test_a_document_that_needs_too_much_memory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(job: Job, data: bytes) -> str:
        raise MemoryError

    monkeypatch.setattr(worker, "convert", hungry)
    assert "memory" in outcome(Job("text", 5), b"")["error"]


@pytest.mark.parametrize("event", ["socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"])
def test_a_document_can_cause_nothing_outside(event: str) -> None:
    with pytest.raises(PermissionError):
        forbid(event, ())
    forbid("open", ())


def test_a_worker_reads_a_job_and_writes_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr(worker, "confine", done.append)
    monkeypatch.setattr(sys, "addaudithook", done.append)  # there is no way to take one off again
    sink = BytesIO()
    worker.work(BytesIO(msgspec.json.encode(Job("text", 7)) + b"\na\nb"), sink)
    assert (msgspec.json.decode(sink.getvalue()), done) == ({"text": "a\nb"}, [7, forbid])


def test_a_system_without_limits_is_none_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    worker.confine(1)


KINDS_OF: dict[str, tuple[str, str, str | None]] = {
    "by extension": ("a.PDF", "", "pdf"),
    "the extension wins": ("a.html", "application/pdf", "html"),
    "by media type": ("a", "text/CSV; charset=utf-8", "csv"),
    "by media type, the extension unknown": ("a.bin", "application/json", "json"),
    "by another name of a media type": ("a", "text/xml", "xml"),
    "an image": ("a.jpg", "", "image"),
    "no kind that is known": ("a.bin", "application/x", None),
    "nothing": ("", "", None),
}


@pytest.mark.parametrize(("name", "media_type", "reader"), KINDS_OF.values(), ids=KINDS_OF)
def test_the_kind_of_a_document(name: str, media_type: str, reader: str | None) -> None:
    kind = kind_of(name, media_type)
    assert (kind.reader if kind else None) == reader


def test_what_is_supported_is_what_can_be_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "has_extra", lambda: False)
    assert {row["extension"] for row in kinds.supported(images=False)} == {
        extension for extension, kind in KINDS.items() if not kind.extra
    }
    monkeypatch.setattr(kinds, "has_extra", lambda: True)
    rows = kinds.supported(images=True)
    assert {"extension": ".pdf", "mimeType": "application/pdf"} in rows
    assert {"extension": ".png", "mimeType": "image/png"} in rows
