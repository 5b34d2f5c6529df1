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
from adapters.local.serving.fair_turns import Crowded, FairTurns
from adapters.local.serving.recent import Recent
from adapters.local.serving.schemas import TOO_COMPLEX, reason

_SCRIPT = Path(__file__).with_name("trial.py")
_FAREWELL = 2.0
"""Seconds."""
PATIENCE = 60.0
"""Seconds. A grammar is given up by its use of the processor long before, wherever the system can do that."""
QUICK, THOROUGH = 0.5, 2.0
"""Seconds of processor time for one grammar."""
SHORTEST = QUICK / 16
"""Likewise, of an owner whose last grammars have all taken longer: others need not wait for the next of its kind."""
EACH, MOST = 8, 32
"""Grammars that wait for the one that is tried: an owner's, and all together."""
_JUDGED = 1024
"""Grammars of which it is remembered what was found."""


class Trials:
    """For all threads. Most grammars take milliseconds; those that take long do so where no other waits for them.

    Grammars that wait are tried by turns among their owners, so that nobody's hostile ones keep those of others away.
    What was found is remembered: to ask the same again costs nothing.
    """

    def __init__(self, tokenizer_json: str, vocabulary: int, ends: list[int]) -> None:
        head = json.dumps([tokenizer_json, vocabulary, ends]).encode()
        self._known: Recent[str] = Recent(_JUDGED)
        self._lanes = (
            _Lane(head, QUICK, SHORTEST, self._known),
            _Lane(head, THOROUGH, THOROUGH, self._known),
        )

    def fault(self, grammar: str, owner: str) -> str:
        """What is wrong with the grammar, in our words; "" if it can be taken.

        Raises RelayError (rate limited) while too many others wait.
        """
        found = self._known.get(grammar)
        if found is None:
            tried = (lane.fault(grammar, owner) for lane in self._lanes)
            found = next((fault for fault in tried if fault is not None), TOO_COMPLEX)
            self._known.put(grammar, found)
        return found

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()


class _Lane:
    """One process, and those who wait for it; it tries one grammar at a time."""

    def __init__(self, head: bytes, seconds: float, shortest: float, known: Recent[str]) -> None:
        self._head = head
        self._seconds = seconds
        self._shortest = shortest
        self._known = known
        self._trust: Recent[float] = Recent(_JUDGED)
        """By owner, seconds for its next grammar."""
        self._unfinished: Recent[bool] = Recent(_JUDGED)
        self._process: subprocess.Popen[bytes] | None = None
        self._using = threading.Lock()
        self.turns = FairTurns(each=EACH, most=MOST)

    def fault(self, grammar: str, owner: str) -> str | None:
        """`None` where the time did not suffice. Raises RelayError."""
        with self._turn(owner):
            found = self._known.get(grammar)  # it may be the same as one of those before it
            if found is None and not self._unfinished.get(grammar):
                seconds = self._trust.get(owner) or self._seconds
                message = self._tried(grammar, seconds)
                if message is None:
                    self._unfinished.put(grammar, True)
                    self._trust.put(owner, max(seconds / 2, self._shortest))
                else:
                    self._trust.put(owner, min(seconds * 2, self._seconds))
                    found = reason(message) if message else ""
            return found

    def close(self) -> None:
        with self._using:
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.communicate(timeout=_FAREWELL)  # it reads the end of its input
                self._end(self._process)

    @contextmanager
    def _turn(self, owner: str) -> Iterator[None]:
        try:
            with self.turns.turn(owner):
                yield
        except Crowded as exc:
            wait = ceil((exc.ahead + 1) * self._seconds)
            raise RelayError(
                Fault.RATE_LIMITED,
                f"As many schemas are being looked at as may. Try again in {wait} seconds.",
                retry_after=wait,
            ) from None

    def _tried(self, grammar: str, seconds: float) -> str | None:
        """The compiler's message, or nothing; `None` where the time did not suffice."""
        with self._using:
            process = self._running()
            timer = threading.Timer(PATIENCE, _kill, [process])
            timer.start()
            try:
                answer = _ask(process, [seconds, grammar])
            finally:
                timer.cancel()
            if not answer:
                self._end(process)
                return None
            message: str | None = json.loads(answer)
            return message

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
