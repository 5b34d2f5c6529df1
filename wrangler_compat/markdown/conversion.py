"""Converts documents one by one; what goes wrong with one is told in its row and never ends a call."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import anyio
import msgspec

from adapters.errors import RelayError
from adapters.tokens import estimate_text
from wrangler_compat.markdown.kinds import IMAGES, Kind, has_extra, kind_of
from wrangler_compat.markdown.options import Options
from wrangler_compat.markdown.turns import Turns
from wrangler_compat.markdown.worker import Job

Row = dict[str, Any]
Describe = Callable[[bytes, str, str], Awaitable[str]]
"""An image, its media type and the language wanted (`en`), to what it shows. Raises RelayError."""

MAX_FILE = 50 * 2**20
MAX_TEXT = 32 * 2**20
"""Characters of all the documents of a call."""
PER_FILE = 30.0  # seconds, from its turn on
PER_CALL = 120.0

_TOO_LARGE = f"The document has more than {MAX_FILE // 2**20} MiB."
_NO_EXTRA = (
    "This kind of document needs the relay's extra 'markdown': "
    "make install EXTRAS=markdown, or pip install 'workers-ai-relay[markdown]'."
)
_UNKNOWN = "Documents of this kind cannot be converted."
_NO_EYES = "No model here can describe images."
_NO_ROOM = (
    f"The documents of a call may have {MAX_TEXT // 2**20} million characters of text; there is no room for this."
)
_TOO_LONG = "The conversion took too long."
_NO_TURN = "The document was not converted: others took too long, in this call or beside it. Try again later."
_BROKE_OFF = "The conversion broke off: the document needs more time or memory than it may use."
# The libraries start a thread for each processor, and each reserves memory.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Document(NamedTuple):
    """A file as it was sent; `content` is read when its turn comes."""

    name: str
    media_type: str
    content: IO[bytes]


class Converter:
    """Documents to rows, each in a process of its own, of which there are never many, and no owner has them all.

    `describe` tells what an image shows; without it images get an error row.
    """

    def __init__(
        self, describe: Describe | None = None, *, per_file: float = PER_FILE, per_call: float = PER_CALL
    ) -> None:
        self._describe = describe
        self._per_file = per_file
        self._per_call = per_call
        processes = max(2, (os.cpu_count() or 2) // 2)
        self._processes = Turns(processes, processes // 2)

    @property
    def sees_images(self) -> bool:
        return self._describe is not None

    async def convert(self, documents: Sequence[Document], options: Options, owner: str = "") -> list[Row]:
        """One row for each document, in their order. Owners take turns with the processes."""
        end = time.monotonic() + self._per_call
        rows, room = [], MAX_TEXT
        for document in documents:
            row = await self._row(document, options, end, owner) if room else _failed(document, _NO_ROOM)
            length = len(row.get("data", ""))
            if length > room:
                row, length = _failed(document, _NO_ROOM), room  # the rest is not even tried
            room -= length
            rows.append(row)
        return rows

    async def _row(self, document: Document, options: Options, end: float, owner: str) -> Row:
        try:
            with _by(end, _NO_TURN):
                text = await self._text(document, options, end, owner)
        except _Failed as exc:
            return _failed(document, exc.reason)
        form = options.output.format
        return _head(document) | {"format": form, "tokens": estimate_text(len(text)), "data": text}

    async def _text(self, document: Document, options: Options, end: float, owner: str) -> str:
        """Raises _Failed."""
        kind = kind_of(document.name, document.media_type)
        if kind is None:
            raise _Failed(_UNKNOWN)
        if kind.extra and not has_extra():
            raise _Failed(_NO_EXTRA)
        if document.content.seek(0, os.SEEK_END) > MAX_FILE:
            raise _Failed(_TOO_LARGE)
        document.content.seek(0)
        if kind in IMAGES.values():
            data = await anyio.to_thread.run_sync(document.content.read)
            with _by(self._last(end), _TOO_LONG):
                return await self._described(data, kind, options)
        async with self._processes.place(owner):
            data = await anyio.to_thread.run_sync(document.content.read)
            with _by(self._last(end), _TOO_LONG):
                return await _in_a_process(_job(kind, options, self._last(end) - time.monotonic()), data)

    def _last(self, end: float) -> float:
        """Until when a document may take whose turn it is now."""
        return min(time.monotonic() + self._per_file, end)

    async def _described(self, data: bytes, kind: Kind, options: Options) -> str:
        if self._describe is None:
            raise _Failed(_NO_EYES)
        try:
            return await self._describe(data, kind.media_type, options.image.descriptionLanguage)
        except RelayError as exc:
            raise _Failed(exc.message) from None


class _Failed(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def _by(end: float, reason: str) -> Iterator[None]:
    """Raises _Failed for what is not done by then, on the clock of `time.monotonic()`."""
    try:
        with anyio.fail_after(end - time.monotonic()):
            yield
    except TimeoutError:
        raise _Failed(reason) from None


def _job(kind: Kind, options: Options, seconds: float) -> Job:
    return Job(
        reader=kind.reader,
        seconds=int(seconds) + 1,
        as_text=options.output.format == "text",
        base=options.html.base,
        selector=options.html.cssSelector,
    )


async def _in_a_process(job: Job, data: bytes) -> str:
    """What the worker makes of a document. Raises _Failed. Nobody's settings or tokens go along."""
    command = [sys.executable, "-I", "-B", "-m", "wrangler_compat.markdown.worker"]
    sent = msgspec.json.encode(job) + b"\n" + data
    try:
        done = await anyio.run_process(command, input=sent, check=False, env=_ENVIRONMENT)
        told = msgspec.json.decode(done.stdout, type=dict[str, str])
    except* (anyio.BrokenResourceError, msgspec.DecodeError):  # it was ended by one of its limits
        raise _Failed(_BROKE_OFF) from None
    if "error" in told:
        raise _Failed(told["error"])
    return told["text"]


def _failed(document: Document, reason: str) -> Row:
    return _head(document) | {"format": "error", "error": reason}


def _head(document: Document) -> Row:
    return {"id": str(uuid.uuid4()), "name": document.name, "mimeType": document.media_type}
