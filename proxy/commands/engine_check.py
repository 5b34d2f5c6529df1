"""Does an engine answer, and does it have the models that relay.toml says?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import httpx
import msgspec

from adapters.local.spec import EngineSpec
from adapters.transport import open_transport

_TIMEOUT = 10.0  # seconds for the list of models


class Check(NamedTuple):
    url: str
    fine: bool
    text: str


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


async def check_engine(engine: EngineSpec, urls: Sequence[str], connect_timeout: float) -> list[Check]:
    """Ask each address for `/models`, which costs nothing. `unix:/path` is a socket, behind which `/v1` is meant."""
    return [await _check(engine, url, connect_timeout) for url in urls]


async def _check(engine: EngineSpec, url: str, connect_timeout: float) -> Check:
    socket = url.removeprefix("unix:") if url.startswith("unix:") else None
    headers = {"authorization": f"Bearer {engine.api_key}"} if engine.api_key else {}
    timeout = httpx.Timeout(_TIMEOUT, connect=connect_timeout)
    transport = httpx.AsyncHTTPTransport(uds=socket) if socket else open_transport(connect_timeout=connect_timeout)
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=timeout, trust_env=False) as client:
        try:
            response = await client.get(f"{url if socket is None else 'http://localhost/v1'}/models")
        except httpx.TimeoutException:
            return Check(url, False, "does not answer in time")
        except httpx.HTTPError as exc:
            return Check(url, False, f"cannot be reached ({type(exc).__name__})")
    if response.status_code in (401, 403):
        return Check(url, False, f"refuses the key ({response.status_code}): api_key or api_key_env sets it")
    if response.status_code != 200:
        return Check(url, False, f"answers {response.status_code}")
    try:
        listed = [model.id for model in msgspec.json.decode(response.content, type=_Models).data]
    except msgspec.DecodeError:
        return Check(url, False, "answers with something else than a list of models: is it the base URL?")
    return _compared(engine, url, listed)


def _compared(engine: EngineSpec, url: str, listed: Sequence[str]) -> Check:
    # chatglm.cpp lists gpt-3.5-turbo whatever it serves (0.4.2).
    missing = [] if engine.profile == "chatglm.cpp" else [own for own in engine.models.values() if own not in listed]
    if missing:
        return Check(url, False, f"does not list {', '.join(missing)}; it has {', '.join(listed) or 'no models'}")
    return Check(url, True, f"answers; models: {', '.join(listed) or 'none'}")
