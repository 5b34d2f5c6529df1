"""Child processes: started, watched through /proc, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 120.0
"""Seconds for which a process may take to serve."""


class Account:
    """What a process and its children have used, from Linux's own books."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu_seconds(self) -> float:
        """User and system time of the living threads, in nanoseconds where the kernel counts them.

        Clock ticks, which it counts otherwise, are samples every 10 ms: a load that is paced by the same clock is
        seen far too often or not at all.
        """
        return sum(self._thread_seconds(thread) for pid in self._family() for thread in self._threads(pid))

    @staticmethod
    def _threads(pid: int) -> list[Path]:
        return list(Path(f"/proc/{pid}/task").iterdir())

    @staticmethod
    def _thread_seconds(thread: Path) -> float:
        try:
            return int((thread / "schedstat").read_text().split()[0]) / 1e9
        except FileNotFoundError:
            # The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
            fields = (thread / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_megabytes(self) -> float:
        kilobytes = 0
        for pid in self._family():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    kilobytes += int(line.split()[1])
        return kilobytes / 1024

    def _family(self) -> list[int]:
        family = [self._pid]
        for pid in family:
            for thread in self._threads(pid):
                family.extend(map(int, (thread / "children").read_text().split()))
        return family


@contextmanager
def started(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own, ended on leaving: politely, then not. Its log is `folder`/log."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output or log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def clean_environment() -> dict[str, str]:
    """This environment without what configures a relay, and with our own packages importable from any folder."""
    dropped = ("CLOUDFLARE_", "RELAY_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(dropped)}
    return kept | {"PYTHONPATH": str(ROOT)}


@contextmanager
def started_upstream() -> Iterator[int]:
    """The upstream of this benchmark; gives its port."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.upstream"],
        env=clean_environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            _end(process)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until_ready(process: subprocess.Popen[bytes], log: Path, port: int, path: str) -> None:
    """Return with the first 200 on `path`. Raises RuntimeError, with the end of the log, if that does not come."""
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode} instead of serving:\n{_end_of(log)}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(request)
                if connection.recv(64).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass  # not listening yet
        time.sleep(0.002)
    raise RuntimeError(f"did not serve within {_PATIENCE:.0f} seconds:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
