"""The HTTP engine, over real sockets on both sides."""

from __future__ import annotations

import asyncio
import gzip
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from adapters import transport as engine
from adapters.transport import open_transport
from tests.support.certificates import self_signed, server_context
from tests.support.scripted import (
    CHUNKED,
    OK,
    PATIENCE,
    Peer,
    answer_of,
    pieces,
    post,
    request_on,
    reset,
    scripted,
    serving,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: uvloop's connections pause, close and abort in code of their own."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    with anyio.fail_after(2 * PATIENCE):
        async with open_transport(connect_timeout=PATIENCE) as transport:
            yield transport


# What is sent


async def test_a_request_is_sent_as_it_is(transport: httpx.AsyncBaseTransport) -> None:
    peer = Peer()
    headers = [(b"host", b"upstream.test"), (b"x-twice", b"1"), (b"x-twice", "ä".encode()), (b"content-length", b"3")]
    async with serving(scripted(peer, [OK])) as base:
        url = httpx.URL(f"{base}/ai/run/@cf/meta/llama%2Fa?b=%20c")
        request = httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(b"a\x00b"))
        assert await answer_of(transport, request) == b"ok"
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    line, *sent = head.split(b"\r\n")
    assert line == b"POST /ai/run/@cf/meta/llama%2Fa?b=%20c HTTP/1.1"
    assert sorted(header.lower() for header in sent) == sorted(b": ".join(header) for header in headers)
    assert body == b"a\x00b"


async def test_a_large_body_goes_out_whole_and_without_a_warning(transport: httpx.AsyncBaseTransport) -> None:
    peer = Peer()
    body = bytes(range(256)) * 2**13
    async with serving(scripted(peer, [OK])) as base:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await answer_of(transport, post(base, body)) == b"ok"
    assert peer.requests[0].endswith(b"\r\n\r\n" + body)


async def test_a_body_of_unknown_length_goes_out_in_chunks(transport: httpx.AsyncBaseTransport) -> None:
    seen = asyncio.Queue[bytes]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(OK)

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with serving(handle) as base:
        assert await answer_of(transport, httpx.Request("POST", base, content=body())) == b"ok"
    sent = await seen.get()
    assert sent.lower().count(b"transfer-encoding: chunked") == 1
    assert sent.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


# What comes back


async def test_status_and_headers_come_back_as_they_are(transport: httpx.AsyncBaseTransport) -> None:
    answer = b"HTTP/1.1 302 Found\r\nlocation: /away\r\nset-cookie: a=b\r\nset-cookie: c=d\r\ncontent-length: 0\r\n\r\n"
    peer = Peer()
    async with serving(scripted(peer, [answer, OK])) as base:
        response = await transport.handle_async_request(post(base))
        assert (response.status_code, response.headers.get_list("set-cookie")) == (302, ["a=b", "c=d"])
        await response.aclose()
        await answer_of(transport, post(base))
    assert len(peer.requests) == 2
    assert b"cookie" not in peer.requests[1].lower()


async def test_a_compressed_answer_stays_compressed_until_httpx_decodes_it(transport: httpx.AsyncBaseTransport) -> None:
    packed = gzip.compress(b"hello")
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with serving(scripted(Peer(), [head + packed, head + packed])) as base:
        assert await answer_of(transport, post(base)) == packed
        response = await transport.handle_async_request(post(base))
        assert await response.aread() == b"hello"


async def test_the_first_piece_passes_while_the_rest_is_held_back(transport: httpx.AsyncBaseTransport) -> None:
    seen = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(CHUNKED + b"1\r\na\r\n")
        await seen.wait()
        writer.write(b"1\r\nb\r\n0\r\n\r\n")

    async with serving(handle) as base:
        response = await transport.handle_async_request(post(base))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = aiter(response.stream)
        assert await anext(stream) == b"a"
        seen.set()
        assert [piece async for piece in stream] == [b"b"]


