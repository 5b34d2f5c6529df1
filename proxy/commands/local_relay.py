"""A client of a relay on this machine."""

from __future__ import annotations

import ssl
from typing import NamedTuple

import httpx

from proxy.settings import Settings

_PATIENCE = 10.0  # seconds; it answers from memory, but may have its hands full, and is not to be taken for absent then


def open_client(settings: Settings, base_url: str) -> httpx.AsyncClient:
    """A client for `base_url` alone. Proxies of the environment are for the outer world."""
    timeout = httpx.Timeout(settings.first_byte_timeout + settings.idle_timeout, connect=5.0)
    return httpx.AsyncClient(base_url=base_url, verify=_trust(settings, base_url), trust_env=False, timeout=timeout)


def _trust(settings: Settings, base_url: str) -> ssl.SSLContext | bool:
    if settings.ssl_certfile is None or not base_url.startswith("https:"):
        return True
    # The relay's own certificate is written for its public name, not for this machine's address.
    context = ssl.create_default_context(cafile=str(settings.ssl_certfile))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class Running(NamedTuple):
    """A relay that answers."""

    upstream: str
    """`cloudflare` or `simulator`; empty if it does not say."""


async def find_relay(settings: Settings, base_url: str) -> Running | None:
    """The relay at this address; `None` if nobody or another program answers there."""
    try:
        async with open_client(settings, base_url) as client:
            response = await client.get("/healthz", timeout=_PATIENCE)
    except (httpx.HTTPError, ssl.SSLError, OSError):
        return None
    if response.status_code != 200 or "x-request-id" not in response.headers:
        return None
    return Running(response.headers.get("x-relay-upstream", ""))
