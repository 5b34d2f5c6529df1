"""Has grammars tried by a process of its own, started when it is first needed and again after it was ended."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.local.serving.schemas import TOO_COMPLEX

_SCRIPT = Path(__file__).with_name("trial.py")
_FAREWELL = 2.0
"""Seconds."""
PATIENCE = 60.0
"""Seconds. The process is ended by its own use of the processor long before, wherever the system can do that."""


class Trials:
    """For all threads; one grammar is tried at a time."""

    def __init__(self, tokenizer_json: str, vocabulary: int, ends: list[int]) -> None:
        self._head = [tokenizer_json, vocabulary, ends]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def fault(self, grammar: str) -> str:
        """What is wrong with the grammar, in the compiler's words; "" if it can be taken."""
        with self._lock:
            process = self._running()
            timer = threading.Timer(PATIENCE, process.kill)
            timer.start()
            try:
                answer = _ask(process, grammar)
            finally:
                timer.cancel()
            if not answer:
                self._end(process)
                return TOO_COMPLEX
            return str(json.loads(answer))

    def close(self) -> None:
        with self._lock:
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.communicate(timeout=_FAREWELL)  # it reads the end of its input
                self._end(self._process)

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
            )
            _write(self._process, self._head)
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()
        self._process = None


def _ask(process: subprocess.Popen[bytes], grammar: str) -> bytes:
    """The answer's line; nothing if the process came to its end."""
    assert process.stdout is not None
    _write(process, grammar)
    return process.stdout.readline()


def _write(process: subprocess.Popen[bytes], message: Any) -> None:
    """Leaves it to the reader to notice that the process has ended."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
