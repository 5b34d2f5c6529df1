"""What makes an upstream's events a truthful answer to the request, whichever upstream it was.

One pass over the events, streamed or whole: text ends at a stop sequence, a forced call that leaked
into the text becomes a call, one call is kept where only one was allowed, and the end names a reason and
a usage in every case.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

import anyio

from adapters.base import EventStream
from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    FinishReason,
    NamedTool,
    ToolCallDelta,
    Usage,
)
from adapters.errors import Fault, RelayError, UpstreamTruncated
from adapters.tokens import estimate_prompt, estimate_text
from adapters.wire.json_text import NotJson, dump_text, loads
from adapters.wire.think import overlap
from adapters.wire.tool_calls import join_tool_calls

USAGE_PATIENCE = 2.0
"""Seconds for the usage of an answer that a stop sequence has cut."""


class AnswerRules:
    """Applies the rules to one answer: `feed` every batch, then `close` once."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._stop = StopCutter(request.stop) if request.stop else None
        self._leak = LeakedCall(request) if request.forces_tool else None
        self._one_call = request.parallel_tool_calls is False
        self._calls = 0
        self._characters = 0
        self._finish: Finish | None = None
        self.usage: Usage | None = None
        """What the answer has used, once it is whole."""
        # Most requests need nothing but the count, and their batches pass untouched.
        self._plain = self._stop is None and self._leak is None and not self._one_call

    @property
    def cut(self) -> bool:
        """A stop sequence was met: no more text will come out, though the usage may still come in."""
        return self._stop is not None and self._stop.cut

    def feed(self, batch: Sequence[ChatEvent]) -> list[ChatEvent]:
        """The events to pass on; the finish is kept for `close`."""
        out: list[ChatEvent] = []
        for event in batch:
            if isinstance(event, Finish):
                self._finish = event
            elif self._plain:
                self._count(event)
                out.append(event)
            else:
                out += self._apply(event)
        return out

    def close(self) -> list[ChatEvent]:
        """What was kept back, and the one `Finish`. Raises UpstreamTruncated if the upstream gave none."""
        out: list[ChatEvent] = []
        if self._leak is not None:
            for delta in self._leak.close():
                out += self._cut_text(delta)
        if self._stop is not None:
            out += self._counted(self._stop.close())
        finish = self._finish
        if finish is None:
            if not self.cut:
                raise UpstreamTruncated
            finish = Finish()
        usage = self.usage = finish.usage or self._estimate()
        return [*out, Finish(self._reason(finish.reason, usage), usage)]

    def _apply(self, delta: Delta) -> list[ChatEvent]:
        if self.cut:
            self._characters += len(delta.text) + len(delta.reasoning)
            return []  # a model that had stopped there would have said none of this
        if self._one_call and delta.tool_calls:
            calls = tuple(call for call in delta.tool_calls if call.index == 0)
            delta = Delta(delta.text, delta.reasoning, calls, delta.logprobs)
        out: list[ChatEvent] = []
        for piece in self._leak.feed(delta) if self._leak else (delta,):
            out += self._cut_text(piece)
        return out

    def _cut_text(self, delta: Delta) -> list[ChatEvent]:
        return self._counted(self._stop.feed(delta) if self._stop else [delta])

    def _counted(self, deltas: Iterable[Delta]) -> list[ChatEvent]:
        out: list[ChatEvent] = []
        for delta in deltas:
            if delta.text or delta.reasoning or delta.tool_calls or delta.logprobs:
                self._count(delta)
                out.append(delta)
        return out

    def _count(self, delta: Delta) -> None:
        self._characters += len(delta.text) + len(delta.reasoning)
        for call in delta.tool_calls:
            self._characters += len(call.arguments)
            self._calls = max(self._calls, call.index + 1)

    def _estimate(self) -> Usage:
        return Usage(
            prompt_tokens=estimate_prompt(self._request),
            completion_tokens=estimate_text(self._characters),
            estimated=True,
        )

    def _reason(self, told: FinishReason | None, usage: Usage) -> FinishReason:
        if self._calls and (self.cut or told in (None, "stop")):
            return "tool_calls"  # a client that is told `stop` never runs the calls
        if self.cut:
            return "stop"
        if told is not None and not (told == "tool_calls" and not self._calls):
            return told
        limit = self._request.max_tokens
        counted = not usage.estimated  # an estimate errs on the high side
        return "length" if limit is not None and counted and usage.completion_tokens >= limit else "stop"


