"""Stands between the relay and an engine: however the relay ends, the engine and all its offspring end too.

    python -m adapters.local.guard [--grace SECONDS] [--lock DESCRIPTOR] -- COMMAND...

The guard's standard input is the relay's life-line, one end of a socket pair: the guard writes the engine's process id
to it, and ends the engine once the other end is closed, which the kernel does even for a relay that was killed. It also
does so on SIGTERM, SIGINT and SIGHUP: SIGTERM to every process of the engine, SIGKILL after the grace. Its exit status
is the engine's, 128 + n for one that signal n ended, as shells have it. The descriptor of a locked file stays open, and
the file locked, until the guard ends; the engine does not get it.

Standard library only, and little of that: a guard lives as long as its engine.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

GRACE = 10.0
NOT_FOUND = 127
NOT_EXECUTABLE = 126

_LIFE_LINE = 0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1  # both: linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_OOM_SCORE = "500"  # of -1000..1000: short of memory, the kernel is to take the engine and not the relay
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0  # seconds between two rounds of SIGKILL


class Guard:
    """Runs one command to its end, and everything that the command starts."""

    def __init__(self, command: list[str], grace: float) -> None:
        self._command = command
        self._grace = grace
        self._engine = 0
        self._status: int | None = None  # the engine's, in waitstatus_to_exitcode's form
        self._childless = False
        self._told = False
        self._watched = [_LIFE_LINE, _signal_pipe()]

    def run(self) -> int:
        """The exit status, once nothing of the engine is left."""
        if _LINUX:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent comes to us, not to init
        self._engine = _start(self._command)
        _report(self._engine)
        while self._status is None and not self._told:
            self._wait(None)
        self._end_all()
        assert self._status is not None  # a child of ours, and none is left
        return self._status if self._status >= 0 else 128 - self._status

    def _wait(self, seconds: float | None) -> None:
        """Until a child ends, the relay is gone, or the time is up; takes note of all of it."""
        ready, _, _ = select.select(self._watched, [], [], seconds)
        for descriptor in ready:
            try:
                heard = os.read(descriptor, 512)
            except OSError:  # a socket whose other end was cut off
                heard = b""
            if descriptor != _LIFE_LINE:
                self._told = self._told or any(number in heard for number in _STOP_SIGNALS)
            elif not heard:
                self._told = True
                self._watched.remove(_LIFE_LINE)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if process == 0:
                return
            if process == self._engine:
                self._status = os.waitstatus_to_exitcode(status)

    def _end_all(self) -> None:
        deadline = time.monotonic() + self._grace
        self._signal(signal.SIGTERM)
        while not self._alone() and (left := deadline - time.monotonic()) > 0:
            self._wait(left)
        pause = _FIRST_PAUSE
        while not self._alone():  # again and again: what was forked meanwhile was not in the list
            self._signal(signal.SIGKILL)
            self._wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _alone(self) -> bool:
        """Whether nothing of the engine is left."""
        return self._childless and (_LINUX or not _send(-self._engine, 0))

    def _signal(self, number: int) -> None:
        # Without /proc the group is all that is known. Not both: its number may be another's once it is empty.
        for process in _offspring(os.getpid()) or [-self._engine]:
            _send(process, number)


def _signal_pipe() -> int:
    """The end of a pipe from which the numbers of the signals that arrive can be read."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (*_STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda received, frame: None)
    return reading


def _start(command: list[str]) -> int:
    """The process id of the command, in a session and a process group of its own."""
    guard = os.getpid()
    # Until it has done away with our handlers, which would swallow a signal that is meant to end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    engine = os.fork()
    if engine == 0:  # pragma: no cover - a process that coverage does not see the end of
        try:
            _become(command, guard)
        finally:
            os._exit(NOT_EXECUTABLE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    return engine


def _become(command: list[str], guard: int) -> None:  # pragma: no cover - its process becomes another
    os.setsid()
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it ended before the line above
            os._exit(NOT_EXECUTABLE)
        _write_file("/proc/self/oom_score_adj", _OOM_SCORE)
    for number in (*_STOP_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    os.dup2(os.open(os.devnull, os.O_RDONLY), _LIFE_LINE)
    try:
        os.execvp(command[0], command)
    except OSError as exc:
        os.write(2, f"{command[0]}: {exc.strerror}\n".encode(errors="replace"))
        os._exit(NOT_FOUND if isinstance(exc, FileNotFoundError) else NOT_EXECUTABLE)


def _report(engine: int) -> None:
    try:
        os.write(_LIFE_LINE, b"%d\n" % engine)
    except OSError:
        return  # the relay is gone, which the next read tells as well


def _offspring(root: int) -> list[int]:
    """All processes that descend from `root`, parents first. Empty without a readable /proc, as outside Linux."""
    children: dict[int, list[int]] = {}
    for entry in _list("/proc"):
        if entry.isdecimal() and (parent := _parent(entry)):
            children.setdefault(parent, []).append(int(entry))
    found = children.get(root, [])
    for process in found:  # it grows on the way
        found += children.get(process, [])
    return found


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _parent(process: str) -> int:
    """0 where the process has ended meanwhile. Source: proc(5), /proc/pid/stat; the name in it may hold anything."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _send(process: int, number: int) -> bool:
    """Whether there was such a process, or with a negative number such a group, to signal."""
    try:
        os.kill(process, number)
    except OSError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    # An old kernel's refusal is no reason not to start: the life-line and the group are still there.
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _write_file(path: str, text: str) -> None:  # pragma: no cover - as above
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        return  # nothing depends on it


def main(arguments: list[str]) -> int:
    grace = GRACE
    if arguments[:1] == ["--grace"]:
        grace, arguments = float(arguments[1]), arguments[2:]
    if arguments[:1] == ["--lock"]:
        os.set_inheritable(int(arguments[1]), False)
        arguments = arguments[2:]
    if arguments[:1] != ["--"] or len(arguments) < 2:
        os.write(2, b"usage: guard [--grace SECONDS] [--lock DESCRIPTOR] -- COMMAND...\n")
        return 2
    return Guard(arguments[1:], grace).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
