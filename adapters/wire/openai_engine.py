"""The chat answers of OpenAI-compatible engines: vLLM, SGLang, llama-server, Ollama, chatglm.cpp, transformers serve.

Sources: recordings of chatglm.cpp 0.4.2, of llama.cpp's llama-server and of transformers serve 5.23 (2026-11), the
others' documentation. Nothing is taken for granted that one of them leaves out: ids, `created`, `model`, indexes,
usage, `[DONE]`. `adapters.wire.engine_form` says what else differs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from adapters.canonical import ChatEvent, ChatResult, Choice, Delta, Finish, FinishReason, ToolCall, ToolCallDelta
from adapters.errors import Fault, RelayError
from adapters.wire.chat_stream import ChatStreamReader
from adapters.wire.chatglm_calls import CallReader, read_arguments
from adapters.wire.engine_form import EngineForm
from adapters.wire.json_text import NotJson, decode_repaired, loads
from adapters.wire.openai_engine_errors import is_error, read_engine_error
from adapters.wire.openai_upstream import StreamChoice, UsageReader, parse_completion, read_choice, read_finish
from adapters.wire.think import ThinkSplitter
from adapters.wire.tool_calls import ToolCallReader, join_tool_calls

_UNREAD = "PARSE_ERROR"  # what chatglm.cpp says for a name, or for arguments, that it could not read


class _Text:
    """What a model wrote, cut anywhere, to deltas: thoughts and calls are told apart from the answer."""

    def __init__(self, form: EngineForm, functions: Collection[str]) -> None:
        self._think = ThinkSplitter()
        self._calls = CallReader(functions) if functions else None
        self._at_start = form.leading_break

    def feed(self, text: str) -> list[Delta]:
        if self._at_start:
            text = text.lstrip()
            self._at_start = not text
        return self._told_apart(self._think.feed(text)) if text else []

    def close(self) -> list[Delta]:
        deltas = self._told_apart(self._think.close())
        return [*deltas, *self._calls.close()] if self._calls else deltas

    def _told_apart(self, deltas: list[Delta]) -> list[Delta]:
        if self._calls is None:
            return deltas
        return [piece for delta in deltas for piece in (self._calls.feed(delta.text) if delta.text else (delta,))]


# ---------------------------------------------------------------- whole results


def parse_engine_result(
    body: bytes,
    form: EngineForm,
    *,
    functions: Collection[str] = (),
    limit: int | None = None,
    context_window: int | None = None,
) -> ChatResult:
    """The body of a 200 to a result. Raises RelayError.

    `functions` are the names of those whose calls may come as text, `limit` is the `max_tokens` that was sent.
    """
    try:
        value = loads(body)
    except NotJson:
        raise RelayError(Fault.UPSTREAM_ERROR, "The engine answered with something that is not JSON.") from None
    if not isinstance(value, dict):
        raise RelayError(Fault.UPSTREAM_ERROR, "The engine answered in a form that cannot be read.")
    if is_error(value):
        raise read_engine_error(None, value, context_window=context_window)
    result = parse_completion(value)
    usage = result.usage
    full = usage is not None and limit is not None and form.total_limit is not None and usage.total_tokens >= limit
    choices = tuple(_choice(choice, form, functions, full) for choice in result.choices)
    return msgspec.structs.replace(result, choices=choices)


def _choice(choice: Choice, form: EngineForm, functions: Collection[str], full: bool) -> Choice:
    if form.text_calls and choice.tool_calls:
        choice = _reread(choice, functions)
    text = _Text(form, () if choice.tool_calls else functions)
    deltas = [*text.feed(choice.text), *text.close()]
    calls = choice.tool_calls or join_tool_calls(call for delta in deltas for call in delta.tool_calls)
    return msgspec.structs.replace(
        choice,
        text="".join(delta.text for delta in deltas),
        reasoning=choice.reasoning + "".join(delta.reasoning for delta in deltas),
        tool_calls=calls,
        finish_reason="length" if full and not calls else _reason(choice.finish_reason, form),
    )


def _reread(choice: Choice, functions: Collection[str]) -> Choice:
    """The choice by what the model wrote, which is still there.

    chatglm.cpp takes the first line for the name and leaves the rest in the text, calls and all; arguments on more than
    one line it does not read.
    """
    reader = CallReader(functions)
    deltas = [*reader.feed(f"{choice.tool_calls[0].name}\n{choice.text}"), *reader.close()]
    calls = join_tool_calls(call for delta in deltas for call in delta.tool_calls)
    if calls:
        return msgspec.structs.replace(choice, text="".join(delta.text for delta in deltas), tool_calls=calls)
    return msgspec.structs.replace(choice, text="", tool_calls=tuple(map(_readable, choice.tool_calls)))


def _readable(call: ToolCall) -> ToolCall:
    """The call with arguments in JSON; the engine leaves them as they are where it cannot run them."""
    if _UNREAD in (call.name, call.arguments):
        raise RelayError(Fault.UPSTREAM_ERROR, "The engine could not read the model's call of a function.")
    return msgspec.structs.replace(call, arguments=read_arguments(call.arguments) or call.arguments)


def _reason(told: FinishReason | None, form: EngineForm) -> FinishReason | None:
    """`stop` says nothing where it is said in every case; `adapters.answer` knows how many tokens were wanted."""
    return None if told == "stop" and not form.finish_reasons else told


# ---------------------------------------------------------------- streams


class _Chunk(msgspec.Struct):
    """Every key that matters; `timings`, ids and the rest are skipped unread."""

    choices: list[StreamChoice] | None = None
    usage: Any = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_ERROR_KEYS = frozenset(("message", "detail", "code"))


class EngineStreamDecoder(ChatStreamReader):
    """A chat stream of an engine. `functions` are the names of those whose calls may come as text."""

    upstream = "engine"

    def __init__(self, form: EngineForm, *, functions: Collection[str] = (), context_window: int | None = None) -> None:
        super().__init__()
        self._form = form
        self._context_window = context_window
        self._calls = ToolCallReader()
        self._usage = UsageReader()
        self._text = _Text(form, functions)

    def _frame(self, payload: bytes, events: list[ChatEvent]) -> None:
        try:
            chunk, _ = decode_repaired(payload, _decode_chunk)
        except (NotJson, msgspec.ValidationError, RecursionError):
            if self.complete:  # the answer was whole; only its usage is lost
                return
            raise RelayError(Fault.UPSTREAM_ERROR, "The engine sent a frame that cannot be read.") from None
        self.frames += 1
        if chunk.error or (chunk.choices is None and chunk.usage is None):
            self._strange(payload)
            return
        for choice in chunk.choices or ():
            self._piece(choice, events)
        if chunk.usage is None:
            return
        if chunk.choices:
            self._usage.chunk(chunk.usage)
        elif self._usage.tail(chunk.usage):
            self._tail_seen = True

    def _strange(self, payload: bytes) -> None:
        """A frame without choices and usage: padding, or an error in one of its forms."""
        value = loads(payload)
        if is_error(value) or (isinstance(value, dict) and not _ERROR_KEYS.isdisjoint(value)):
            raise read_engine_error(None, value, context_window=self._context_window)

    def _piece(self, choice: StreamChoice, events: list[ChatEvent]) -> None:
        delta = read_choice(choice, self._calls)
        if delta is not None:
            self._tail_seen = False  # what looked like the tail was none
            events += self._told_apart(delta)
        if choice.finish_reason:
            self._reason = _reason(read_finish(choice.finish_reason) or self._reason, self._form)
            self._reason_seen = self._reason_seen or isinstance(choice.finish_reason, str)

    def _told_apart(self, delta: Delta) -> list[Delta]:
        """The delta with what its text holds; log probabilities stay with what came in the same chunk."""
        if not delta.text:
            return [delta]
        pieces = self._text.feed(delta.text)
        if len(pieces) == 1 and pieces[0].text == delta.text:
            return [delta]
        if not (delta.reasoning or delta.tool_calls or delta.logprobs):
            return pieces
        return [Delta("", delta.reasoning, logprobs=delta.logprobs), *pieces, *_calls_alone(delta.tool_calls)]

    def _finish(self) -> list[ChatEvent]:
        events: list[ChatEvent] = list(self._text.close())
        events += _calls_alone(tuple(self._calls.close()))
        self.done = True
        return [*events, Finish(self._reason, self._usage.result())]

    def _empty(self) -> RelayError:
        return RelayError(Fault.UPSTREAM_ERROR, "The engine's answer is empty.")


def _calls_alone(calls: tuple[ToolCallDelta, ...]) -> list[Delta]:
    return [Delta(tool_calls=calls)] if calls else []
