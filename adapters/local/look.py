"""One look at an engine, at the path that its profile names: a request over a connection of its own, and its status."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from adapters.local.address import EngineAddress
from adapters.local.condition import Condition
from adapters.local.spec import EngineSpec
from adapters.profiles import PROFILES

_LOADING = 503
_WITHOUT_MODELS = (404, 405)  # a server without a list of models is a server
_WRONG_KEY = (401, 403)  # nothing that another start would mend: its requests will tell


async def look(spec: EngineSpec, address: EngineAddress) -> Condition:
    """A `Probe`. Never SILENT: how long is too long is for its caller to say."""
    path = PROFILES[spec.profile].ready
    try:
        status = await _status(path, spec.api_key, address)
    except (OSError, ValueError):  # ValueError: what it says is no HTTP, or without an end
        return Condition.GONE
    if status == 200 or status in _WRONG_KEY or (status in _WITHOUT_MODELS and spec.profile == "openai"):
        return Condition.READY
    return Condition.LOADING if status == _LOADING else Condition.GONE


async def _status(path: str, api_key: str | None, address: EngineAddress) -> int:
    """Raises OSError, ValueError."""
    url = urlsplit(address.url)
    if address.uds is not None:
        reader, writer = await asyncio.open_unix_connection(address.uds)
    else:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        key = f"authorization: Bearer {api_key}\r\n" if api_key else ""
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {url.netloc}\r\nconnection: close\r\n{key}\r\n".encode())
        version, status, *_ = (await reader.readline()).split(None, 2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError("no HTTP")
        return int(status)
    finally:
        writer.close()
