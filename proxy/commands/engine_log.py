"""An engine's log as its operator reads it: the last lines, and those to come."""

from __future__ import annotations

import codecs
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

# What an engine writes must not move the cursor or set a title; colours go by `click.unstyle` before.
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"}

_STATE_END = re.compile(r"(?<=[\r\n])")

_TRIES, _PAUSE = 20, 0.05  # seconds between two of them


class LogReader:
    """Reads `file` and, beside it as `.1`, what was written before. Both are bounded, so they are read whole."""

    def __init__(self, file: Path) -> None:
        """Raises OSError if there is none."""
        self._file = file
        self._older = file.with_name(file.name + ".1")
        self._log = self._opened()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def close(self) -> None:
        self._log.close()

    def last(self, count: int) -> list[str]:
        """The last `count` lines that are complete, of what was painted over only what came last."""
        try:
            older = self._older.read_bytes()
        except OSError:
            older = b""
        states = self._states(older + self._log.read())
        lines = [_shown(state) for state in states if state.endswith("\n")]
        lines += [_shown(state) for state in states[-1:] if state.endswith("\r")]
        return lines[-count:] if count else []

    def follow(self, wait: Callable[[], None]) -> Iterator[str]:
        """Each line once it is complete, for ever. Between two looks it calls `wait`."""
        while True:
            # Whether there is a newer file has to be known first: only then is what is left of this one all of it.
            turned = self._turned()
            yield from map(_shown, self._states(self._log.read()))
            if turned:
                self._log.close()
                self._log = self._opened()
            else:
                wait()

    def _opened(self) -> BinaryIO:
        """The newest file. Raises OSError if there is none, also in a moment."""
        for _ in range(_TRIES):
            try:
                return self._file.open("rb")
            except FileNotFoundError:
                if not self._older.exists():
                    raise
                time.sleep(_PAUSE)  # just now between two: one that writes a lot turns its log all the time
        return self._file.open("rb")

    def _turned(self) -> bool:
        """Is another file called so by now?"""
        try:
            newest = self._file.stat()
        except FileNotFoundError:  # just now between two
            return False
        return not os.path.samestat(newest, os.fstat(self._log.fileno()))

    def _states(self, written: bytes) -> list[str]:
        """Lines with their ends; a progress bar paints over itself with bare carriage returns."""
        text = (self._rest + self._decoder.decode(written)).replace("\r\n", "\n")
        *states, self._rest = _STATE_END.split(text)
        return [state for state in states if state != "\r"]


def _shown(state: str) -> str:
    return click.unstyle(state[:-1]).translate(_CONTROLS)
