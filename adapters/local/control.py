"""The relay's side of the control socket: engines for requests, and what the operator asks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from adapters.errors import Fault, RelayError
from adapters.local import messages
from adapters.local.address import EngineAddress
from adapters.local.status import EngineStatus, PlaceStatus

OnProgress = Callable[[str], None]


@dataclass(slots=True, eq=False)
class _Hold:
    """This process's lease of an engine."""

    id: int
    address: EngineAddress
    uses: int
    current: bool = True
    """False once recalled, reported or gone: what is open may finish, what comes asks anew."""


@dataclass(slots=True, eq=False)
class _Call:
    """A question that waits for its answer, and those who wait with it."""

    id: int
    name: str
    answer: asyncio.Future[_Answer]
    waiting: int = 0
    listeners: list[OnProgress] = field(default_factory=list)


_Answer = _Hold | messages.Done | messages.Refused


class EngineClient:
    """Reaches the supervisor at `path`; one for all requests of a process, used within its block.

    It connects when there is something to ask. All that can go wrong is a RelayError: UPSTREAM_UNREACHABLE where there
    is no supervisor, or what the supervisor says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tasks = asyncio.TaskGroup()
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            self._link.close()
        await self._tasks.__aexit__(None, None, None)

    @asynccontextmanager
    async def lease(self, name: str, on_progress: OnProgress | None = None) -> AsyncIterator[EngineAddress]:
        """The engine's address, good within the block; it is started if need be, and `on_progress` told how far it is.

        Only the first request of several at once has to ask; what is known of the engine outlives a pause between them.
        Raises RelayError.
        """
        link = self._link
        hold = link.holds.get(name) if link is not None else None
        if link is None or hold is None:
            link = await self._connected()
            hold = await link.obtain(name, on_progress)
        else:
            link.begin(hold)
        try:
            yield hold.address
        finally:
            link.end(hold)

    def report_failure(self, name: str) -> None:
        """Tell that a request could not reach the engine or was left without an answer.

        The supervisor looks at it at once, and the next `lease` waits for what it sees.
        """
        if self._link is not None and (hold := self._link.holds.pop(name, None)):
            self._link.distrust(hold)

    async def status(self) -> list[EngineStatus]:
        """Of all local engines. Raises RelayError."""
        return (await self._command("status")).engines

    async def start(self, name: str, on_progress: OnProgress | None = None) -> EngineStatus:
        """Start the engine if it is not running, and wait until it is ready. Raises RelayError."""
        return (await self._command("start", name, on_progress=on_progress)).engines[0]

    async def stop(self, name: str) -> EngineStatus:
        """Let the engine's requests finish, then stop it; the next request starts it again. Raises RelayError."""
        return (await self._command("stop", name)).engines[0]

    async def replicas(self) -> list[PlaceStatus]:
        """All replicas of all engines, remote ones too, as the worker processes see them. Raises RelayError."""
        return (await self._command("replicas")).replicas

    async def drain(
        self, name: str, replica: str = "", *, wait: bool = True, on_progress: OnProgress | None = None
    ) -> list[PlaceStatus]:
        """Give an engine, or one of its replicas, no more requests, until `resume`; the relay's processes know by then.

        With `wait` it returns when what was under way there has ended, of which `on_progress` is told. Raises
        RelayError.
        """
        return (await self._command("drain", name, replica, wait=wait, on_progress=on_progress)).replicas

    async def resume(self, name: str, replica: str = "") -> list[PlaceStatus]:
        """Undo `drain`. Raises RelayError."""
        return (await self._command("resume", name, replica)).replicas

    async def _command(
        self,
        do: messages.Do,
        name: str = "",
        replica: str = "",
        *,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> messages.Done:
        command = messages.Command(0, do, name, replica, wait)
        return await (await self._connected()).command(command, on_progress)

    async def _connected(self) -> _Link:
        async with self._connecting:
            if self._link is None or self._link.closed:
                try:
                    reader, writer = await asyncio.open_unix_connection(self._path, limit=messages.LIMIT)
                except OSError as exc:
                    raise _gone(exc.strerror or str(exc)) from exc
                self._link = _Link(writer)
                self._tasks.create_task(self._link.listen(reader))
            return self._link


class _Link:
    """One connection to the supervisor, with all that depends on it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.holds: dict[str, _Hold] = {}
        self.closed = False
        self._writer = writer
        self._ids = itertools.count(1)
        self._asked: dict[str, _Call] = {}
        self._calls: dict[int, _Call] = {}
        self._held: dict[int, tuple[str, _Hold]] = {}

    # ---------------------------------------------------------------- leases

    async def obtain(self, name: str, on_progress: OnProgress | None) -> _Hold:
        """A hold with one use more. One question for all who want the same engine."""
        if (hold := self.holds.get(name)) is not None:
            self.begin(hold)
            return hold
        call = self._asked.get(name)
        if call is None:
            call = self._asked[name] = self._new_call(name)
            self._send(messages.Ask(call.id, name))
        try:
            answer = await self._wait(call, on_progress)
        except asyncio.CancelledError:
            if call.answer.done() and isinstance(late := call.answer.result(), _Hold):
                self.end(late)  # the engine came in the moment in which its client left
            raise
        assert isinstance(answer, _Hold)
        return answer

    def begin(self, hold: _Hold) -> None:
        hold.uses += 1
        if hold.uses == 1:
            self._send(messages.Use(hold.id, True))

    def end(self, hold: _Hold) -> None:
        hold.uses -= 1
        if hold.uses == 0:
            self._say_unused(hold)

    def distrust(self, hold: _Hold) -> None:
        """Report it; it is no longer in `holds`."""
        hold.current = False
        self._send(messages.Report(hold.id))
        if hold.uses == 0:
            self._say_unused(hold)

    def _say_unused(self, hold: _Hold) -> None:
        if hold.current:
            self._send(messages.Use(hold.id, False))
        elif self._held.pop(hold.id, None):
            self._send(messages.Return(hold.id))

    # ---------------------------------------------------------------- questions

    async def command(self, command: messages.Command, on_progress: OnProgress | None) -> messages.Done:
        """The answer to the command, which gets its `id` here. Raises RelayError."""
        call = self._new_call("")
        self._send(msgspec.structs.replace(command, id=call.id))
        answer = await self._wait(call, on_progress)
        assert isinstance(answer, messages.Done)
        return answer

    def _new_call(self, name: str) -> _Call:
        call = _Call(next(self._ids), name, asyncio.get_running_loop().create_future())
        self._calls[call.id] = call
        return call

    async def _wait(self, call: _Call, on_progress: OnProgress | None) -> _Answer:
        """Raises RelayError where the answer is a refusal: each who waits gets one of his own."""
        call.waiting += 1
        if on_progress is not None:
            call.listeners.append(on_progress)
        try:
            answer = await asyncio.shield(call.answer)
        finally:
            call.waiting -= 1
            if on_progress is not None:
                call.listeners.remove(on_progress)
            if call.waiting == 0 and not call.answer.done():
                self._forget(call)
                self._send(messages.Cancel(call.id))
        if isinstance(answer, messages.Refused):
            raise RelayError(Fault[answer.fault], answer.message, retry_after=answer.retry_after)
        return answer

    def _forget(self, call: _Call) -> None:
        del self._calls[call.id]
        self._asked.pop(call.name, None)

    # ---------------------------------------------------------------- the connection

    def close(self) -> None:
        self._writer.close()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take in what the supervisor says until it or `close` ends the connection."""
        try:
            while line := await reader.readline():
                self._take(messages.parse_from_supervisor(line))
        except (OSError, ValueError, msgspec.DecodeError):  # ValueError: a line beyond the limit
            pass  # what depends on the connection is told below
        finally:
            self.closed = True
            self._writer.close()
            self.holds.clear()
            self._held.clear()
            lost = _gone("it has closed the connection")
            for call in list(self._calls.values()):
                self._settle(call, messages.Refused(call.id, lost.fault.name, lost.message))

    def _send(self, message: messages.FromClient) -> None:
        if not self.closed:
            self._writer.write(messages.dump(message))

    def _take(self, message: messages.FromSupervisor) -> None:
        match message:
            case messages.Ready(number, address):
                self._take_engine(number, address)
            case messages.Recall(number) | messages.Gone(number):
                self._take_away(number, isinstance(message, messages.Gone))
            case messages.Progress(number, text):
                if call := self._calls.get(number):
                    for listener in call.listeners:
                        listener(text)
            case messages.Refused(number):
                if call := self._calls.get(number):
                    self._settle(call, message)
            case messages.Done(number):
                if call := self._calls.get(number):
                    self._settle(call, message)

    def _take_engine(self, number: int, address: EngineAddress) -> None:
        call = self._calls.get(number)
        if call is None:  # its Cancel has crossed this
            self._send(messages.Return(number))
            return
        hold = _Hold(number, address, uses=call.waiting)  # counted here: who is cancelled now still gives his back
        self.holds[call.name] = hold
        self._held[number] = (call.name, hold)
        self._settle(call, hold)

    def _take_away(self, number: int, gone: bool) -> None:
        name, hold = self._held.get(number, ("", None))
        if hold is None:
            return
        hold.current = False
        if self.holds.get(name) is hold:
            del self.holds[name]
        if gone:
            del self._held[number]
        elif hold.uses == 0:
            self._say_unused(hold)

    def _settle(self, call: _Call, answer: _Answer) -> None:
        self._forget(call)
        call.answer.set_result(answer)


def _gone(how: str) -> RelayError:
    return RelayError(
        Fault.UPSTREAM_UNREACHABLE,
        f"The supervisor of the relay's local engines cannot be reached ({how}); is the relay still running?",
    )
