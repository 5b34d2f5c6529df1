"""A server that plays Cloudflare's v4 API on loopback, as `docs` and captures describe its wire.

Each model answers as the test scripted it. What was asked is kept in `requests`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from starlette.types import Receive, Scope, Send

ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKEN = "cfut_test-token-of-the-account"
BASE_PATH = "/client/v4"


class Asked:
    """One request as it arrived. `gone` is set once the caller has hung up, or has its whole answer."""

    def __init__(self, scope: Scope, body: bytes) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: str = scope["raw_path"].decode()
        self.query: str = scope["query_string"].decode()
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.body = body
        self.client: tuple[str, int] = scope["client"]
        self.gone = asyncio.Event()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Asked, Send], Awaitable[None]]


def answer(
    status: int = 200,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Script:
    """One whole answer; `body` is bytes, or a value to be sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def play(asked: Asked, send: Send) -> None:
        await _start(send, status, {"content-type": media_type, **(headers or {})})
        await send({"type": "http.response.body", "body": data})

    return play


def result(value: object) -> Script:
    """A success in the v4 envelope."""
    return answer(200, {"result": value, "success": True, "errors": [], "messages": []})


def failure(status: int, code: int, message: str = "AiError: AiError: it failed (8700d6e7)", **headers: str) -> Script:
    """An inference error as the live API words it."""
    body = {"errors": [{"message": message, "code": code}], "success": False, "result": {}, "messages": []}
    return answer(status, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


class Step:
    """A piece of a scripted stream: bytes to send once `after` is set, then `sent` is set."""

    def __init__(self, data: bytes, after: asyncio.Event | None = None) -> None:
        self.data = data
        self.after = after
        self.sent = asyncio.Event()


def stream(*pieces: bytes | Step, cut: bool = False, media_type: str = "text/event-stream") -> Script:
    """A streamed answer, piece by piece. `cut` breaks the connection instead of ending the body."""

    async def play(asked: Asked, send: Send) -> None:
        await _start(send, 200, {"content-type": media_type})
        for piece in pieces:
            step = piece if isinstance(piece, Step) else Step(piece)
            if step.after is not None:
                await step.after.wait()
            await send({"type": "http.response.body", "body": step.data, "more_body": True})
            step.sent.set()
        if cut:
            raise ConnectionAbortedError
        await send({"type": "http.response.body", "body": b""})

    return play


def frames(*values: object) -> bytes:
    """SSE frames; a string stands as it is, anything else as JSON."""
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    return b"".join(b"data: " + text.encode() + b"\n\n" for text in texts)


def held(release: asyncio.Event, then: Script) -> Script:
    """`then`, but not a byte of it before `release` is set."""

    async def play(asked: Asked, send: Send) -> None:
        await release.wait()
        await then(asked, send)

    return play


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 4}}
HELLO = result({"response": "Hello there", "tool_calls": [], "usage": USAGE})
HELLO_STREAM = stream(
    frames({"response": "Hello", "p": "abcd"}),
    frames({"response": " there", "p": "ab"}),
    frames({"response": "", "usage": USAGE, "p": "a"}, "[DONE]"),
)


async def hello(asked: Asked, send: Send) -> None:
    """An answer in the older shape, streamed if that was asked for."""
    await (HELLO_STREAM if asked.json.get("stream") else HELLO)(asked, send)


class FakeCloudflare:
    """The ASGI app. `scripts[model]` answers every call for that model, a list of them one call each."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.arrived = asyncio.Event()
        """Set by every request; a test clears it to wait for the next one."""
        self.scripts: dict[str, Script | deque[Script]] = {}
        self.rows: list[dict[str, Any]] = []
        self.token_status = "active"

    def script(self, model: str, *scripts: Script) -> None:
        """One script answers always; of several, each answers once and the last from then on."""
        self.scripts[model] = scripts[0] if len(scripts) == 1 else deque(scripts)

    @property
    def runs(self) -> list[Asked]:
        """The calls of models."""
        return [asked for asked in self.requests if "/ai/run/" in asked.path]

    def reset(self) -> None:
        """Forget what was asked and scripted."""
        self.requests.clear()
        self.scripts.clear()
        self.arrived.clear()

    async def asked_to_run(self) -> None:
        """Wait for the call of a model; the list of models is asked for at the start as well."""
        while not self.runs:
            self.arrived.clear()
            await self.arrived.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        asked = Asked(scope, await _body(receive))
        self.requests.append(asked)
        self.arrived.set()
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_watch(asked, receive))
            work = group.create_task(self._route(asked, send))
            gone = group.create_task(asked.gone.wait())
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            for task in (work, watcher, gone):
                task.cancel()
        asked.gone.set()

    async def _route(self, asked: Asked, send: Send) -> None:
        try:
            await self._script(asked)(asked, send)
        except ConnectionAbortedError:
            # uvicorn breaks the connection of an application that dies in mid-answer; say no more than that.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            raise

    def _script(self, asked: Asked) -> Script:
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return answer(401, _refusal(10000, "Authentication error"))
        path = asked.path.removeprefix(BASE_PATH)
        if path == "/user/tokens/verify":
            return result({"id": "t", "status": self.token_status})
        prefix = f"/accounts/{ACCOUNT}/ai/"
        if not path.startswith(prefix):
            return answer(404, _refusal(7003, f"Could not route to {path}, perhaps your object identifier is invalid?"))
        path = path.removeprefix(prefix)
        if path == "models/search":
            return result(self._page(asked.query))
        return self._model(unquote(path.removeprefix("run/")))

    def _page(self, query: str) -> list[dict[str, Any]]:
        return self.rows if "search=" not in query and ("page=1" in query.split("&") or "page=" not in query) else []

    def _model(self, model: str) -> Script:
        script = self.scripts.get(model)
        if script is None:
            return failure(400, 5007, "AiError: No such model or task")
        if isinstance(script, deque):
            return script.popleft() if len(script) > 1 else script[0]
        return script


def _refusal(code: int, message: str) -> dict[str, Any]:
    return {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw: Iterable[tuple[bytes, bytes]] = ((name.encode(), value.encode()) for name, value in headers.items())
    await send({"type": "http.response.start", "status": status, "headers": list(raw)})


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _watch(asked: Asked, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    asked.gone.set()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
