"""What a backend has to offer, and what travels with every call to one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from adapters.canonical import (
    Change,
    ChatEvent,
    ChatRequest,
    ChatResult,
    EmbeddingRequest,
    EmbeddingResult,
    NativeResult,
    Usage,
)
from adapters.catalogue import Model
from adapters.errors import InvalidRequest, RelayError
from adapters.simulator.script import HEADER as SCRIPT_HEADER
from adapters.simulator.script import Scene, Script

EventStream = AsyncIterator[list[ChatEvent]]
"""Events in the batches in which they arrived: what came in one read goes out in one write."""


class Call:
    """One request's way through the relay: its limits, and what its caller is told beside the answer.

    `deadline` is on the clock of `time.monotonic()`; `stream_mode` is the caller's wish (`auto`, `native`,
    `synthetic`), if it has one; `changes` and `upstream` are those of the backend that is answering now.
    """

    __slots__ = (
        "affinity",
        "changes",
        "committed",
        "completion_tokens",
        "deadline",
        "first_event_at",
        "handovers",
        "id",
        "model",
        "native",
        "outcome",
        "progress",
        "prompt_tokens",
        "refusal",
        "replaced",
        "scene",
        "script",
        "stream_mode",
        "strict",
        "tenant",
        "upstream",
        "upstream_seconds",
        "upstream_since",
    )

    def __init__(self, id: str, *, deadline: float = float("inf"), strict: bool = False) -> None:
        self.id = id
        self.deadline = deadline
        self.strict = strict
        self.affinity: str | None = None
        self.tenant: str | None = None
        """Who asks, by a label that is no secret."""
        self.stream_mode: str | None = None
        self.refusal: RelayError | None = None
        """What is wrong with the request before anybody has read its body."""
        self.native = False
        """The caller speaks Workers AI's own wire, and so is to see what a script does to it."""
        self.script: Script | None = None
        """What the caller wants a simulator to do."""
        self.scene: Scene | None = None
        """What a simulator has decided to do."""
        self.replaced: tuple[Change, ...] = ()
        """Changes that the relay decided on before any backend was asked."""
        self.handovers: list[str] = []
        """Who was to answer before the one who does, and why not: `cloudflare=insufficient_quota`."""
        self.committed = False
        """The answer's status has been sent."""
        self.progress = ""
        """What is waited for before the answer can begin, in a few words for the client: `loading gpu 42%`."""
        self.upstream: str | None = None
        self.changes: tuple[Change, ...] = ()
        self.upstream_seconds = 0.0
        self.upstream_since: float | None = None
        """When the attempt under way began; on the clock of `deadline`."""
        self.model: str | None = None
        """The id of the model that was asked for, once it is known."""
        self.first_event_at: float | None = None
        """When the first event of a streamed answer was there; on the clock of `deadline`."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.outcome: str | None = None
        """The code of what went wrong; `None` while nothing has."""

    def accept(self, upstream: str, changes: Sequence[Change]) -> None:
        """Note who is about to answer and what had to be changed for it.

        Raises InvalidRequest in strict mode if any of the changes can alter the answer.
        """
        self.upstream = upstream
        unheard = () if self.script is None or self.scene is not None else (Change(SCRIPT_HEADER, "ignored"),)
        unique = dict.fromkeys((*self.replaced, *changes, *unheard))
        self.changes = tuple(sorted(unique, key=lambda change: change.kind == "ignored"))  # what matters first
        listed = [change for change in self.changes if change.kind != "ignored"]
        if self.strict and listed:
            names = ", ".join(map(str, listed))
            raise InvalidRequest(
                f"Strict mode: this model cannot take the request as it is ({names}).",
                param=listed[0].field,
                code="unsupported_parameter" if listed[0].kind != "clamped" else "invalid_value",
            )

    def count(self, usage: Usage | None) -> None:
        """Note what a whole answer has used."""
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens

    def remaining(self) -> float:
        """Seconds left for this request."""
        return self.deadline - time.monotonic()


class ChatAdapter(Protocol):
    """Answers chats; one instance serves all requests.

    Both raise RelayError. Entering `stream_chat` means that the upstream accepted the request;
    nothing has reached the client by then.
    """

    @property
    def name(self) -> str: ...

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult: ...

    def stream_chat(self, request: ChatRequest, call: Call) -> AbstractAsyncContextManager[EventStream]: ...


class Embedder(Protocol):
    """Turns texts into vectors. Raises RelayError."""

    @property
    def name(self) -> str: ...

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult: ...


class NativeTask(Protocol):
    """Answers every task that has no protocol of its own.

    `inputs` is the struct of `adapters.wire.native.inputs` that the model's form names; the result's value is one of
    `adapters.wire.native.results`, or Media. Raises RelayError.
    """

    @property
    def name(self) -> str: ...

    async def run(self, model: Model, inputs: Any, call: Call) -> NativeResult: ...
