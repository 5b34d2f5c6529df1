"""An engine's log as its operator reads it: the last lines, and those to come."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

# What an engine writes must not move the cursor or set a title; colours go by `click.unstyle` before.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"}


class LogReader:
    """Reads `file` and, beside it as `.1`, what was written before. Both are bounded, so they are read whole."""

    def __init__(self, file: Path) -> None:
        """Raises OSError if there is none."""
        self._file = file
        self._log: BinaryIO = file.open("rb")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def close(self) -> None:
        self._log.close()

    def last(self, count: int) -> list[str]:
        """The last `count` lines that are complete."""
        try:
            older = self._file.with_name(self._file.name + ".1").read_bytes()
        except OSError:
            older = b""
        lines = self._lines(older + self._log.read())
        return lines[-count:] if count else []

    def follow(self, wait: Callable[[], None]) -> Iterator[str]:
        """Each line once it is complete, for ever. Between two looks it calls `wait`."""
        while True:
            # Whether there is a newer file has to be known first: only then is what is left of this one all of it.
            turned = self._turned()
            yield from self._lines(self._log.read())
            if turned:
                self._log.close()
                self._log = self._file.open("rb")
            else:
                wait()

    def _turned(self) -> bool:
        """Is another file called so by now?"""
        try:
            newest = self._file.stat()
        except FileNotFoundError:  # just now between two
            return False
        return not os.path.samestat(newest, os.fstat(self._log.fileno()))

    def _lines(self, written: bytes) -> list[str]:
        # A progress bar paints over itself with bare carriage returns: each state is a line.
        text = (self._rest + self._decoder.decode(written)).replace("\r\n", "\n").replace("\r", "\n")
        *lines, self._rest = text.split("\n")
        return [click.unstyle(line).translate(_CONTROLS) for line in lines]
