"""The supervisor's end of the control socket: one connection for each worker process, and for each command."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from adapters.errors import RelayError
from adapters.local import messages
from adapters.local.engine import Engine
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

    def _take(self, message: messages.FromClient, group: asyncio.TaskGroup) -> None:
        match message:
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
                self._answering[number] = answering = group.create_task(self._answer(message))
                answering.add_done_callback(lambda _: self._answering.pop(number))

    async def _answer(self, message: messages.Ask | messages.Command) -> None:
        try:
            engine = self._supervisor.engine(message.name)
            match message:
                case messages.Ask(number):
                    address = await engine.ready(self._progress(number))
                    self._leases[number] = lease = _Lease(self, number, engine)
                    engine.add(lease)
                    self.send(messages.Ready(number, address))
                case messages.Command(number, do):
                    await (engine.stop() if do == "stop" else engine.start(self._progress(number)))
                    self.send(messages.Done(number, [engine.status()]))
        except RelayError as exc:
            self.send(messages.Refused(message.id, exc.fault.name, exc.message, exc.retry_after))

    def _progress(self, number: int) -> Callable[[str], None]:
        return lambda text: self.send(messages.Progress(number, text))
