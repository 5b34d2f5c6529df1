"""Programs that a test starts, and that are gone when it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 120.0
"""Seconds after which a program has failed to start or to end."""
_GRACE = 10.0  # seconds between the signal to end and the one that cannot be refused


class Started:
    """A program that runs, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in what it prints. Fails with all of that if the program ends or takes too long."""
        with self._news:
            found = self._news.wait_for(lambda: re.search(pattern, self.output) or self._ended, DEADLINE)
        assert isinstance(found, re.Match), f"{pattern!r} did not come, but:\n{self.output}"
        return found

    def close(self) -> None:
        """After the end: read the rest of what was printed."""
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def running(words: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Iterator[Started]:
    """A program until the block is left, and all that it started itself."""
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    started = Started(process)
    try:
        yield started
    finally:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
        finally:
            _end_group(process)
            started.close()


def finished(words: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A program that ends by itself, whatever its status."""
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    finally:
        _end_group(process)
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def _end_group(process: subprocess.Popen[str]) -> None:
    """End what the program left behind: a group lives as long as any process of it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
