"""One exchange on a real socket: its ends, its limits, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.http1.body import Body
from adapters.http1.connection import Connection
from adapters.http1.request import Message, message_of
from adapters.http1.route import route_to
from adapters.transport import open_transport
from tests.http1.test_answer import FRAGMENTS
from tests.support.certificates import server_context
from tests.support.scripted import (
    CHUNKED,
    OK,
    PATIENCE,
    Peer,
    answer_of,
    cut,
    pieces,
    post,
    request_on,
    reset,
    scripted,
    serving,
)

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\n"
MIB = 2**20


def body_of(response: httpx.Response) -> Body:
    assert isinstance(response.stream, Body)
    return response.stream


async def turns() -> None:
    """Let the loop read and write whatever it can on loopback."""
    for _ in range(50):
        await asyncio.sleep(0)


# Where an answer ends


@pytest.mark.parametrize("encrypted", [False, True])
async def test_an_answer_without_a_length_ends_with_the_connection(
    transport: httpx.AsyncBaseTransport, encrypted: bool, trusted_certificate: Path
) -> None:
    peer = Peer()
    context = server_context(trusted_certificate) if encrypted else None
    script: list[list[bytes | str]] = [[HEAD + b"\r\nall of it"], [b"HTTP/1.0 200 OK\r\n\r\nall of it"]]
    async with serving(scripted(peer, *script), context) as base:
        for _ in script:
            assert await answer_of(transport, post(base)) == b"all of it"
    assert peer.connections == 2


async def test_tls_that_ends_without_a_farewell_is_no_end(
    transport: httpx.AsyncBaseTransport, trusted_certificate: Path
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(HEAD + b"\r\npart of it")
        await writer.drain()
        sock: socket.socket = writer.get_extra_info("socket")
        with socket.fromfd(sock.fileno(), sock.family, sock.type) as plain:
            plain.shutdown(socket.SHUT_WR)
        await reader.read()

    async with serving(handle, server_context(trusted_certificate)) as base:
        response = await transport.handle_async_request(post(base))
        assert await anext(body_of(response)) == b"part of it"
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await anext(body_of(response))
        await response.aclose()


async def test_a_reset_is_no_end_either(transport: httpx.AsyncBaseTransport) -> None:
    seen = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(HEAD + b"\r\npart of it")
        await seen.wait()
        reset(writer)

    async with serving(handle) as base:
        response = await transport.handle_async_request(post(base))
        assert await anext(body_of(response)) == b"part of it"
        seen.set()
        for _ in range(2):  # and it stays so
            with pytest.raises(httpx.ReadError):
                await anext(body_of(response))


async def test_what_came_before_the_end_is_told_before_it(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(scripted(Peer(), [HEAD + b"content-length: 9\r\n\r\npart"])) as base:
        response = await transport.handle_async_request(post(base))
        await turns()  # both are there
        assert await anext(body_of(response)) == b"part"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(body_of(response))


ALONE: dict[str, tuple[str, bytes]] = {
    "a farewell": ("POST", OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")),
    "HTTP/1.0": ("POST", OK.replace(b"1.1", b"1.0")),
    "more than the answer": ("POST", OK + OK),
    "the answer to a HEAD": ("HEAD", OK.removesuffix(b"ok")),
}


@pytest.mark.parametrize(("method", "answer"), ALONE.values(), ids=ALONE)
async def test_a_connection_is_not_used_again_after(
    transport: httpx.AsyncBaseTransport, method: str, answer: bytes
) -> None:
    peer = Peer()
    async with serving(scripted(peer, [answer, "hold"], [answer, "hold"])) as base:
        for _ in range(2):
            assert await answer_of(transport, httpx.Request(method, base)) in (b"", b"ok")
    assert peer.connections == 2


async def test_a_kept_connection_that_was_closed_long_ago_is_not_even_tried(
    transport: httpx.AsyncBaseTransport,
) -> None:
    peer = Peer()
    async with serving(scripted(peer, [OK], [OK])) as base:
        for _ in range(2):
            assert await answer_of(transport, post(base)) == b"ok"
            await turns()  # in which its end is read
    assert (peer.connections, len(peer.requests)) == (2, 2)


async def test_an_answer_that_nobody_reads_leaves_its_connection_to_others(
    transport: httpx.AsyncBaseTransport,
) -> None:
    peer = Peer()
    async with serving(scripted(peer, [OK, OK])) as base:
        response = await transport.handle_async_request(post(base))
        assert await answer_of(transport, post(base)) == b"ok"
        assert await pieces(response) == [b"ok"]
        await response.aclose()
    assert peer.connections == 1


async def test_the_version_and_the_limit_on_gaps_come_with_the_response(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(scripted(Peer(), [b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"])) as base:
        response = await transport.handle_async_request(post(base, idle=PATIENCE))
        assert response.http_version == "HTTP/1.0"
        response.extensions["set_idle"](None)
        assert await pieces(response) == [b"ok"]


# Reading


async def test_a_wait_that_is_given_up_loses_nothing(transport: httpx.AsyncBaseTransport) -> None:
    go = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(CHUNKED)
        await go.wait()
        writer.write(b"2\r\nok\r\n0\r\n\r\n")

    async with serving(handle) as base:
        response = await transport.handle_async_request(post(base, idle=PATIENCE))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(body_of(response))
        go.set()
        assert b"".join(await pieces(response)) == b"ok"


async def test_two_readers_of_one_answer_are_a_mistake(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(scripted(Peer(), [CHUNKED, "hold"])) as base:
        response = await transport.handle_async_request(post(base))
        async with asyncio.TaskGroup() as group:
            first = group.create_task(body_of(response).__anext__())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one reader"):
                await anext(body_of(response))
            first.cancel()
        await response.aclose()


async def test_reading_on_after_closing_is_an_error(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(scripted(Peer(), [CHUNKED, "hold"])) as base:
        response = await transport.handle_async_request(post(base))
        await response.aclose()
        with pytest.raises(httpx.ReadError):
            await anext(body_of(response))


async def test_a_reader_over_tls_that_stops_stops_its_peer(
    transport: httpx.AsyncBaseTransport, trusted_certificate: Path
) -> None:
    total = 64 * MIB
    stopped_at = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % total)
        for sent in range(MIB, total + MIB, MIB):
            writer.write(bytes(MIB))
            try:
                async with asyncio.timeout(None if stopped_at.done() else 0.5):
                    await writer.drain()
            except TimeoutError:
                stopped_at.set_result(sent)
                await writer.drain()

    async with serving(handle, server_context(trusted_certificate)) as base:
        response = await transport.handle_async_request(post(base, idle=PATIENCE))
        assert await stopped_at < 24 * MIB
        assert sum(map(len, await pieces(response))) == total


async def test_a_connection_that_was_paused_by_its_last_piece_serves_again(
    transport: httpx.AsyncBaseTransport,
) -> None:
    peer = Peer()
    large = HEAD + b"content-length: %d\r\n\r\n" % MIB + bytes(MIB)
    async with serving(scripted(peer, [large, OK, large, OK])) as base:
        for _ in range(2):
            response = await transport.handle_async_request(post(base))
            await turns()  # in which it is read until there is enough of it
            assert sum(map(len, await pieces(response))) == MIB
            assert await answer_of(transport, post(base)) == b"ok"
    assert peer.connections == 1


async def test_what_was_read_before_a_break_is_told_though_reading_was_paused(
    transport: httpx.AsyncBaseTransport,
) -> None:
    large = HEAD + b"content-length: %d\r\n\r\n" % (64 * MIB) + bytes(MIB)
    async with serving(scripted(Peer(), [large, "hold"])) as base:
        response = await transport.handle_async_request(post(base))
        await turns()
        await transport.aclose()
        assert len(await anext(body_of(response))) >= 2**16
        with pytest.raises(httpx.ReadError):
            await anext(body_of(response))


LATE: dict[str, tuple[bytes | None, list[bytes | type[Exception]]]] = {
    "a piece, and nothing after it": (b"2\r\nok\r\n", [b"ok", httpx.ReadTimeout]),
    "a piece, and another": (b"2\r\nok\r\n", [b"ok", b"!"]),
    "the end": (b"0\r\n\r\n", []),
    "both": (b"2\r\nok\r\n0\r\n\r\n", [b"ok"]),
    "a reset": (None, [httpx.ReadError]),
    "nothing": (b"", [httpx.ReadTimeout]),
}


@pytest.mark.parametrize(("came", "told"), LATE.values(), ids=LATE)
async def test_silence_counts_only_until_something_comes(
    transport: httpx.AsyncBaseTransport, came: bytes | None, told: list[bytes | type[Exception]]
) -> None:
    """The timer may ring when it is there and its reader has not run yet."""
    async with serving(scripted(Peer(), [CHUNKED, "hold"])) as base:
        idle = 0.05 if httpx.ReadTimeout in told else PATIENCE
        response = await transport.handle_async_request(post(base, idle=idle))
        body = body_of(response)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(outcome_of(body))
            await asyncio.sleep(0)
            if came is None:
                body._connection.connection_lost(ConnectionResetError())
            elif came:
                body._connection.data_received(came)
            body._fall_silent()
            if told == [b"ok", b"!"]:
                await turns()
                body._connection.data_received(b"1\r\n!\r\n0\r\n\r\n")
        assert reading.result() == told


async def outcome_of(body: Body) -> list[bytes | type[Exception]]:
    told: list[bytes | type[Exception]] = []
    try:
        async for piece in body:
            told.append(piece)
    except httpx.TransportError as exc:
        told.append(type(exc))
    return told


async def test_a_timer_that_rings_beside_the_answer_does_not_cut_its_connection(
    transport: httpx.AsyncBaseTransport,
) -> None:
    peer = Peer()
    async with serving(scripted(peer, [OK, OK])) as base:
        response = await transport.handle_async_request(post(base, read=PATIENCE))
        body = body_of(response)
        body._connection._unheard(body._answer, PATIENCE)
        assert await pieces(response) == [b"ok"]
        assert await answer_of(transport, post(base)) == b"ok"
    assert peer.connections == 1


async def test_reading_an_old_answer_does_not_touch_the_connections_next_one(
    transport: httpx.AsyncBaseTransport,
) -> None:
    large = HEAD + b"content-length: %d\r\n\r\n" % (64 * MIB) + bytes(MIB)
    async with serving(scripted(Peer(), [OK, large, "hold"])) as base:
        old = await transport.handle_async_request(post(base))
        new = await transport.handle_async_request(post(base))
        await turns()
        connection = body_of(new)._connection
        assert (connection is body_of(old)._connection, connection._reading_paused) == (True, True)
        assert await pieces(old) == [b"ok"]
        assert connection._reading_paused
        await new.aclose()


# Writing


async def test_a_request_that_is_refused_before_it_was_read_is_answered(transport: httpx.AsyncBaseTransport) -> None:
    """By a peer that closes with most of the body unread, which resets the connection."""
    answer = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with serving(handle) as base:
        response = await transport.handle_async_request(post(base, bytes(64 * MIB), write=PATIENCE))
        assert response.status_code == 413
        assert b"".join(await pieces(response)) == b"large"
        await response.aclose()


@pytest.mark.parametrize("whole", [True, False], ids=["bytes", "stream"])
async def test_sending_stops_at_a_refusal_and_the_connection_with_it(
    transport: httpx.AsyncBaseTransport, whole: bool
) -> None:
    peer, left = Peer(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\n")
        if peer.connections == 1:
            await left.wait()
        writer.write(b"large")
        await writer.drain()
        await reader.read()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(MIB)
        raise AssertionError("it was read to its end")  # pragma: no cover - it is not

    content = bytes(64 * MIB) if whole else body()
    async with serving(handle) as base:
        response = await transport.handle_async_request(httpx.Request("POST", base, content=content))
        assert response.status_code == 413
        left.set()
        assert b"".join(await pieces(response)) == b"large"
        await answer_of(transport, post(base))
    assert peer.connections == 2


@pytest.mark.parametrize("early", [CHUNKED, OK], ids=["its head", "all of it"])
async def test_an_answer_that_begins_early_does_not_cut_the_request_short(
    transport: httpx.AsyncBaseTransport, early: bytes
) -> None:
    total, peer = 32 * MIB, Peer()
    seen = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(early)
        await writer.drain()
        await turns()
        if not seen.done():
            seen.set_result(len(await reader.readexactly(total)))
        if early == CHUNKED:
            writer.write(b"2\r\nok\r\n0\r\n\r\n")
        await request_on(reader)
        writer.write(OK)

    async with serving(handle) as base:
        assert await answer_of(transport, post(base, bytes(total))) == b"ok"
        assert await seen == total
        assert await answer_of(transport, post(base)) == b"ok"
    assert peer.connections == 1


async def test_a_peer_that_finishes_its_answer_early_and_goes_has_answered(
    transport: httpx.AsyncBaseTransport,
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.write_eof()
        await reader.read()

    async with serving(handle) as base:
        assert await answer_of(transport, post(base, bytes(64 * MIB))) == b"ok"


async def test_a_peer_that_goes_before_it_has_read_all_is_an_error(transport: httpx.AsyncBaseTransport) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write_eof()
        await reader.read()

    async with serving(handle) as base:
        with pytest.raises(httpx.RemoteProtocolError, match="without an answer"):
            await answer_of(transport, post(base, bytes(64 * MIB)))


async def test_a_body_is_read_no_faster_than_its_peer_takes_it(transport: httpx.AsyncBaseTransport) -> None:
    made, released = 0, asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()

    async def body() -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(MIB)

    async with serving(handle) as base:
        with pytest.raises(httpx.WriteTimeout):
            request = httpx.Request("POST", base, content=body(), extensions={"timeout": {"write": 0.3}})
            await answer_of(transport, request)
        released.set()
    assert made < 16


async def test_a_head_that_is_not_taken_is_a_write_timeout_too(transport: httpx.AsyncBaseTransport) -> None:
    released = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()

    async with serving(handle) as base:
        headers = [("x-long", "a" * MIB)] * 32
        request = httpx.Request("POST", base, headers=headers, extensions={"timeout": {"write": 0.1}})
        with pytest.raises(httpx.WriteTimeout):
            await answer_of(transport, request)
        released.set()


async def test_a_body_whose_source_hangs_is_a_write_timeout(transport: httpx.AsyncBaseTransport) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"part"
        await asyncio.Event().wait()

    async with serving(scripted(Peer(), [OK])) as base:
        request = httpx.Request("POST", base, content=body(), extensions={"timeout": {"write": 0.05}})
        with pytest.raises(httpx.WriteTimeout):
            await answer_of(transport, request)


@pytest.mark.parametrize("error", [TimeoutError("mine"), ValueError("mine")], ids=["TimeoutError", "ValueError"])
async def test_a_body_whose_source_fails_cuts_the_connection_and_says_so_itself(
    transport: httpx.AsyncBaseTransport, error: Exception
) -> None:
    left = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    async def body() -> AsyncIterator[bytes]:
        yield b"part"
        raise error

    async with serving(handle) as base:
        with pytest.raises(type(error), match="mine"):
            await answer_of(transport, httpx.Request("POST", base, content=body()))
        await left.wait()


class Sink(asyncio.Transport):
    """Takes everything at once; `left` bytes of it are not gone yet."""

    left = 0

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[int] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(len(data))

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted = True


class Owner:
    """Notes which connections it is given back."""

    def __init__(self) -> None:
        self.released: list[Connection] = []

    def release(self, connection: Connection) -> None:
        self.released.append(connection)

    def discard(self, connection: Connection) -> None:
        """Nothing to do."""

    def forget(self, connection: Connection) -> None:
        """Nothing to do."""


def connected(sink: Sink) -> tuple[Connection, Owner]:
    connection = Connection("upstream.test", owner := Owner())
    connection.connection_made(sink)
    return connection, owner


def message(body: bytes) -> Message:
    return message_of(post("http://upstream.test", body), route_to(httpx.URL("http://upstream.test")))


@pytest.mark.parametrize("left", [0, 1])
async def test_a_connection_with_unsent_bytes_is_not_used_again(left: int) -> None:
    sink = Sink()
    sink.left = left
    connection, owner = connected(sink)
    async with asyncio.TaskGroup() as group:
        group.create_task(connection.exchange(message(b"{}"), read=None, write=None))
        await asyncio.sleep(0)
        connection.data_received(OK)
    assert (sink.aborted, owner.released) == ((True, []) if left else (False, [connection]))


async def test_others_get_their_turn_between_the_pieces_of_a_large_body() -> None:
    sink = Sink()
    connection, _ = connected(sink)
    seen = []
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(connection.exchange(message(bytes(8 * MIB)), read=None, write=None))
        while len(sink.pieces) < 9:
            seen.append(len(sink.pieces))
            await asyncio.sleep(0)
        connection.data_received(OK)
    assert sending.result().complete
    assert len(set(seen)) == 8


# Being interrupted


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("size", [2, 4 * MIB])
async def test_leaving_at_any_step_leaves_nothing_behind(encrypted: bool, size: int, trusted_certificate: Path) -> None:
    """One connection is allowed: had a step lost it, or its place, the last call would wait in vain."""
    context = server_context(trusted_certificate) if encrypted else None
    running = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running
        running += 1
        try:
            while await request_on(reader):
                for byte in cut(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 20):
                    writer.write(byte)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (ConnectionError, ssl.SSLError):
            pass  # the client has left
        finally:
            running -= 1

    async with (
        serving(handle, context) as base,
        open_transport(connect_timeout=PATIENCE, max_connections=1) as transport,
    ):
        finished = False
        for step in range(400):
            async with asyncio.TaskGroup() as group:
                call = group.create_task(answer_of(transport, post(base, bytes(size))))
                for _ in range(step):
                    await asyncio.sleep(0)
                if finished := call.done():
                    break
                call.cancel()
        assert finished
        with anyio.fail_after(PATIENCE):
            assert await answer_of(transport, post(base)) == b"ok"
        await transport.aclose()
        with anyio.fail_after(PATIENCE):
            while running:  # noqa: ASYNC110 - their ends have no event in common
                await asyncio.sleep(0.001)


async def test_closing_the_pool_wakes_who_waits_for_an_answer_or_for_a_connection() -> None:
    peer, asked = Peer(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        asked.set()
        await reader.read()
        peer.left.set()

    outcomes: list[type[Exception]] = []

    async def call(base: str) -> None:
        try:
            await answer_of(transport, post(base))
        except httpx.TransportError as exc:
            outcomes.append(type(exc))

    async with serving(handle) as base:
        transport = open_transport(connect_timeout=PATIENCE, max_connections=1)
        with anyio.fail_after(PATIENCE):
            async with asyncio.TaskGroup() as group:
                group.create_task(call(base))
                await asked.wait()
                group.create_task(call(base))
                await asyncio.sleep(0)
                await transport.aclose()
            await peer.left.wait()
    assert sorted(kind.__name__ for kind in outcomes) == ["ConnectError", "ReadError"]


# Whatever a server says


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    wire=st.lists(st.one_of(FRAGMENTS, st.binary(max_size=20)), max_size=5).map(b"".join),
    size=st.integers(1, 60),
    end=st.sampled_from(["close", "eof", "reset", "hold"]),
    body=st.sampled_from([b"", b"{}", bytes(200_000)]),
)
async def test_any_bytes_from_a_server_end_in_an_answer_or_an_exception_of_httpx(
    wire: bytes, size: int, end: str, body: bytes
) -> None:
    served: list[asyncio.Event] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(over := asyncio.Event())
        try:
            await request_on(reader)
            for piece in cut(wire, size):
                writer.write(piece)
                await asyncio.sleep(0)
                if writer.is_closing():
                    return  # the client has heard enough
            if end == "eof":
                writer.write_eof()
            elif end == "reset":
                reset(writer)
            elif end == "hold":
                await request_on(reader)
        except OSError:
            return  # so it has just now
        finally:
            over.set()

    with anyio.fail_after(2 * PATIENCE):
        async with serving(handle) as base:
            async with open_transport(connect_timeout=PATIENCE) as transport:
                for _ in range(2):
                    try:
                        await answer_of(transport, post(base, body, read=0.03, idle=0.03))
                    except (httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout):
                        pass
            for over in served:
                await over.wait()
