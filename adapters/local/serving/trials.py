"""Has grammars tried by processes of their own, started when they are first needed and again after they ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import Any

from adapters.errors import Fault, RelayError
from adapters.local.serving.schemas import TOO_COMPLEX

_SCRIPT = Path(__file__).with_name("trial.py")
_FAREWELL = 2.0
"""Seconds."""
PATIENCE = 60.0
"""Seconds. A grammar is given up by its use of the processor long before, wherever the system can do that."""
QUICK, THOROUGH = 0.5, 2.0
"""Seconds of processor time for one grammar."""
WAITING = 16
"""Grammars that wait for the one that is tried."""


class Trials:
    """For all threads. Most grammars take milliseconds; those that take long do so where no other waits for them."""

    def __init__(self, tokenizer_json: str, vocabulary: int, ends: list[int]) -> None:
        head = json.dumps([tokenizer_json, vocabulary, ends]).encode()
        self._lanes = (_Lane(head, QUICK), _Lane(head, THOROUGH))

    def fault(self, grammar: str) -> str:
        """What is wrong with the grammar, in the compiler's words; "" if it can be taken.

        Raises RelayError (rate limited) while too many others wait.
        """
        found = (lane.fault(grammar) for lane in self._lanes)
        return next((fault for fault in found if fault is not None), TOO_COMPLEX)

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()


class _Lane:
    """One process, and those who wait for it; it tries one grammar at a time."""

    def __init__(self, head: bytes, seconds: float) -> None:
        self._head = head
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._count = threading.Lock()
        self._present = 0

    def fault(self, grammar: str) -> str | None:
        """`None` where the time did not suffice. Raises RelayError."""
        with self._place(), self._lock:
            process = self._running()
            timer = threading.Timer(PATIENCE, _kill, [process])
            timer.start()
            try:
                answer = _ask(process, [self._seconds, grammar])
            finally:
                timer.cancel()
            if not answer:
                self._end(process)
                return None
            found: str | None = json.loads(answer)
            return found

    def close(self) -> None:
        with self._lock:
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.communicate(timeout=_FAREWELL)  # it reads the end of its input
                self._end(self._process)

    @contextmanager
    def _place(self) -> Iterator[None]:
        with self._count:
            if self._present > WAITING:
                wait = ceil(self._present * self._seconds)
                raise RelayError(
                    Fault.RATE_LIMITED,
                    f"As many schemas are being looked at as may. Try again in {wait} seconds.",
                    retry_after=wait,
                )
            self._present += 1
        try:
            yield
        finally:
            with self._count:
                self._present -= 1

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:  # ended from outside, while idle
            self._end(self._process)
        if self._process is None:
            # -P: the folder of the script is no place to import from; it has a module called `http`.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
            _write(self._process, b"%d\n%b" % (len(self._head), self._head))
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        _kill(process)
        process.communicate()
        self._process = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """And its fork, which holds the other end of the pipe."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _ask(process: subprocess.Popen[bytes], question: Any) -> bytes:
    """The answer's line; nothing if the process came to its end."""
    assert process.stdout is not None
    _write(process, json.dumps(question).encode() + b"\n")
    return process.stdout.readline()


def _write(process: subprocess.Popen[bytes], message: bytes) -> None:
    """Leaves it to the reader to notice that the process has ended."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(message)
        process.stdin.flush()