async def test_a_reader_that_stops_stops_its_peer(transport: httpx.AsyncBaseTransport) -> None:
    total, size = 64 * 2**20, 2**16
    stopped_at = asyncio.get_running_loop().create_future()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        for sent in range(size, total + size, size):
            writer.write(bytes(size))
            try:
                async with asyncio.timeout(None if stopped_at.done() else 0.3):
                    await writer.drain()
            except TimeoutError:
                stopped_at.set_result(sent)
                await writer.drain()
        if not stopped_at.done():
            stopped_at.set_result(total)

    async with serving(handle) as base:
        response = await transport.handle_async_request(post(base, idle=PATIENCE))
        # What the two kernels' buffers take on loopback, and little more.
        assert await stopped_at < 16 * 2**20
        assert sum(map(len, await pieces(response))) == total


# What becomes of connections

REUSED: dict[str, bytes] = {
    "a body of known length": OK,
    "chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
}


@pytest.mark.parametrize("answer", REUSED.values(), ids=REUSED)
async def test_a_connection_serves_again_after_a_whole_answer(
    transport: httpx.AsyncBaseTransport, answer: bytes
) -> None:
    peer = Peer()
    async with serving(scripted(peer, [answer, answer, answer])) as base:
        for _ in range(3):
            await answer_of(transport, post(base))
    assert (peer.connections, len(peer.requests)) == (1, 3)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_closing_an_unfinished_answer_cuts_the_connection_at_once(
    transport: httpx.AsyncBaseTransport, encrypted: bool, request: pytest.FixtureRequest
) -> None:
    context = server_context(request.getfixturevalue("trusted_certificate")) if encrypted else None
    left = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(CHUNKED + b"1\r\na\r\n")
        assert await request_on(reader) == b""
        left.set()

    async with serving(handle, context) as base:
        response = await transport.handle_async_request(post(base))
        await response.aclose()
        await asyncio.wait_for(left.wait(), PATIENCE)


