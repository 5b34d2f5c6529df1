"""The simulator as its scripts want it: the same protocols, with delays, errors, and answers that go wrong.

A caller of the relay's own interface sees what the relay makes of such an upstream. A caller of an emulated surface
sees the wire itself (`Call.native`): there the answer is given whole, and `Scene.spoil` says what to do to its bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from types import UnionType
from typing import Any, TypeVar, get_args

import msgspec

from adapters.base import Call, Embedder, EventStream, NativeTask
from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Delta,
    EmbeddingRequest,
    EmbeddingResult,
    Finish,
    NativeResult,
    ToolCall,
)
from adapters.catalogue import Model
from adapters.errors import Fault, InvalidRequest, RelayError, UpstreamTruncated
from adapters.simulator import text
from adapters.simulator.chat import Simulator
from adapters.simulator.director import Director
from adapters.simulator.draft import Draft
from adapters.simulator.plan import Piece, Plan, joined
from adapters.simulator.script import Scene, Script, ScriptedError, Trouble
from adapters.simulator.tokens import count
from adapters.wire.json_text import dump_text
from adapters.wire.mismatch import refusal
from adapters.wire.native.forms import form_of
from adapters.wire.workers_ai import ChatStreamDecoder, parse_chat_result

T = TypeVar("T", EmbeddingResult, NativeResult)

_NEVER = float("inf")
_UNREADABLE = b'{"response":'


class ScriptedChat:
    """A ChatAdapter: the simulator under a director."""

    def __init__(self, simulator: Simulator, director: Director) -> None:
        self.name = simulator.name
        self._simulator = simulator
        self._director = director

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        scene, plan = await self._begin(request, call)
        trouble = scene.script.trouble
        await self._director.wait(_NEVER if trouble == "hang" else sum(piece.delay for piece in plan.pieces), call)
        if trouble is not None:
            _spoil_whole(trouble, scene, call)
        return joined(plan)

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        scene, plan = await self._begin(request, call)
        async with aclosing(self._play(plan, scene, call)) as events:
            yield events

    async def _begin(self, request: ChatRequest, call: Call) -> tuple[Scene, Plan]:
        """The answer to come. Raises RelayError for a request that gets none."""
        model = self._simulator.model(request.model)
        scene = self._director.scene(call, model, [text.last_user_text(request)], stream=request.stream)
        self._simulator.accept(request, model, call)
        script = scene.script
        if script.error is not None:
            await self._director.wait(script.delay or 0, call)
            raise ScriptedError(script, script.error, model)
        plan = directed(self._simulator.plan(request, model, given_answer(script)), script)
        self._director.spend(model, plan.finish.usage)
        return scene, plan

    async def _play(self, plan: Plan, scene: Scene, call: Call) -> AsyncGenerator[list[ChatEvent], None]:
        trouble = scene.script.trouble
        fateful = scene.script.trouble_at(len(plan.pieces))
        events: list[tuple[ChatEvent, float]] = [(piece.delta, piece.delay) for piece in plan.pieces]
        for at, (event, delay) in enumerate([*events, (plan.finish, 0.0)]):
            if at == fateful and trouble is not None:
                if not call.native:
                    await self._go_wrong(trouble, call, begun=at > 0)
                scene.spoil = trouble
            else:
                await self._director.wait(delay, call, begun=at > 0)
            yield [event]

    async def _go_wrong(self, trouble: Trouble, call: Call, *, begun: bool) -> None:
        """Raises what the relay's own decoder makes of it."""
        if trouble == "hang":
            await self._director.wait(_NEVER, call, begun=begun)
        elif trouble == "malformed":
            ChatStreamDecoder().feed(b"data: " + _UNREADABLE + b"\n\n")
        else:
            raise UpstreamTruncated


