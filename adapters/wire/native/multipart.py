"""Multipart forms (RFC 7578) as bytes: whole bodies, kept in memory, as every other body here."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from adapters.errors import InvalidRequest
from adapters.wire.native.blob import Blob

MOST_PARTS = 1000
_SILENT = logging.Logger("multipart", level=logging.CRITICAL + 1)
"""The parser warns of what is wrong and quotes the body in it; our refusal says enough."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a form. `filename` is `None` for text; both header values are as the client wrote them."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str | None = None

    def text(self) -> str:
        """Raises InvalidRequest if the data is not UTF-8."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"Invalid '{self.name}': the text is not UTF-8.", param=self.name) from None


def parse_multipart(body: bytes, content_type: str) -> list[Part]:
    """The parts in their order. Raises InvalidRequest for a body that is no whole form."""
    boundary = parse_options_header(content_type.encode("latin-1", "replace"))[1].get(b"boundary")
    if not boundary:
        raise _broken("its content type names no boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]  # a dict of some of its keys
        parser.logger = _SILENT
        parser.write(body)
    except FormParserError:  # its text quotes the body
        raise _broken("it is malformed") from None
    if not reader.ended:
        raise _broken("its closing boundary is missing")
    return reader.parts


def fields_of(parts: list[Part]) -> dict[str, Any]:
    """Text and files by name; a name that comes more than once has a list. Raises InvalidRequest."""
    fields: dict[str, Any] = {}
    for part in parts:
        value = part.text() if part.filename is None else Blob.named(part.data, part.filename)
        if part.name not in fields:
            fields[part.name] = value
        elif isinstance(fields[part.name], list):
            fields[part.name].append(value)
        else:
            fields[part.name] = [fields[part.name], value]
    return fields


def filename_of(disposition: str) -> str | None:
    """The file name in a Content-Disposition header (RFC 6266); `None` for one that names none."""
    options = parse_options_header(disposition.encode("latin-1", "replace"))[1]
    name = options.get(b"filename")
    return _shown(name) if name else None


def _broken(reason: str) -> InvalidRequest:
    message = f"We could not parse the multipart body of your request ({reason})."
    return InvalidRequest(message, code="invalid_multipart")


class _Reader:
    """What the parser reports, put together to parts."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._data = bytearray()

    def callbacks(self) -> dict[str, Any]:
        names = ("part_begin", "header_field", "header_value", "header_end", "part_data", "part_end", "end")
        return {f"on_{name}": getattr(self, name) for name in names}

    def part_begin(self) -> None:
        self._headers = {}
        self._data = bytearray()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def part_end(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        name = options.get(b"name")
        if not name:
            raise _broken("a part of it has no name")
        if len(self.parts) == MOST_PARTS:
            raise _broken(f"it has more than {MOST_PARTS} parts")
        filename, kind = options.get(b"filename"), self._headers.get(b"content-type")
        self.parts.append(
            Part(
                name=_shown(name),
                data=bytes(self._data),
                filename=None if filename is None else _shown(filename),
                content_type=None if kind is None else _shown(kind),
            )
        )

    def end(self) -> None:
        self.ended = True


def _shown(header: bytes) -> str:
    return header.decode(errors="replace")
