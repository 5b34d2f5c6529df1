"""Which of the four cells a request gets, and what is remembered of models that cannot stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import repeat

import anyio
import anyio.lowlevel
import pytest

from adapters.base import Call, EventStream
from adapters.canonical import ChatEvent, ChatRequest, ChatResult, Choice, Delta, Finish, JsonFormat, Message, Usage
from adapters.catalogue import CHAT_TASK, Model
from adapters.cloudflare import NeedsStream
from adapters.errors import Fault, RelayError, StreamUnsupported
from proxy.backends import Route, Upstream
from proxy.modes import REMEMBERED, Modes
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio

MODEL = Model(id="@cf/acme/one", task=CHAT_TASK, status="listed")
OTHER = Model(id="@cf/acme/two", task=CHAT_TASK, status="listed")
WHOLE_ONLY = Model(id="@cf/acme/three", task=CHAT_TASK, status="listed", streaming=False)
REQUEST = ChatRequest(model=MODEL.id, messages=(Message(role="user", content="Hi"),), max_tokens=9)
JSON_REQUEST = ChatRequest(model=MODEL.id, messages=REQUEST.messages, response_format=JsonFormat())
USAGE = Usage(prompt_tokens=3, completion_tokens=2)
RESULT = ChatResult(choices=(Choice(text="whole"),), usage=USAGE)
BATCHES: list[list[ChatEvent]] = [[Delta("str")], [Delta("eamed"), Finish(None, USAGE)]]


class Scripted:
    """An adapter that notes how it was asked; `stream` and `whole` may be errors."""

    name = "scripted"

    def __init__(
        self,
        *,
        stream: RelayError | Iterable[list[ChatEvent]] = BATCHES,
        whole: RelayError | ChatResult = RESULT,
    ) -> None:
        self._stream = stream
        self._whole = whole
        self.asked: list[str] = []
        self.changes: list[str] = []

    def _ask(self, how: str, call: Call) -> None:
        call.accept(self.name, ())
        self.asked.append(how)

    async def chat(self, request: ChatRequest, call: Call) -> ChatResult:
        self._ask("whole", call)
        if isinstance(self._whole, RelayError):
            raise self._whole
        return self._whole

    @asynccontextmanager
    async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
        self._ask("stream", call)
        if isinstance(self._stream, RelayError):
            raise self._stream
        yield _each(self._stream)


async def _each(batches: Iterable[list[ChatEvent]]) -> AsyncIterator[list[ChatEvent]]:
    for batch in batches:
        await anyio.lowlevel.checkpoint()
        yield batch


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def stream(
    modes: Modes, adapter: Scripted, *, model: Model = MODEL, request: ChatRequest = REQUEST, call: Call | None = None
) -> list[ChatEvent]:
    route = Route(adapter.name, Upstream(chat=adapter), model)
    async with modes.stream_chat(route, adapter, request, model, call or Call("id")) as batches:
        return [event async for batch in batches for event in batch]


def wishing(mode: str | None) -> Call:
    call = Call("id")
    call.stream_mode = mode
    return call


# the operator's default, the operator's word on the model, the caller's wish: how the upstream is asked
WISHES = {
    "nobody minds": ("auto", None, None, "stream"),
    "the default": ("synthetic", None, None, "whole"),
    "the model's before the default": ("synthetic", "native", None, "stream"),
    "auto for the model": ("synthetic", "auto", None, "stream"),
    "the caller's before the model's": ("native", "native", "synthetic", "whole"),
    "the caller's before the default": ("synthetic", None, "native", "stream"),
    "auto for the caller": ("synthetic", "synthetic", "auto", "stream"),
}


@pytest.mark.parametrize(("default", "by_model", "wish", "asked"), WISHES.values(), ids=WISHES)
async def test_whose_wish_counts(default: str, by_model: str | None, wish: str | None, asked: str) -> None:
    modes = Modes(default, {MODEL.id: by_model} if by_model else {})
    adapter = Scripted()
    call = wishing(wish)
    events = await stream(modes, adapter, call=call)
    assert adapter.asked == [asked]
    assert call.changes == ()
    assert events[-1] == Finish("stop", USAGE)


async def test_a_replayed_answer_is_one_delta_and_a_finish() -> None:
    assert await stream(Modes("synthetic", {}), Scripted()) == [Delta("whole"), Finish("stop", USAGE)]


# the model, the request, the wish: how the upstream is asked, what is listed
IMPOSSIBLE = {
    "a model that is known not to stream": (WHOLE_ONLY, REQUEST, None, "whole", ""),
    "the same, though told to": (WHOLE_ONLY, REQUEST, "native", "stream", ""),
    "JSON mode": (MODEL, JSON_REQUEST, None, "whole", ""),
    "JSON mode, though told to stream": (MODEL, JSON_REQUEST, "native", "whole", "stream=emulated"),
    "JSON mode, told to be synthetic": (MODEL, JSON_REQUEST, "synthetic", "whole", ""),
}


@pytest.mark.parametrize(("model", "request_", "wish", "asked", "listed"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_what_cannot_be_streamed_is_replayed_and_listed_where_a_stream_was_insisted_on(
    model: Model, request_: ChatRequest, wish: str | None, asked: str, listed: str
) -> None:
    adapter = Scripted()
    call = wishing(wish)
    await stream(Modes("auto", {}), adapter, model=model, request=request_, call=call)
    assert adapter.asked == [asked]
    assert ", ".join(map(str, call.changes)) == listed


@pytest.mark.parametrize(
    ("default", "by_model", "wish"), [("auto", None, "native"), ("native", None, None), ("auto", "native", None)]
)
async def test_a_stream_that_was_insisted_on_and_cannot_be_is_listed(
    default: str, by_model: str | None, wish: str | None
) -> None:
    adapter = Scripted(stream=StreamUnsupported("no", remember=True))
    modes = Modes(default, {MODEL.id: by_model} if by_model else {})
    for asked in (["stream", "whole"], ["stream", "whole", "whole"]):
        call = wishing(wish)
        assert (await stream(modes, adapter, call=call))[0] == Delta("whole")
        assert list(map(str, call.changes)) == ["stream=emulated"]
        assert adapter.asked == asked


async def test_in_strict_mode_it_is_refused_instead() -> None:
    adapter = Scripted(stream=StreamUnsupported("no", remember=True))
    call = wishing("native")
    call.strict = True
    with pytest.raises(RelayError) as caught:
        await stream(Modes("auto", {}), adapter, call=call)
    assert (caught.value.fault, caught.value.param) == (Fault.INVALID_VALUE, "stream")
    assert adapter.asked == ["stream"]


async def test_a_model_that_cannot_stream_is_remembered_for_an_hour_and_by_itself() -> None:
    clock = Clock()
    modes = Modes("auto", {}, clock=clock)
    adapter = Scripted(stream=StreamUnsupported("no", remember=True))
    await stream(modes, adapter)
    assert adapter.asked == ["stream", "whole"]

    adapter.asked.clear()
    clock.now += REMEMBERED - 1
    await stream(modes, adapter)
    assert adapter.asked == ["whole"]
    await stream(modes, adapter, model=OTHER)
    assert adapter.asked == ["whole", "stream", "whole"]

    adapter.asked.clear()
    clock.now += 1
    await stream(modes, adapter)
    assert adapter.asked == ["stream", "whole"]


async def test_a_request_that_cannot_be_streamed_says_nothing_of_its_model() -> None:
    modes = Modes("auto", {})
    adapter = Scripted(stream=StreamUnsupported("no", remember=False))
    for _ in range(2):
        await stream(modes, adapter)
    assert adapter.asked == ["stream", "whole"] * 2


async def test_a_whole_answer_that_takes_too_long_is_asked_for_as_a_stream() -> None:
    adapter = Scripted(whole=NeedsStream())
    result = await Modes("auto", {}).chat(adapter, REQUEST, Call("id"))
    assert result.choices[0].text == "streamed" and result.choices[0].finish_reason == "stop"
    assert adapter.asked == ["whole", "stream"]


async def test_a_whole_answer_that_is_streamed_has_as_long_as_its_client_waits() -> None:
    adapter = Scripted(whole=NeedsStream(), stream=repeat([Delta("x")]))
    with anyio.fail_after(DEADLINE), pytest.raises(NeedsStream):
        await Modes("auto", {}).chat(adapter, REQUEST, Call("id", deadline=time.monotonic() + 0.05))
    assert adapter.asked == ["whole", "stream"]


async def test_a_synthetic_stream_that_takes_too_long_is_collected_too() -> None:
    adapter = Scripted(whole=NeedsStream())
    assert await stream(Modes("synthetic", {}), adapter) == [Delta("streamed"), Finish("stop", USAGE)]


async def test_where_neither_way_is_open_the_time_was_too_short() -> None:
    adapter = Scripted(whole=NeedsStream(), stream=StreamUnsupported("no", remember=False))
    with pytest.raises(RelayError) as caught:
        await Modes("auto", {}).chat(adapter, JSON_REQUEST, Call("id"))
    assert caught.value.fault is Fault.UPSTREAM_TIMEOUT
    assert adapter.asked == ["whole", "stream"]


async def test_other_failures_are_nobodys_reason_to_ask_differently() -> None:
    adapter = Scripted(stream=RelayError(Fault.RATE_LIMITED, "busy"))
    with pytest.raises(RelayError):
        await stream(Modes("auto", {}), adapter)
    assert adapter.asked == ["stream"]


CUT = ChatRequest(model=MODEL.id, messages=REQUEST.messages, stop=("END",))


async def test_the_rest_of_a_cut_answer_is_read_for_its_usage_alone() -> None:
    adapter = Scripted(stream=[[Delta("one E")], [Delta("ND two")], [Delta("three"), Finish("length", USAGE)]])
    assert await stream(Modes("auto", {}), adapter, request=CUT) == [Delta("one "), Finish("stop", USAGE)]


async def test_what_is_held_back_for_a_stop_is_no_batch() -> None:
    adapter = Scripted(stream=[[Delta("E")], [Delta("ND two")], [Finish("length", USAGE)]])
    assert await stream(Modes("auto", {}), adapter, request=CUT) == [Finish("stop", USAGE)]


async def test_a_cut_answer_that_breaks_afterwards_is_whole() -> None:
    class Breaking(Scripted):
        @asynccontextmanager
        async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
            async def batches() -> AsyncIterator[list[ChatEvent]]:
                yield [Delta("one END")]
                raise RelayError(Fault.UPSTREAM_ERROR, "broke")

            yield batches()

    events = await stream(Modes("auto", {}), Breaking(), request=CUT)
    finish = events[-1]
    assert events[0] == Delta("one ") and isinstance(finish, Finish)
    assert finish.reason == "stop" and finish.usage is not None and finish.usage.estimated


async def test_the_wait_for_the_usage_of_a_cut_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Scripted):
        @asynccontextmanager
        async def stream_chat(self, request: ChatRequest, call: Call) -> AsyncIterator[EventStream]:
            async def batches() -> AsyncIterator[list[ChatEvent]]:
                yield [Delta("one END")]
                await anyio.Event().wait()

            yield batches()

    monkeypatch.setattr("adapters.answer.USAGE_PATIENCE", 0.02)
    with anyio.fail_after(DEADLINE):
        events = await stream(Modes("auto", {}), Silent(), request=CUT)
    assert isinstance(events[-1], Finish) and events[-1].reason == "stop"