class ScriptedTasks:
    """An Embedder and NativeTask: the simulator's, under a director."""

    def __init__(
        self, embedder: Embedder, task: NativeTask, director: Director, *, model_of: Callable[[str], Model]
    ) -> None:
        self.name = task.name
        self._embedder = embedder
        self._task = task
        self._director = director
        self._model_of = model_of

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        model = self._model_of(request.model)

        async def work(script: Script) -> EmbeddingResult:
            result = await self._embedder.embed(request, call)
            vectors = result.vectors if script.result is None else _given_vectors(script.result)
            return EmbeddingResult(vectors=vectors, pooling=result.pooling, usage=script.told_usage or result.usage)

        return await self._perform(model, request.texts, call, work)

    async def run(self, model: Model, inputs: Any, call: Call) -> NativeResult:
        async def work(script: Script) -> NativeResult:
            result = await self._task.run(model, inputs, call)
            value = result.value if script.result is None else _given_result(script.result, model)
            return NativeResult(value, script.told_usage or result.usage)

        return await self._perform(model, list(texts_within([inputs])), call, work)

    async def _perform(
        self, model: Model, texts: Sequence[str], call: Call, work: Callable[[Script], Awaitable[T]]
    ) -> T:
        scene = self._director.scene(call, model, texts, stream=False)
        script = scene.script
        await self._director.wait(_NEVER if script.trouble == "hang" else script.delay or 0, call)
        if script.error is not None:
            raise ScriptedError(script, script.error, model)
        result = await work(script)
        self._director.spend(model, result.usage)
        if script.trouble is not None:
            _spoil_whole(script.trouble, scene, call)
        return result


def _spoil_whole(trouble: Trouble, scene: Scene, call: Call) -> None:
    """Raises what the relay says of a whole answer that broke off or makes no sense."""
    if call.native:
        scene.spoil = trouble
        return
    if trouble == "malformed":
        parse_chat_result(_UNREADABLE)
    raise RelayError(Fault.UPSTREAM_ERROR, "The connection to the upstream broke.")


# ---------------------------------------------------------------- what was given


def given_answer(script: Script) -> Draft | None:
    """The answer that a script puts into the mouth of a chat model, if it does."""
    if script.text is None and script.tool_calls is None:
        return None
    calls = tuple(ToolCall(None, call.name, dump_text(call.arguments)) for call in script.tool_calls or ())
    return Draft(text=script.text or "", calls=calls)


def directed(plan: Plan, script: Script) -> Plan:
    """The plan with the script's times, and with the end that it names."""
    finish = Finish(script.finish_reason or plan.finish.reason, script.told_usage or plan.finish.usage)
    return Plan(tuple(_timed(plan.pieces, script)), finish)


def _timed(pieces: Sequence[Piece], script: Script) -> Iterator[Piece]:
    if script.delay and not pieces:
        yield Piece(Delta(), script.delay)  # a model that says nothing takes its time, too
    for at, piece in enumerate(pieces):
        delay = piece.delay if script.rate is None else _tokens(piece) / script.rate
        if at == 0:
            delay = piece.delay if script.delay is None else script.delay
        yield Piece(piece.delta, delay)


def _tokens(piece: Piece) -> int:
    delta = piece.delta
    calls = sum(count(call.name or "") + count(call.arguments) for call in delta.tool_calls)
    return count(delta.text) + count(delta.reasoning) + calls


def _given_vectors(result: Any) -> list[list[float]]:
    try:
        return msgspec.convert(result, _Vectors).data
    except msgspec.ValidationError as exc:
        raise _no_result(exc, result, _Vectors) from None


class _Vectors(msgspec.Struct):
    data: list[list[float]]


def _given_result(result: Any, model: Model) -> Any:
    form = form_of(model.native_result, model.task, model.input_kinds)
    if form is None or form.result is None:
        raise InvalidRequest(f"The script's 'result' does not fit: '{model.id}' answers with bytes.", param="result")
    kind = _nearest(result, get_args(form.result)) if isinstance(form.result, UnionType) else form.result
    try:
        return msgspec.convert(result, kind)
    except msgspec.ValidationError as exc:
        raise _no_result(exc, result, kind) from None


def _nearest(result: Any, kinds: Sequence[type[msgspec.Struct]]) -> type[msgspec.Struct]:
    """Of several kinds of results the one with the most of the keys that were given, else the last."""
    given = set(result) if isinstance(result, dict) else set()
    return max(reversed(kinds), key=lambda kind: len(given.intersection(kind.__struct_fields__)))


def _no_result(exc: msgspec.ValidationError, result: Any, kind: Any) -> InvalidRequest:
    why = refusal(exc, result, kind, at="result")
    return InvalidRequest(f"The script's 'result' does not fit. {why.message}", param=why.param)


def texts_within(values: Iterable[Any]) -> Iterator[str]:
    """Every text among the values, and in the lists and structs that are among them."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from texts_within(value)
        elif isinstance(value, msgspec.Struct):
            yield from texts_within(getattr(value, name) for name in value.__struct_fields__)