class StopCutter:
    """Ends the text before the stop sequence that is complete first, wherever the pieces were cut."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.cut = False

    def feed(self, delta: Delta) -> list[Delta]:
        if self.cut:
            return []
        if not delta.text:
            return [*self.close(), delta] if delta.tool_calls else [delta]
        text = self._held + delta.text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.cut, self._held = True, ""
            _, start = min(found)
            whole = len(text) == len(delta.text)  # else the tokens of what was kept back are gone
            logprobs = _logprobs_until(delta.logprobs, start) if whole and delta.logprobs else None
            return [Delta(text[:start], delta.reasoning, logprobs=logprobs)]
        keep = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return [Delta(text[: len(text) - keep], delta.reasoning, delta.tool_calls, delta.logprobs)]

    def close(self) -> list[Delta]:
        held, self._held = self._held, ""
        return [Delta(text=held)] if held and not self.cut else []


def _logprobs_until(entries: list[Any], length: int) -> list[Any]:
    """The entries of the tokens that lie within the first `length` characters."""
    kept, end = [], 0
    for entry in entries:
        end += len(str(entry.get("token", ""))) if isinstance(entry, dict) else 0
        if end > length:
            break
        kept.append(entry)
    return kept


MOST_HELD = 2**20
"""Characters of a text that are kept back because it may be a call."""

MOST_COLLECTED = 64 * 2**20
"""Characters of an answer that is put together from a stream; more than any model can say."""


class LeakedCall:
    """A forced call that came as text, as a call.

    Seen of GPT-OSS and Granite: `{"name": ..., "arguments": {...}}`, `{"name": ..., "a": 1}`, or a list of
    one of these. Only where a tool was forced, no real call came, and the name is one that was offered.
    """

    def __init__(self, request: ChatRequest) -> None:
        choice = request.tool_choice
        self._names = {choice.name} if isinstance(choice, NamedTool) else {tool.name for tool in request.tools}
        self._held: list[str] = []
        self._open = True
        self._promising = False  # the text begins as a call would
        self._size = 0

    def feed(self, delta: Delta) -> list[Delta]:
        if delta.tool_calls:
            self._open = False
        if not self._open:
            return [*self._release(), delta]
        if not delta.text:
            return [delta]
        self._held.append(delta.text)
        self._size += len(delta.text)
        if self._size > MOST_HELD:
            self._open = False
            return [Delta(reasoning=delta.reasoning), *self._release()]
        if not self._promising and (start := "".join(self._held).lstrip()):
            self._promising = start[0] in "{["
            if not self._promising:
                self._open = False
                return [Delta(reasoning=delta.reasoning), *self._release()]
        return [Delta(reasoning=delta.reasoning)]

    def close(self) -> list[Delta]:
        call = self._read("".join(self._held))
        if call is None:
            return self._release()
        self._held.clear()
        return [Delta(tool_calls=(call,))]

    def _release(self) -> list[Delta]:
        text = "".join(self._held)
        self._held.clear()
        return [Delta(text=text)] if text else []

    def _read(self, text: str) -> ToolCallDelta | None:
        try:
            value: Any = loads(text.encode()) if text.strip() else None
        except NotJson:
            return None
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters"))
        if arguments is None:
            arguments = {key: item for key, item in value.items() if key != "name"}
        return ToolCallDelta(0, None, name, arguments or "{}" if isinstance(arguments, str) else dump_text(arguments))


async def settled(batches: EventStream, rules: AnswerRules) -> AsyncGenerator[list[ChatEvent], None]:
    """The batches with the rules applied; it ends soon after a stop sequence, though the upstream goes on."""
    async for batch in batches:
        whole = bool(batch) and isinstance(batch[-1], Finish)
        out = rules.feed(batch)
        if rules.cut and not whole:
            if out:
                yield out
            await _read_usage(batches, rules)
            yield rules.close()
            return
        if whole:
            out += rules.close()
        if out:
            yield out


async def _read_usage(batches: EventStream, rules: AnswerRules) -> None:
    """The text is over; what the upstream counted is worth a moment's wait."""
    with anyio.move_on_after(USAGE_PATIENCE):
        try:
            async for batch in batches:
                rules.feed(batch)
        except RelayError:
            return  # the answer itself was whole; its usage is estimated


async def gather(batches: EventStream) -> ChatResult:
    """The whole of an answer that is still coming. Raises RelayError if it has no end."""
    events: list[ChatEvent] = []
    size = 0
    async for batch in batches:
        events += batch
        size += sum(_size(event) for event in batch)
        if size > MOST_COLLECTED:
            raise RelayError(Fault.UPSTREAM_ERROR, "The upstream's answer is too long.")
    return collect(events)


def _size(event: ChatEvent) -> int:
    """Characters, and something for an event that has none, so that empty ones count too."""
    if isinstance(event, Finish):
        return 0
    calls = sum(len(call.arguments) for call in event.tool_calls)
    return 16 + len(event.text) + len(event.reasoning) + calls + 64 * len(event.logprobs or ())


def collect(events: Iterable[ChatEvent]) -> ChatResult:
    """The whole of an answer that came in pieces. The last event is a `Finish`."""
    deltas: list[Delta] = []
    finish = Finish()
    for event in events:
        if isinstance(event, Finish):
            finish = event
        else:
            deltas.append(event)
    logprobs = [entry for delta in deltas for entry in delta.logprobs or ()]
    choice = Choice(
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        tool_calls=join_tool_calls(call for delta in deltas for call in delta.tool_calls),
        finish_reason=finish.reason,
        logprobs=logprobs or None,
    )
    return ChatResult(choices=(choice,), usage=finish.usage)


def spread(result: ChatResult) -> list[ChatEvent]:
    """A whole answer as the events of a stream: all of it in one delta, then the finish."""
    choice = result.choices[0]
    calls = tuple(ToolCallDelta(i, call.id, call.name, call.arguments) for i, call in enumerate(choice.tool_calls))
    delta = Delta(choice.text, choice.reasoning, calls, choice.logprobs)
    return [delta, Finish(choice.finish_reason, result.usage)]


def settle(result: ChatResult, request: ChatRequest) -> ChatResult:
    """A whole answer with the rules applied."""
    rules = AnswerRules(request)
    return collect([*rules.feed(spread(result)), *rules.close()])
