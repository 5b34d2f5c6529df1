"""Multipart forms as clients send them, and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import InvalidRequest
from adapters.wire.native.blob import Blob
from adapters.wire.native.multipart import MOST_PARTS, Part, fields_of, parse_multipart

TYPE = 'multipart/form-data; boundary="xyz"'


def form(*parts: bytes, end: bytes = b"--xyz--\r\n") -> bytes:
    """A body of parts, each given as its headers, an empty line and its data."""
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, data: bytes = b"1") -> bytes:
    return b'Content-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + data


FILE = (
    b'content-disposition: form-data; name="image"; filename="a \xc3\xa9.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--xy\r\n"
)

FORMS: dict[str, tuple[bytes, list[Part]]] = {
    "text": (form(part("prompt", b"a cat")), [Part(name="prompt", data=b"a cat")]),
    "a file": (
        form(FILE),
        [Part(name="image", data=b"\x89PNG\r\n--xy\r\n", filename="a é.png", content_type="image/png")],
    ),
    "nothing in a field": (form(part("prompt", b"")), [Part(name="prompt", data=b"")]),
    "a name twice": (form(part("a", b"1"), part("a", b"2")), [Part(name="a", data=b"1"), Part(name="a", data=b"2")]),
    "text after the form": (form(part("a")) + b"\r\nbye", [Part(name="a", data=b"1")]),
    "no line end after the form": (form(part("a"), end=b"--xyz--"), [Part(name="a", data=b"1")]),
    "a name that is no UTF-8": (
        form(b'Content-Disposition: form-data; name="\xff"\r\n\r\n1'),
        [Part(name="\ufffd", data=b"1")],
    ),
}


@pytest.mark.parametrize(("body", "parts"), FORMS.values(), ids=FORMS)
def test_a_form_is_read(body: bytes, parts: list[Part]) -> None:
    assert parse_multipart(body, TYPE) == parts


BROKEN: dict[str, tuple[bytes, str, str]] = {
    "no boundary": (form(part("a")), "multipart/form-data", "names no boundary"),
    "an empty boundary": (form(part("a")), "multipart/form-data; boundary=", "names no boundary"),
    "another boundary": (form(part("a")), "multipart/form-data; boundary=abc", "malformed"),
    "text before the form": (b"SECRET\r\n" + form(part("a")), TYPE, "malformed"),
    "nothing": (b"", TYPE, "closing boundary is missing"),
    "cut off": (form(part("a"), end=b""), TYPE, "closing boundary is missing"),
    "a bad header": (form(b"SECRET : : \x00\r\n\r\n1"), TYPE, "malformed"),
    "no name": (form(b"Content-Disposition: form-data\r\n\r\n1"), TYPE, "has no name"),
    "no headers": (form(b"\r\n1"), TYPE, "has no name"),
    "an empty name": (form(part("")), TYPE, "has no name"),
    "too many parts": (form(*[part("a")] * (MOST_PARTS + 1)), TYPE, "more than"),
}


@pytest.mark.parametrize(("body", "content_type", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_form_is_refused(body: bytes, content_type: str, words: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        parse_multipart(body, content_type)
    assert caught.value.code == "invalid_multipart"
    assert "SECRET" not in caught.value.message
    assert caplog.records == []


def test_as_many_parts_as_are_allowed() -> None:
    assert len(parse_multipart(form(*[part("a")] * MOST_PARTS), TYPE)) == MOST_PARTS


def test_fields_are_text_and_files_and_lists_of_what_comes_again() -> None:
    parts = parse_multipart(
        form(part("a", "é".encode()), FILE, *[part("b", text) for text in (b"1", b"2", b"3")]), TYPE
    )
    fields = fields_of(parts)
    assert fields == {"a": "é", "image": b"\x89PNG\r\n--xy\r\n", "b": ["1", "2", "3"]}
    assert isinstance(fields["image"], Blob)


def test_text_that_is_not_utf_8_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        fields_of([Part(name="prompt", data=b"\xff")])
    assert caught.value.param == "prompt"


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: form(part("a", data), data)), st.text())
def test_bytes_of_any_kind_are_a_form_or_a_refusal(body: bytes, content_type: str) -> None:
    for kind in (TYPE, content_type, f"multipart/form-data; boundary={content_type}"):
        try:
            fields_of(parse_multipart(body, kind))
        except InvalidRequest:
            pass
