"""The engine's HTTP interface: OpenAI's routes for one model, its health and its gauges."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.canonical import ChatRequest, EmbeddingRequest, EmbeddingResult, Finish
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.local.inference.errors import EngineDead
from adapters.local.inference.stats import Stats
from adapters.local.own import TENANT
from adapters.local.serving.chat import ChatService, OpenAnswer, gathered
from adapters.local.serving.gauges import MEDIA_TYPE, dump_stats
from adapters.local.serving.http import (
    Client,
    ClientLeft,
    beside_client,
    read_body,
    send_body,
    send_problem,
    send_start,
    unless_gone,
)
from adapters.local.serving.problems import INTERNAL, problem_of
from adapters.wire.changes import HEADER, dump_changes
from adapters.wire.json_text import encode
from adapters.wire.openai_answer import Stamp, dump_chat_result
from adapters.wire.openai_embeddings import dump_embedding_result, parse_embedding_request
from adapters.wire.openai_request import parse_chat_request
from adapters.wire.openai_stream import ChatStreamEncoder

log = logging.getLogger("engine")

_TENANT, _CHANGES = TENANT.encode(), HEADER.encode()


class Embedder(Protocol):
    """Texts to vectors; `adapters.local.serving.embeddings.EmbeddingService`."""

    @property
    def context(self) -> int: ...

    @property
    def dead(self) -> bool: ...

    def stats(self) -> Stats: ...

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResult:
        """Raises RelayError, InferenceError."""


class Model:
    """The one model, under all of its names: it answers in words or in vectors."""

    def __init__(self, names: Sequence[str], chat: ChatService | None = None, embedder: Embedder | None = None) -> None:
        self.names = names
        self.chat = chat
        self.embedder = embedder
        self.created = int(time.time())

    @property
    def engine(self) -> _Engine:
        engine = self.chat.engine if self.chat is not None else self.embedder
        assert engine is not None
        return engine

    def check(self, name: str) -> None:
        """Raises RelayError where another model is asked for."""
        if name not in self.names:
            known = ", ".join(self.names)
            raise RelayError(
                Fault.MODEL_NOT_FOUND, f"The model '{name[:200]}' does not exist here; there is {known}.", param="model"
            )


class _Engine(Protocol):
    @property
    def context(self) -> int: ...

    @property
    def dead(self) -> bool: ...

    def stats(self) -> Stats: ...


def create_app(model: Model, on_death: Callable[[str], None]) -> Starlette:
    """`on_death` is told, with the reason, that only a new process can answer: each time that somebody notices."""
    return Starlette(
        routes=[
            Route("/v1/chat/completions", Chat(model), methods=["POST"]),
            Route("/v1/embeddings", Embeddings(model), methods=["POST"]),
            Route("/v1/models", Models(model), methods=["GET"]),
            Route("/health", Health(model), methods=["GET"]),
            Route("/metrics", Metrics(model), methods=["GET"]),
        ],
        middleware=[Middleware(Boundary, on_death=on_death)],
        exception_handlers={HTTPException: _raise},
    )


async def _raise(request: object, exc: Exception) -> None:
    """Leaves the router's own errors to the boundary."""
    raise exc


class Chat:
    """`POST /v1/chat/completions`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = parse_chat_request(await read_body(receive))
        self._model.check(request.model)
        chat = self._model.chat
        if chat is None:
            raise _not_offered("makes vectors of texts (POST /v1/embeddings) and does not chat")
        service = chat

        async def work(client: Client) -> None:
            answers, changes = await service.begin(request, _tenant(scope))
            for answer in answers:
                client.cares_for(answer.cancel)
            headers = [(_CHANGES, dump_changes(changes).encode())] if changes else []
            if request.stream:
                return await self._stream(request, answers[0], send, headers)
            result = await gathered(answers)
            if not client.gone:
                await send_body(send, dump_chat_result(result, request, _stamp(request.model)), headers=headers)

        await beside_client(receive, work)

    @staticmethod
    async def _stream(
        request: ChatRequest, answer: OpenAnswer, send: Send, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Status and headers go out with the first event, so that what fails before has a status of its own."""
        encoder = ChatStreamEncoder(request, _stamp(request.model))
        begun = False
        try:
            async for events in answer.batches():
                frames = encoder.encode(events)
                if not begun:
                    begun = True
                    await send_start(send, 200, encoder.media_type, [(b"cache-control", b"no-cache"), *headers])
                    frames = encoder.start() + frames
                more = not isinstance(events[-1], Finish)
                await send({"type": "http.response.body", "body": frames, "more_body": more})
        except Exception as exc:
            if begun:
                await send({"type": "http.response.body", "body": encoder.error(problem_of(exc).body())})
            raise


class Embeddings:
    """`POST /v1/embeddings`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wish = parse_embedding_request(await read_body(receive))
        self._model.check(wish.request.model)
        embedder = self._model.embedder
        if embedder is None:
            raise _not_offered("chats (POST /v1/chat/completions) and makes no vectors")
        service = embedder

        async def work(client: Client) -> None:
            result = await unless_gone(client, service.embed(wish.request))
            if result is not None:
                await send_body(send, dump_embedding_result(result, wish, wish.request.model))

        await beside_client(receive, work)


class Models:
    """`GET /v1/models`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = self._model
        rows = [
            {
                "id": name,
                "object": "model",
                "created": model.created,
                "owned_by": "relay",
                "context_window": model.engine.context,
            }
            for name in model.names
        ]
        await send_body(send, encode({"object": "list", "data": rows}))


class Health:
    """`GET /health`: 200 as long as the engine can work."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._model.engine.dead:
            raise EngineDead("the engine failed")
        await send_body(send, b'{"status":"ok"}')


class Metrics:
    """`GET /metrics`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_body(send, dump_stats(self._model.engine.stats()), media_type=MEDIA_TYPE)


class Boundary:
    """Answers what is raised behind it; what fails once an answer has begun ends the connection."""

    def __init__(self, app: ASGIApp, on_death: Callable[[str], None]) -> None:
        self._app = app
        self._on_death = on_death

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientLeft:
            return
        except Exception as exc:  # noqa: BLE001 - the one place where a failure becomes an answer
            problem = problem_of(exc)
            if isinstance(exc, EngineDead):
                self._on_death(str(exc))
            if problem is INTERNAL:
                # The frames say where; the exception's own text might repeat what a caller wrote.
                frames = "".join(traceback.format_tb(exc.__traceback__))
                log.error("bug: %s\n%s", type(exc).__name__, frames)
            if not begun:
                await send_problem(send, problem)


def _tenant(scope: Scope) -> str:
    """Who asks, as the relay in front says; nobody else reaches the engine's socket."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == _TENANT), "")


def _not_offered(what: str) -> InvalidRequest:
    return InvalidRequest(f"This model {what}.", param="model", code="model_not_supported")


def _stamp(model: str) -> Stamp:
    return Stamp(
        id="chatcmpl-" + secrets.token_hex(16),
        created=int(time.time()),
        model=model,
        fingerprint="fp_" + hashlib.sha256(model.encode()).hexdigest()[:10],
    )
