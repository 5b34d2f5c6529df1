"""An engine's log: what it writes, kept apart, bounded, and readable by the owner alone."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

log = logging.getLogger("relay.engines")

LIMIT = 5 * 2**20
"""Bytes of one of the two files."""

_LONGEST_LINE = 200  # characters of a line that is shown
_RECENT = 4096  # bytes kept in memory, for the last line
_LINE_END = re.compile(rb"[\r\n]+")  # a progress bar paints over itself with bare carriage returns
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")  # ECMA-48 5.3, 5.4, 8.3.89


class LogFile:
    """`path`, and beside it as `.1` what was written before: together at most twice `limit` bytes."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._recent = b""
        self._file: int | None = None
        self._size = 0
        self._failed = False

    def write(self, data: bytes) -> None:
        """Never raises: an engine must not stall because of a full disk."""
        self._recent = (self._recent + data)[-_RECENT:]
        try:
            for start in range(0, len(data), self._limit):
                self._append(data[start : start + self._limit])
        except OSError as exc:
            if not self._failed:
                log.warning("%s: the engine's log cannot be written (%s)", self._path, exc.strerror)
            self._failed = True

    @property
    def last_line(self) -> str:
        """The latest line that says something, finished or not, as one can show it; empty while there is none."""
        lines = (clean_line(line) for line in reversed(_LINE_END.split(self._recent)))
        return next(filter(None, lines), "")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._open()
        if self._size and self._size + len(data) > self._limit:
            self.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._open()
        while data:
            written = os.write(self._file, data)
            self._size += written
            data = data[written:]

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(file).st_size
        return file


def clean_line(line: bytes) -> str:
    """One line of a terminal's output as plain text of bounded length."""
    text = _ESCAPE.sub("", line.decode(errors="replace"))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…"
