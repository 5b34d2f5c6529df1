"""Does an engine answer, and does it have the models that relay.toml says?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import httpx
import msgspec

from adapters.local.spec import EngineSpec
from adapters.profiles import PROFILES
from adapters.transport import open_transport

_TIMEOUT = 10.0  # seconds for each answer
_MODELS = "/v1/models"
_WITHOUT_MODELS = (404, 405)  # a server without a list of models is a server
_START = "Start it, or correct its url; a firewall may stand between here and there."
_WAIT = "It may be hard at work: try again. If it stays so, its own log says more."
_KEY = "Set api_key, or api_key_env with the name of a variable that the relay has."
_URL = "Its url is that of its OpenAI interface, which mostly ends in /v1; is another program there?"
_NAMES = 'Name the engine\'s own models: models = { "what clients ask for" = "the engine\'s name" }.'


class Check(NamedTuple):
    url: str
    fine: bool
    text: str
    advice: str = ""
    passing: bool = False
    """What is not fine is no fault, and ends by itself."""


class _Model(msgspec.Struct):
    id: str
    status: msgspec.Raw | None = None
    """Of llama-server as a router: whether it has loaded this one of its models."""


class _Models(msgspec.Struct):
    data: list[_Model]


class _NotReady(Exception):
    def __init__(self, text: str, advice: str, *, passing: bool = False) -> None:
        self.text = text
        self.advice = advice
        self.passing = passing


async def check_engine(
    engine: EngineSpec, urls: Sequence[str], connect_timeout: float, patience: float | None = None
) -> list[Check]:
    """Ask each address whether it is ready, and for its models, which costs nothing; in the order of `urls`.

    `unix:/path` is a socket, behind which `/v1` is meant. `patience` in seconds is for each answer.
    """
    patience = patience or _TIMEOUT
    async with asyncio.TaskGroup() as group:
        checks = [group.create_task(_check(engine, url, min(connect_timeout, patience), patience)) for url in urls]
    return [check.result() for check in checks]


async def _check(engine: EngineSpec, url: str, connect_timeout: float, patience: float) -> Check:
    socket = url.removeprefix("unix:") if url.startswith("unix:") else None
    base = url if socket is None else "http://localhost/v1"
    headers = {"authorization": f"Bearer {engine.api_key}"} if engine.api_key else {}
    limits = httpx.Timeout(patience, connect=connect_timeout)
    transport = httpx.AsyncHTTPTransport(uds=socket) if socket else open_transport(connect_timeout=connect_timeout)
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=limits, trust_env=False) as client:
        profile = PROFILES[engine.profile]
        try:
            if profile.ready != _MODELS:
                await _get(client, base.removesuffix("/v1") + profile.ready, deaf=profile.deaf_while_busy)
            but = _WITHOUT_MODELS if profile.name == "openai" else ()
            response = await _get(client, f"{base}/models", deaf=profile.deaf_while_busy, but=but)
        except _NotReady as exc:
            return Check(url, False, exc.text, exc.advice, exc.passing)
    return _read(engine, url, response)


async def _get(client: httpx.AsyncClient, url: str, *, deaf: bool, but: Sequence[int] = ()) -> httpx.Response:
    """A success, or one of the statuses `but`; `deaf` is an engine that answers nothing while it works.

    Raises _NotReady.
    """
    try:
        response = await client.get(url)
    except httpx.TimeoutException:
        raise _NotReady("does not answer in time", _WAIT, passing=deaf) from None
    except httpx.HTTPError as exc:
        raise _NotReady(f"cannot be reached ({type(exc).__name__})", _START) from None
    status = response.status_code
    if status in (401, 403):
        raise _NotReady(f"refuses the key ({status})", _KEY)
    if status == 503 and b"oading" in response.content:
        raise _NotReady("is loading its model (503)", "Try again when it has.", passing=True)
    if status != 200 and status not in but:
        raise _NotReady(f"answers {status} at {httpx.URL(url).path}", _URL if status in (404, 405) else _WAIT)
    return response


def _read(engine: EngineSpec, url: str, response: httpx.Response) -> Check:
    if response.status_code in _WITHOUT_MODELS:
        return Check(url, True, "answers; it has no list of models")
    try:
        models = msgspec.json.decode(response.content, type=_Models).data
    except msgspec.DecodeError:
        return Check(url, False, "answers with something else than a list of models", _URL)
    listed = [model.id for model in models]
    missing = [own for own in engine.models.values() if own not in listed]
    if missing and not _answers_to_any_name(engine, models):
        text = f"does not list {', '.join(missing)}; it has {', '.join(listed) or 'no models'}"
        return Check(url, False, text, _NAMES)
    return Check(url, True, f"answers; models: {', '.join(listed) or 'none'}")


def _answers_to_any_name(engine: EngineSpec, listed: Sequence[_Model]) -> bool:
    """chatglm.cpp lists gpt-3.5-turbo whatever it serves (0.4.2); llama-server's only model is called by its file."""
    only = engine.profile == "llama-server" and len(listed) == 1 and listed[0].status is None
    return only or engine.profile == "chatglm.cpp"
