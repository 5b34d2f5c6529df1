"""The supervisor's end of the control socket: one connection for each worker process, and for each command."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from adapters.errors import RelayError
from adapters.local import messages
from adapters.local.engine import Engine
from adapters.local.status import Place, PlaceStatus, Sighting
from adapters.local.supervisor import Supervisor

log = logging.getLogger("relay.engines")

_LONGEST_BACKLOG = 2**20  # bytes that a client may leave unread


@asynccontextmanager
async def listening(supervisor: Supervisor, listener: socket.socket) -> AsyncIterator[None]:
    """Serve whoever connects to the Unix socket within the block."""
    connections: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = group.create_task(Connection(supervisor, reader, writer).serve())
            connections.add(connection)
            connection.add_done_callback(connections.discard)

        server = await asyncio.start_unix_server(accept, sock=listener, limit=messages.LIMIT)
        try:
            yield
        finally:
            server.close()
            for connection in connections:
                connection.cancel()


class _Lease:
    """A worker's right to an engine."""

    def __init__(self, connection: Connection, number: int, engine: Engine) -> None:
        self.busy = True
        self.engine = engine
        self._connection = connection
        self._number = number

    def recalled(self) -> None:
        self._connection.send(messages.Recall(self._number))

    def ended(self) -> None:
        self._connection.drop(self._number)


class Connection:
    """Answers one client. When it is closed, for whatever reason, its leases are over."""

    def __init__(self, supervisor: Supervisor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._supervisor = supervisor
        self._reader = reader
        self._writer = writer
        self._leases: dict[int, _Lease] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._surveys: dict[int, asyncio.Future[Sequence[Sighting]]] = {}
        self._numbers = itertools.count(1)

    async def serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    while line := await self._reader.readline():
                        self._take(messages.parse_from_client(line), group)
                except (OSError, ValueError, msgspec.DecodeError) as exc:  # ValueError: a line beyond the limit
                    log.warning("a client of the engines' control socket was cut off: %s", type(exc).__name__)
                for answer in list(self._answering.values()):
                    answer.cancel()
        finally:
            self._supervisor.draining.remove(self)
            for survey in self._surveys.values():
                if not survey.done():
                    survey.set_result(())
            for lease in self._leases.values():
                lease.engine.release(lease)
            self._writer.close()

    def send(self, message: messages.FromSupervisor) -> None:
        if self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > _LONGEST_BACKLOG:
            self._writer.transport.abort()  # it no longer reads, and whoever it is shall not fill our memory
        else:
            self._writer.write(messages.dump(message))

    def drop(self, number: int) -> None:
        """The lease is over because its engine is."""
        del self._leases[number]
        self.send(messages.Gone(number))

    def drained(self, places: Sequence[Place]) -> None:
        """As a Watcher."""
        self.send(messages.Drained(list(places)))

    async def survey(self) -> Sequence[Sighting]:
        """As a Watcher."""
        number = next(self._numbers)
        survey: asyncio.Future[Sequence[Sighting]] = asyncio.get_running_loop().create_future()
        self._surveys[number] = survey
        self.send(messages.Survey(number))
        try:
            return await survey
        finally:
            del self._surveys[number]

    def _take(self, message: messages.FromClient, group: asyncio.TaskGroup) -> None:
        match message:
            case messages.Watch():
                self._supervisor.draining.add(self)
            case messages.Seen(number, replicas):
                if (survey := self._surveys.get(number)) and not survey.done():
                    survey.set_result(replicas)
            case messages.Use(number, busy):
                if lease := self._leases.get(number):
                    lease.engine.use(lease, busy)
            case messages.Return(number):
                if lease := self._leases.pop(number, None):
                    lease.engine.release(lease)
            case messages.Report(number):
                if lease := self._leases.get(number):
                    lease.engine.doubt()
            case messages.Cancel(number):
                if answering := self._answering.get(number):
                    answering.cancel()
            case messages.Command(number, "status"):
                self.send(messages.Done(number, self._supervisor.status()))
            case messages.Ask(number) | messages.Command(number):
                if number in self._answering or number in self._leases:
                    raise ValueError("an id that is in use")  # two leases of one id: only one could be given back
                self._answering[number] = answering = group.create_task(self._answer(message))
                answering.add_done_callback(lambda _: self._answering.pop(number))

    async def _answer(self, message: messages.Ask | messages.Command) -> None:
        try:
            match message:
                case messages.Ask(number, name):
                    engine = self._supervisor.engine(name)
                    address = await engine.ready(self._progress(number))
                    self._leases[number] = lease = _Lease(self, number, engine)
                    engine.add(lease)
                    self.send(messages.Ready(number, address))
                case messages.Command(_, "start" | "stop"):
                    self.send(await self._run(message))
                case _:
                    self.send(await self._replicas(message))
        except RelayError as exc:
            self.send(messages.Refused(message.id, exc.fault.name, exc.message, exc.retry_after))

    async def _run(self, command: messages.Command) -> messages.Done:
        engine = self._supervisor.engine(command.name)
        await (engine.stop() if command.do == "stop" else engine.start(self._progress(command.id)))
        return messages.Done(command.id, [engine.status()])

    async def _replicas(self, command: messages.Command) -> messages.Done:
        """How the replicas are that are meant, drained or resumed if that was asked for. Raises RelayError."""
        draining = self._supervisor.draining
        if command.do == "replicas":
            return messages.Done(command.id, replicas=await draining.look())
        places = draining.find(command.name, command.replica)
        (draining.drain if command.do == "drain" else draining.resume)(places)
        tell, told = self._progress(command.id), ""
        while True:
            found = [status for status in await draining.look() if status.place in places]
            if command.do == "resume" or not command.wait or not (text := _under_way(found)):
                return messages.Done(command.id, replicas=found)
            if text != told:
                told = text
                tell(text)
            await asyncio.sleep(self._supervisor.pace.survey_interval)

    def _progress(self, number: int) -> Callable[[str], None]:
        return lambda text: self.send(messages.Progress(number, text))


def _under_way(replicas: Sequence[PlaceStatus]) -> str:
    """What is to end before they are idle, in words; `""` if nothing is."""
    count = sum(replica.open for replica in replicas)
    reasons = {replica.reason for replica in replicas if replica.state == "draining" and replica.reason}
    parts = [f"{count} request{'s' * (count != 1)} under way"] * bool(count) + sorted(reasons)
    return "; ".join(parts)