@pytest.mark.parametrize("answer", [b"", CHUNKED + b"1\r\na\r\n"], ids=["before the headers", "in the body"])
async def test_a_cancelled_request_cuts_the_connection_at_once(
    transport: httpx.AsyncBaseTransport, answer: bytes
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(answer)
        asked.set()
        assert await request_on(reader) == b""
        left.set()

    async with serving(handle) as base:
        async with anyio.create_task_group() as group:
            group.start_soon(answer_of, transport, post(base))
            await asked.wait()
            group.cancel_scope.cancel()
        await asyncio.wait_for(left.wait(), PATIENCE)


async def test_closing_the_pool_wakes_who_reads_from_it() -> None:
    async with serving(scripted(Peer(), [CHUNKED + b"1\r\na\r\n", "hold"])) as base:
        transport = open_transport(connect_timeout=PATIENCE)
        response = await transport.handle_async_request(post(base))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = aiter(response.stream)
        await anext(stream)
        async with anyio.create_task_group() as group:
            group.start_soon(transport.aclose)
            with anyio.fail_after(PATIENCE), pytest.raises(httpx.ReadError):
                await anext(stream)


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(
    transport: httpx.AsyncBaseTransport,
) -> None:
    connections = 0
    idle, spoken = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_on(reader)
        writer.write(OK)
        if connections == 1:
            await idle.wait()
            writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
            spoken.set()
        await request_on(reader)

    async with serving(handle) as base:
        assert await answer_of(transport, post(base)) == b"ok"
        idle.set()
        await spoken.wait()
        for _ in range(50):  # turns of the loop in which the kept connection reads it
            await anyio.lowlevel.checkpoint()
        assert await answer_of(transport, post(base)) == b"ok"
    assert connections == 2


# Repeating

REPEATED: dict[str, tuple[list[list[bytes | str]], bool, float]] = {
    "a kept connection that was just closed": ([[OK, "close"], [OK]], True, PATIENCE),
    "a kept connection that was just reset": ([[OK, "reset"], [OK]], True, PATIENCE),
    "a kept connection twice in a row": ([[OK, "close"], ["close"], [OK]], False, PATIENCE),
    "a kept connection that breaks later": ([[OK, "close"], [OK]], False, 0.0),
    "a kept connection that broke within its answer": ([[OK, b"HTTP/1.1 2"], [OK]], False, PATIENCE),
    "a new connection": ([["close"], [OK], [OK]], False, PATIENCE),
}


@pytest.mark.parametrize(("script", "repeated", "race"), REPEATED.values(), ids=REPEATED)
async def test_a_request_is_repeated_only_when_it_cannot_have_been_read(
    transport: httpx.AsyncBaseTransport,
    monkeypatch: pytest.MonkeyPatch,
    script: list[list[bytes | str]],
    repeated: bool,
    race: float,
) -> None:
    monkeypatch.setattr(engine, "_RACE", race)
    peer = Peer()
    async with serving(scripted(peer, *script)) as base:
        if script[0][0] == OK:
            await answer_of(transport, post(base))
        if repeated:
            assert await answer_of(transport, post(base, b"[]")) == b"ok"
            assert [sent[-2:] for sent in peer.requests] == [b"{}", b"[]", b"[]"]
        else:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await answer_of(transport, post(base))


# What goes wrong

FAILURES: dict[str, tuple[list[bytes | str], type[httpx.TransportError]]] = {
    "no answer at all": (["close"], httpx.RemoteProtocolError),
    "a reset before the answer": (["reset"], httpx.ReadError),
    "an answer that is not HTTP": ([b"secret\r\n\r\n"], httpx.RemoteProtocolError),
    "headers cut off": ([b"HTTP/1.1 200 OK\r\nx: secr"], httpx.RemoteProtocolError),
    "silence before the answer": (["hold"], httpx.ReadTimeout),
    "silence in the body": ([CHUNKED + b"6\r\nsecret\r\n", "hold"], httpx.ReadTimeout),
    "fewer bytes than announced": ([OK.replace(b": 2", b": 9")], httpx.RemoteProtocolError),
    "no last chunk": ([CHUNKED + b"6\r\nsecret\r\n"], httpx.RemoteProtocolError),
    "a chunk without a size": ([CHUNKED + b"secret\r\n"], httpx.RemoteProtocolError),
}


@pytest.mark.parametrize(("script", "error"), FAILURES.values(), ids=FAILURES)
async def test_every_failure_is_one_of_httpx_and_tells_nothing(
    transport: httpx.AsyncBaseTransport, script: list[bytes | str], error: type[httpx.TransportError]
) -> None:
    async with serving(scripted(Peer(), script)) as base:
        with pytest.raises(error) as caught:
            await answer_of(transport, post(f"{base}/secret", read=0.2 if error is httpx.ReadTimeout else PATIENCE))
    assert type(caught.value) is error
    assert "secr" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_a_reset_in_the_body_is_a_read_error(transport: httpx.AsyncBaseTransport) -> None:
    seen = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(CHUNKED + b"1\r\na\r\n")
        await seen.wait()
        reset(writer)

    async with serving(handle) as base:
        response = await transport.handle_async_request(post(base))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = aiter(response.stream)
        await anext(stream)
        seen.set()
        with pytest.raises(httpx.ReadError):
            await anext(stream)


async def test_gaps_in_the_body_have_their_own_limit(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(scripted(Peer(), [CHUNKED + b"1\r\na\r\n", "hold"])) as base:
        response = await transport.handle_async_request(post(base, read=60, idle=0.05))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        stream = aiter(response.stream)
        assert await anext(stream) == b"a"
        with anyio.fail_after(PATIENCE), pytest.raises(httpx.ReadTimeout):
            await anext(stream)


async def test_a_refused_connection_is_a_connect_error(transport: httpx.AsyncBaseTransport) -> None:
    async with serving(scripted(Peer())) as base:
        pass
    with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1"):
        await answer_of(transport, post(base))


async def test_the_connect_timeout_covers_tls() -> None:
    async with serving(scripted(Peer(), ["hold"])) as base, open_transport(connect_timeout=0.05) as transport:
        with pytest.raises(httpx.ConnectTimeout):
            await answer_of(transport, post(base.replace("http:", "https:")))


async def test_waiting_for_a_free_connection_ends_in_a_pool_timeout() -> None:
    async with (
        serving(scripted(Peer(), [CHUNKED, "hold"])) as base,
        open_transport(connect_timeout=PATIENCE, max_connections=1) as transport,
    ):
        held = await transport.handle_async_request(post(base))
        with pytest.raises(httpx.PoolTimeout):
            await answer_of(transport, post(base, connect=0.05))
        await held.aclose()


async def test_a_body_that_nobody_takes_is_a_write_timeout(transport: httpx.AsyncBaseTransport) -> None:
    released = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()

    async with serving(handle) as base:
        with pytest.raises(httpx.WriteTimeout):
            await answer_of(transport, post(base, bytes(32 * 2**20), connect=0.1, write=0.1, read=0.1))
        released.set()


async def test_an_address_that_is_not_http_is_refused(transport: httpx.AsyncBaseTransport) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await answer_of(transport, post("ftp://upstream.test/"))


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"\xff"])
async def test_a_header_that_cannot_be_sent_is_refused(transport: httpx.AsyncBaseTransport, value: bytes) -> None:
    peer = Peer()
    async with serving(scripted(peer, [OK])) as base:
        with pytest.raises(httpx.LocalProtocolError):
            await answer_of(transport, httpx.Request("GET", base, headers=[(b"x-text", value)]))
    assert peer.requests in ([], [b""])


