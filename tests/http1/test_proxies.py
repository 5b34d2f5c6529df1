"""The way through a proxy: forwarded requests, tunnels, and TLS to and through it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from adapters.http1.route import route_to
from adapters.transport import open_transport
from tests.support.certificates import CERTIFICATE, KEY, server_context, write_pair
from tests.support.scripted import OK, PATIENCE, Peer, answer_of, cut, post, request_on, scripted, serving

pytestmark = pytest.mark.anyio

ACCEPTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy(Peer):
    """A proxy that opens tunnels. `via` is what the environment names, `answer` what it says when one is open."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer
        self.via = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.requests.append(await request_on(reader))
        host, _, port = self.requests[-1].split(b" ")[1].decode().rpartition(":")
        there, back = await asyncio.open_connection(host.strip("[]"), int(port))
        for piece in cut(self.answer, 5):
            writer.write(piece)
            for _ in range(10):
                await asyncio.sleep(0)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(copy(reader, back))
                group.create_task(copy(there, writer))
        finally:
            back.transport.abort()
            self.left.set()


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Until either side ends; then both."""
    try:
        while piece := await source.read(2**16):
            target.write(piece)
            await target.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    target.transport.abort()


@asynccontextmanager
async def proxying(
    monkeypatch: pytest.MonkeyPatch,
    context: ssl.SSLContext | None = None,
    *,
    answer: bytes = ACCEPTED,
    user: str = "",
) -> AsyncIterator[Proxy]:
    """A proxy for everything from here on."""
    proxy = Proxy(answer)
    async with serving(proxy.handle, context) as address:
        proxy.via = address.replace("://", f"://{user}")
        monkeypatch.setenv("all_proxy", proxy.via)
        yield proxy


@pytest.mark.parametrize("encrypted", [False, True], ids=["http proxy", "https proxy"])
async def test_https_goes_through_a_tunnel_and_its_connection_is_kept(
    transport: httpx.AsyncBaseTransport,
    monkeypatch: pytest.MonkeyPatch,
    trusted_certificate: Path,
    encrypted: bool,
) -> None:
    """With an https proxy that is TLS inside TLS."""
    context = server_context(trusted_certificate)
    peer = Peer()
    large = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000)
    async with (
        serving(scripted(peer, [OK, large, OK]), context) as base,
        proxying(monkeypatch, context if encrypted else None, user="us%40er:p%20w@") as proxy,
    ):
        assert await answer_of(transport, post(f"{base}/secret")) == b"ok"
        assert await answer_of(transport, post(base, bytes(300_000))) == bytes(1_000_000)
        assert await answer_of(transport, post(base)) == b"ok"
        await transport.aclose()
        with anyio.fail_after(PATIENCE):
            await proxy.left.wait()
    target = base.removeprefix("https://").encode()
    head = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic dXNAZXI6cCB3\r\n\r\n" % (target, target)
    assert proxy.requests == [head]
    assert (peer.connections, len(peer.requests)) == (1, 3)
    assert b"proxy-authorization" not in peer.requests[0].lower()


async def test_http_goes_to_an_https_proxy_as_it_is(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, trusted_certificate: Path
) -> None:
    peer = Peer()
    async with serving(scripted(peer, [OK, OK]), server_context(trusted_certificate)) as base:
        monkeypatch.setenv("http_proxy", base)
        for _ in range(2):
            assert await answer_of(transport, post("http://upstream.test:81/a")) == b"ok"
    assert peer.connections == 1
    assert peer.requests[0].startswith(b"POST http://upstream.test:81/a HTTP/1.1\r\nHost: upstream.test:81\r\n")


NO_TUNNEL: dict[str, tuple[list[bytes | str], str]] = {
    "a refusal": ([b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 6\r\n\r\nsecret"], "407"),
    "a refusal after an interim answer": ([b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n\r\n"], "502"),
    "another redirect": ([b"HTTP/1.1 302 Found\r\nlocation: /secret\r\n\r\n"], "302"),
    "no HTTP": ([b"secret\r\n\r\n"], "cannot be parsed"),
    "headers without end": ([b"HTTP/1.1 200 OK\r\nx-secret: " + b"secret" * 20_000], "too long"),
    "no answer": (["close"], "closed"),
    "a reset": (["reset"], "closed"),
}


@pytest.mark.parametrize(("script", "reason"), NO_TUNNEL.values(), ids=NO_TUNNEL)
async def test_a_proxy_that_opens_no_tunnel_is_a_proxy_error(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, script: list[bytes | str], reason: str
) -> None:
    async with serving(scripted(Peer(), script)) as base:
        monkeypatch.setenv("https_proxy", base)
        with pytest.raises(httpx.ProxyError, match=f"tunnel to upstream.test .*{reason}") as caught:
            await answer_of(transport, post("https://upstream.test/secret"))
    assert "secret" not in str(caught.value)


async def test_a_proxy_that_says_nothing_is_a_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer()
    async with (
        serving(scripted(peer, ["hold"])) as base,
        open_transport(connect_timeout=0.5, max_connections=1) as transport,
    ):
        monkeypatch.setenv("https_proxy", base)
        with pytest.raises(httpx.ConnectTimeout):
            await answer_of(transport, post("https://upstream.test/"))
        with anyio.fail_after(PATIENCE):
            await peer.left.wait()


@pytest.mark.parametrize("after", [ACCEPTED, ACCEPTED + b"no TLS, and more of it than a record's head"])
async def test_a_tunnel_that_leads_to_no_tls_is_a_connect_error(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, after: bytes
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_on(reader)
        writer.write(ACCEPTED)
        await reader.read(1)
        writer.write(after.removeprefix(ACCEPTED))

    async with serving(handle) as base:
        monkeypatch.setenv("https_proxy", base)
        with pytest.raises(httpx.ConnectError, match=r"upstream\.test"):
            await answer_of(transport, post("https://upstream.test/"))


async def test_a_tunnel_that_closes_as_soon_as_it_is_open_is_an_error(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(scripted(Peer(), [ACCEPTED])) as base:
        monkeypatch.setenv("https_proxy", base)
        with pytest.raises((httpx.ConnectError, httpx.ProxyError), match=r"upstream\.test"):
            await answer_of(transport, post("https://upstream.test/"))


async def test_what_a_proxy_adds_to_its_answer_is_not_taken_for_the_hosts(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, trusted_certificate: Path
) -> None:
    async with (
        serving(scripted(Peer(), [OK]), server_context(trusted_certificate)) as base,
        proxying(monkeypatch, answer=ACCEPTED.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n")),
    ):
        assert await answer_of(transport, post(base)) == b"ok"


async def test_the_hosts_certificate_counts_inside_a_tunnel_too(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    async with (
        serving(scripted(Peer(), [OK]), server_context(certificate)) as base,
        proxying(monkeypatch),
    ):
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await answer_of(transport, post(base))


async def test_an_https_proxys_own_certificate_counts(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    async with proxying(monkeypatch, server_context(certificate)):
        with pytest.raises(httpx.ProxyError, match="certificate"):
            await answer_of(transport, post("https://upstream.test/"))


async def test_a_certificate_for_another_name_is_refused(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_pair(tmp_path)
    pair = tmp_path / "pair.pem"
    pair.write_text(KEY + CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    async with serving(scripted(Peer(), [OK]), server_context(pair)) as base:
        with pytest.raises(httpx.ConnectError, match="certificate") as caught:
            await answer_of(transport, post(base))
    # `relay doctor` tells what TLS itself said.
    assert isinstance(caught.value.__context__, ssl.SSLCertVerificationError)


async def test_tls_names_the_host_and_the_protocol(
    transport: httpx.AsyncBaseTransport, trusted_certificate: Path
) -> None:
    names: list[str] = []
    context = server_context(trusted_certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda sock, name, context: names.append(name)
    protocols: list[str | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await request_on(reader)
        writer.write(OK)

    async with serving(handle, context) as base:
        assert await answer_of(transport, post(base.replace("127.0.0.1", "localhost"))) == b"ok"
    assert (names, protocols) == (["localhost"], ["http/1.1"])


async def test_a_host_without_tls_is_a_connect_error(transport: httpx.AsyncBaseTransport) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(handle) as base:
        with pytest.raises(httpx.ConnectError, match="TLS"):
            await answer_of(transport, post(base.replace("http:", "https:")))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".test"])
async def test_a_name_that_leads_nowhere_is_a_connect_error(transport: httpx.AsyncBaseTransport, host: str) -> None:
    with pytest.raises(httpx.ConnectError, match=host):
        await answer_of(transport, post(f"http://{host}/"))


UNUSABLE = {
    "socks5://127.0.0.1:1": "socks5",
    "http://": "without a host",
    "http://host:port": "address is none",
}


@pytest.mark.parametrize(("address", "reason"), UNUSABLE.items(), ids=UNUSABLE)
def test_a_proxy_that_cannot_be_used_is_a_proxy_error(
    monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    monkeypatch.setenv("all_proxy", address)
    with pytest.raises(httpx.ProxyError, match=reason):
        route_to(httpx.URL("http://upstream.test/"))


@pytest.mark.parametrize(
    ("address", "proxy"),
    {
        "proxy.test": ("proxy.test", 80, False, b""),
        "http://proxy.test:3128/": ("proxy.test", 3128, False, b""),
        "https://proxy.test": ("proxy.test", 443, True, b""),
        "http://[::1]:1": ("::1", 1, False, b""),
        "http://user@proxy.test": ("proxy.test", 80, False, b"Proxy-Authorization: Basic dXNlcjo=\r\n"),
    }.items(),
)
def test_the_environments_address_says_all_of_a_proxy(
    monkeypatch: pytest.MonkeyPatch, address: str, proxy: tuple[str, int, bool, bytes]
) -> None:
    monkeypatch.setenv("https_proxy", address)
    assert route_to(httpx.URL("https://upstream.test")).proxy == proxy
    assert route_to(httpx.URL("http://upstream.test")).proxy is None


@pytest.mark.parametrize("address", ["ftp://upstream.test/", "/path", "http://", "https:///path"])
def test_an_address_that_is_not_https_own_is_refused(address: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        route_to(httpx.URL(address))
