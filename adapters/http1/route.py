"""The way to a host: directly, or through the proxy that the environment names for it."""

from __future__ import annotations

from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote_to_bytes
from urllib.request import getproxies, proxy_bypass

import httpx

_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """`header` is a whole header line with its credentials, or empty."""

    host: str
    port: int
    secure: bool
    header: bytes


class Route:
    """How requests get to one origin; compared by identity.

    An http origin's requests go to a proxy as they are but for their target (`prefix` before the path) and the
    credentials (`proxy_header`). For an https origin the proxy is asked for a tunnel.
    """

    __slots__ = ("host", "port", "prefix", "proxy", "proxy_header", "secure", "tls_name")

    def __init__(self, url: httpx.URL, proxy: Proxy | None) -> None:
        self.secure = url.scheme == "https"
        self.host = url.host
        self.tls_name = url.raw_host.decode("ascii")
        self.port = url.port or _PORTS[url.scheme]
        self.proxy = proxy
        forwarded = proxy is not None and not self.secure
        self.prefix = b"http://%b" % url.netloc if forwarded else b""
        self.proxy_header = proxy.header if proxy is not None and forwarded else b""


def route_to(url: httpx.URL, *, direct: bool = False) -> Route:
    """The way to the host of an address; a `direct` one through no proxy.

    Raises UnsupportedProtocol for an address that is none of HTTP's, and ProxyError for an unusable proxy."""
    if url.scheme not in _PORTS or not url.host:
        raise httpx.UnsupportedProtocol(f"Not an HTTP address: {url.scheme}://{url.host}")
    return Route(url, None if direct else _proxy_from_environment(url))


def _proxy_from_environment(url: httpx.URL) -> Proxy | None:
    if proxy_bypass(url.host if url.port is None else f"{url.host}:{url.port}"):
        return None
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address:
        return None
    try:
        proxy = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL:
        raise httpx.ProxyError("The environment names a proxy whose address is none.") from None
    if proxy.scheme not in _PORTS:
        raise httpx.ProxyError(f"The environment names a {proxy.scheme} proxy; only http and https can be used.")
    if not proxy.host:
        raise httpx.ProxyError("The environment names a proxy without a host.")
    return Proxy(
        proxy.raw_host.decode("ascii"), proxy.port or _PORTS[proxy.scheme], proxy.scheme == "https", _credentials(proxy)
    )


def _credentials(proxy: httpx.URL) -> bytes:
    """The Proxy-Authorization header (RFC 7617) for a user and a password in the proxy's address."""
    if not proxy.userinfo:
        return b""
    user, _, password = proxy.userinfo.partition(b":")
    return b"Proxy-Authorization: Basic %b\r\n" % b64encode(
        b"%b:%b" % (unquote_to_bytes(user), unquote_to_bytes(password))
    )