# The environment


async def test_a_proxy_is_used_unless_excluded(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer()
    async with serving(scripted(peer, [OK], [OK], ["close"])) as base:
        monkeypatch.setenv("http_proxy", base.replace("http://", "http://user:pass@"))
        monkeypatch.setenv("HTTPS_PROXY", base)
        monkeypatch.setenv("no_proxy", base.removeprefix("http://"))
        await answer_of(transport, post("http://upstream.test/a"))
        await answer_of(transport, post(f"{base}/b"))
        with pytest.raises(httpx.TransportError):
            await answer_of(transport, post("https://upstream.test/c"))
    through, straight, tunnel = peer.requests
    assert through.startswith(b"POST http://upstream.test/a HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in through
    assert straight.startswith(b"POST /b HTTP/1.1\r\n")
    assert tunnel.startswith(b"CONNECT upstream.test:443 HTTP/1.1\r\n")


async def test_a_proxy_of_another_kind_is_refused(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(httpx.ProxyError, match="socks5"):
        await answer_of(transport, post("http://upstream.test/"))


async def test_a_proxy_that_is_not_there_is_a_proxy_error(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(scripted(Peer())) as base:
        pass
    monkeypatch.setenv("http_proxy", base)
    with pytest.raises(httpx.ProxyError):
        await answer_of(transport, post("http://upstream.test/"))


async def test_certificates_that_are_not_there_are_a_connect_error(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with pytest.raises(httpx.ConnectError, match="certificates"):
        await answer_of(transport, post("https://127.0.0.1:1/"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted_certificate(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    return certificate


async def test_a_certificate_named_by_the_environment_is_trusted(
    transport: httpx.AsyncBaseTransport, trusted_certificate: Path
) -> None:
    async with serving(scripted(Peer(), [OK]), server_context(trusted_certificate)) as base:
        assert await answer_of(transport, post(base)) == b"ok"


async def test_an_unknown_certificate_is_refused(transport: httpx.AsyncBaseTransport, certificate: Path) -> None:
    async with serving(scripted(Peer(), [OK]), server_context(certificate)) as base:
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await answer_of(transport, post(base))


# On this machine


async def test_a_unix_socket_is_reached_whatever_host_is_named(tmp_path: Path) -> None:
    peer = Peer()
    path = tmp_path / "engine.sock"
    handle = scripted(peer, [OK, OK])

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(closing, path)
    async with open_transport(connect_timeout=PATIENCE, uds=str(path)) as transport:
        for _ in range(2):
            assert await answer_of(transport, post("http://localhost/v1/chat")) == b"ok"
    server.close()
    await server.wait_closed()
    assert [request.partition(b"\r\n")[0] for request in peer.requests] == [b"POST /v1/chat HTTP/1.1"] * 2


async def test_a_unix_socket_that_is_not_there_is_a_connect_error(tmp_path: Path) -> None:
    async with open_transport(connect_timeout=PATIENCE, uds=str(tmp_path / "none.sock")) as transport:
        with pytest.raises(httpx.ConnectError, match="localhost"):
            await answer_of(transport, post("http://localhost/"))


async def test_a_direct_call_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(scripted(peer, [OK])) as base, open_transport(connect_timeout=PATIENCE, direct=True) as direct:
        assert await answer_of(direct, post(base)) == b"ok"
