"""Workers AI's native text generation: `POST /ai/run/{model}`.

Sources: Cloudflare's binding types (cloudflare/workerd, 2026-08), its provider packages (cloudflare/ai,
2026-07) and captures of live streams (to 2026-10). The mapping of models to shapes has changed more than
once, so answers are told apart by the keys that are there and never by the model's name.
"""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.canonical import (
    Change,
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    ImagePart,
    Message,
)
from adapters.errors import Fault, RelayError
from adapters.wire.changes import Changes
from adapters.wire.chat_stream import ChatStreamReader
from adapters.wire.json_text import NotJson, dump_text, encode, loads
from adapters.wire.openai_upstream import (
    StreamChoice,
    UsageReader,
    dump_content,
    dump_message,
    dump_response_format,
    dump_tool,
    dump_tool_choice,
    parse_completion,
    parse_response,
    read_choice,
    read_finish,
    read_text,
    read_usage,
)
from adapters.wire.think import ThinkSplitter
from adapters.wire.tool_calls import ToolCallReader, read_tool_calls
from adapters.wire.workers_ai_errors import read_error

# ---------------------------------------------------------------- requests

_SEED_MAX = 9_999_999_999
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def dump_chat_request(
    request: ChatRequest, *, openai_form: bool, stream: bool, efforts: tuple[str, ...] = ()
) -> tuple[bytes, list[Change]]:
    """The native body for a request, and what it had to change.

    `openai_form` chooses between the two input schemas in use, `efforts` are the model's reasoning efforts
    if they are known. `max_tokens` has been settled by the caller; `stream` is always said, as one model
    streams unless told not to.
    """
    changes = Changes(request)
    changes.dropped(min_p=request.min_p)
    body = _openai_form(request, changes, efforts) if openai_form else _response_form(request, changes)
    body = {key: value for key, value in body.items() if value is not None}
    if request.tools:
        body["tools"] = [dump_tool(tool, with_strict=openai_form) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = dump_tool_choice(request)
    if request.reject_if_busy:
        body["options"] = {"rejectIfBusy": True}
    body["stream"] = stream
    if stream and openai_form:
        body["stream_options"] = {"include_usage": True}
    return encode(body), changes.list


def _openai_form(request: ChatRequest, changes: Changes, efforts: tuple[str, ...]) -> dict[str, Any]:
    return {
        "messages": [dump_message(message) for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "seed": request.seed,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "repetition_penalty": request.repetition_penalty,
        "stop": list(request.stop) or None,
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        "logprobs": request.logprobs or None,
        "top_logprobs": request.top_logprobs,
        "logit_bias": request.logit_bias,
        "reasoning_effort": _effort(request.reasoning_effort, changes, efforts),
        "chat_template_kwargs": request.chat_template_kwargs,
        "lora": request.lora,
        "response_format": dump_response_format(request.response_format) if request.response_format else None,
    }


def _effort(effort: str | None, changes: Changes, known: tuple[str, ...]) -> str | None:
    """The effort itself, or where the model is known not to have it, the nearest that it has."""
    if effort is None or effort not in _EFFORTS or effort in known:
        return effort
    if not known:
        # Three words are understood everywhere; `minimal` is OpenAI's alone.
        nearest = "low" if effort == "minimal" else effort
    else:
        wanted = _EFFORTS.index(effort)
        nearest = min(known, key=lambda name: abs(_EFFORTS.index(name) - wanted) if name in _EFFORTS else 99)
    if nearest != effort:
        changes.list.append(Change("reasoning_effort", "clamped"))
    return nearest


def _response_form(request: ChatRequest, changes: Changes) -> dict[str, Any]:
    """The older schema. What it does not know, or has out of its range, fails the whole call with 5006."""
    changes.dropped(
        logprobs=request.logprobs,
        logit_bias=request.logit_bias,
        reasoning_effort=request.reasoning_effort,
        chat_template_kwargs=request.chat_template_kwargs,
    )
    changes.emulated(stop=request.stop)
    if request.parallel_tool_calls is False and request.tools:
        changes.emulated(parallel_tool_calls=True)
    messages = [_flat_message(message) for message in request.messages]
    pairs = list(zip(request.messages, messages, strict=True))
    changes.dropped(  # one entry for all turns: a conversation may have thousands
        **{
            "messages[].name": any(turn.name and "name" not in flat for turn, flat in pairs),
            "messages[].reasoning": any(turn.reasoning for turn in request.messages),
        }
    )
    return {
        "messages": messages,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": changes.clamped("top_p", request.top_p, 0.001, 1),
        "top_k": changes.clamped("top_k", request.top_k, 1, 50),
        "seed": _seed(request.seed, changes),
        "frequency_penalty": changes.clamped("frequency_penalty", request.frequency_penalty, 0, 2),
        "presence_penalty": changes.clamped("presence_penalty", request.presence_penalty, 0, 2),
        "repetition_penalty": changes.clamped("repetition_penalty", request.repetition_penalty, 0, 2),
        "lora": request.lora,
        "response_format": _bare_response_format(request),
    }


def _seed(seed: int | None, changes: Changes) -> int | None:
    """Any 64-bit seed into 1..9999999999, equal seeds to equal ones."""
    if seed is None or 1 <= seed <= _SEED_MAX:
        return seed
    changes.list.append(Change("seed", "clamped"))
    return (seed - 1) % _SEED_MAX + 1


def _bare_response_format(request: ChatRequest) -> dict[str, Any] | None:
    """These models want the schema itself; OpenAI's wrapper around it would be taken for the schema."""
    wanted = request.response_format
    if wanted is None:
        return None
    if wanted.schema is None:
        return {"type": "json_object"}
    title = {"title": wanted.name} if wanted.name and "title" not in wanted.schema else {}
    return {"type": "json_schema", "json_schema": {**title, **wanted.schema}}


def _flat_message(message: Message) -> dict[str, Any]:
    """Content as a string, never null; as parts only where there is an image among them."""
    if message.tool_calls or message.tool_call_id is not None:
        wire = dump_message(message)
        wire.pop("reasoning", None)
        return wire
    if isinstance(message.content, tuple) and any(isinstance(part, ImagePart) for part in message.content):
        return {"role": message.role, "content": dump_content(message.content)}
    return {"role": message.role, "content": message.content}


# ---------------------------------------------------------------- whole results


class EmptyResult(RelayError):
    """A success that holds nothing. To a request for a stream it means: this model cannot stream."""

    def __init__(self) -> None:
        super().__init__(Fault.UPSTREAM_ERROR, "Workers AI answered with an empty result.")


def parse_chat_result(body: bytes, *, context_window: int | None = None) -> ChatResult:
    """The body of a 200 to a result, whichever of the shapes it has. Raises RelayError, EmptyResult."""
    try:
        value = loads(body)
    except NotJson:
        raise RelayError(Fault.UPSTREAM_ERROR, "Workers AI answered with something that is not JSON.") from None
    if not isinstance(value, dict):
        raise RelayError(Fault.UPSTREAM_ERROR, "Workers AI answered in a form that cannot be read.")
    if value.get("success") is False or value.get("errors") or value.get("error"):
        raise read_error(502, value, context_window=context_window)
    result = value.get("result") if "result" in value or "success" in value else value
    if not result:
        raise EmptyResult
    if isinstance(result, str):
        return ChatResult(choices=(Choice(text=result),))
    if not isinstance(result, dict):
        raise RelayError(Fault.UPSTREAM_ERROR, "Workers AI answered in a form that cannot be read.")
    return _read_result(result)


def _read_result(result: dict[str, Any]) -> ChatResult:
    if "choices" in result:
        return parse_completion(result)
    if "output" in result:
        return parse_response(result)
    if "response" in result or "tool_calls" in result:
        return _read_response(result)
    raise RelayError(Fault.UPSTREAM_ERROR, "Workers AI answered in a form that cannot be read.")


def _read_response(result: dict[str, Any]) -> ChatResult:
    response = result.get("response")
    calls = read_tool_calls(result.get("tool_calls"))
    usage = read_usage(result.get("usage"))
    if response is None and not calls and usage is None:
        raise EmptyResult
    # In JSON mode `response` is the instance itself, not its text.
    text = response if isinstance(response, str) else "" if response is None else dump_text(response)
    splitter = ThinkSplitter()
    deltas = [*splitter.feed(text), *splitter.close()]
    reasoning = read_text(result.get("reasoning_content")) or read_text(result.get("reasoning"))
    choice = Choice(
        text="".join(delta.text for delta in deltas),
        reasoning=reasoning + "".join(delta.reasoning for delta in deltas),
        tool_calls=calls,
        finish_reason=read_finish(result.get("finish_reason")),
    )
    return ChatResult(choices=(choice,), usage=usage)


# ---------------------------------------------------------------- streams


class _Frame(msgspec.Struct):
    """Every key that any of the stream shapes uses; padding (`p`) and the rest are skipped unread."""

    response: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    tool_calls: Any = None
    usage: Any = None
    finish_reason: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    choices: list[StreamChoice] | None = None
    error: Any = None
    errors: Any = None
    success: Any = None

    @property
    def is_strange(self) -> bool:
        return (
            self.response is msgspec.UNSET
            and self.tool_calls is None
            and self.usage is None
            and self.finish_reason is None
            and self.reasoning_content is None
            and self.reasoning is None
        )


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_text = msgspec.json.Decoder(str).decode
_ERROR_KEYS = frozenset(("message", "code", "internalCode", "detail", "description"))
_NO_SPACE_AFTER = frozenset("([{\"'`«“‘ \n\t")


class ChatStreamDecoder(ChatStreamReader):
    """A native stream of either shape."""

    def __init__(self, *, context_window: int | None = None) -> None:
        super().__init__()
        self._context_window = context_window
        self._calls = ToolCallReader()
        self._usage = UsageReader()
        self._think = ThinkSplitter()
        self._last_char = ""

    def _frame(self, payload: bytes, events: list[ChatEvent]) -> None:
        try:
            frame = _decode_frame(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                frame = _second_look(payload)
            except RelayError:
                if self.complete:  # the answer was whole; only its usage is lost
                    return
                raise
        self.frames += 1
        if frame.error or frame.errors or frame.success is False:
            raise self._error(frame)
        if frame.choices is not None:
            self._openai_chunk(frame, events)
        elif frame.is_strange:
            self._strange(payload)
        else:
            self._classic(frame, events)

    def _strange(self, payload: bytes) -> None:
        """A frame with none of the keys that a stream has: padding, or an error in a form of its own."""
        value = loads(payload)
        if isinstance(value, dict) and not _ERROR_KEYS.isdisjoint(value):
            raise read_error(502, value, context_window=self._context_window)

    def _error(self, frame: _Frame) -> RelayError:
        return read_error(502, {"error": frame.error, "errors": frame.errors}, context_window=self._context_window)

    def _openai_chunk(self, frame: _Frame, events: list[ChatEvent]) -> None:
        if frame.usage is not None:
            self._usage.chunk(frame.usage)
        for choice in frame.choices or ():
            delta = read_choice(choice, self._calls)
            if delta is not None:
                events.append(delta)
            if choice.finish_reason:
                self._finish_reason(choice.finish_reason)

    def _classic(self, frame: _Frame, events: list[ChatEvent]) -> None:
        text = self._text(frame)
        reasoning = read_text(frame.reasoning_content) or read_text(frame.reasoning)
        if frame.usage is not None:
            if text or reasoning or frame.tool_calls:  # more may follow
                self._usage.chunk(frame.usage)
            elif self._usage.tail(frame.usage):
                self._tail_seen = True
        if text or reasoning:
            self._tail_seen = False  # what looked like the tail was none
        if reasoning:
            events.append(Delta(reasoning=reasoning))
        if text:
            self._last_char = text[-1]
            events += self._think.feed(text)
        if frame.tool_calls and (pieces := self._calls.feed(frame.tool_calls)):
            events.append(Delta(tool_calls=tuple(pieces)))
        if frame.finish_reason:
            self._finish_reason(frame.finish_reason)

    def _text(self, frame: _Frame) -> str:
        """The text of a classic frame.

        Tokens that parse as JSON arrive as JSON values and have lost their leading space: a number's
        space was a token of its own, a word's has to be given back.
        """
        if frame.response is msgspec.UNSET:
            return ""
        raw = bytes(frame.response)
        try:
            if raw.startswith(b'"'):
                return _decode_text(raw)
            word = raw.decode()
        except UnicodeDecodeError:
            raise _unreadable() from None
        if word == "null" and self._null_is_nothing(frame):
            return ""
        needs_space = word in ("true", "false", "null") and self._last_char and self._last_char not in _NO_SPACE_AFTER
        return f" {word}" if needs_space else word

    def _null_is_nothing(self, frame: _Frame) -> bool:
        """`null` is the literal word only amid text, in a frame that says nothing else."""
        says_more = (frame.tool_calls, frame.usage, frame.finish_reason, frame.reasoning, frame.reasoning_content)
        return not self._last_char or self._calls.any or any(value is not None for value in says_more)

    def _finish_reason(self, value: Any) -> None:
        self._reason = read_finish(value) or self._reason
        self._reason_seen = self._reason_seen or isinstance(value, str)

    def _finish(self) -> list[ChatEvent]:
        events: list[ChatEvent] = list(self._think.close())
        if pieces := self._calls.close():
            events.append(Delta(tool_calls=tuple(pieces)))
        self.done = True
        events.append(Finish(self._reason, self._usage.result()))
        return events

    def _empty(self) -> RelayError:
        return EmptyResult()


def _second_look(payload: bytes) -> _Frame:
    """A frame that the fast decoder refused: one with a lone surrogate in it is still a frame."""
    try:
        value = loads(payload)
        if isinstance(value, dict) and "response" in value:
            value["response"] = msgspec.Raw(encode(value["response"]))
        return msgspec.convert(value, _Frame)
    except (NotJson, msgspec.ValidationError, RecursionError):
        raise _unreadable() from None


def _unreadable() -> RelayError:
    return RelayError(Fault.UPSTREAM_ERROR, "The upstream sent a frame that cannot be read.")
