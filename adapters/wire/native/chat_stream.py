"""Events to Workers AI's own streams, of both shapes.

Sources: recorded streams of both shapes (to 2026-10), the tests of Cloudflare's provider (cloudflare/ai, 2026-07).
Text is always a JSON string here: the real thing sends tokens such as `3` and `true` bare, by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.canonical import ChatEvent, Delta, Finish, ToolCallDelta, Usage
from adapters.wire import sse
from adapters.wire.json_text import encode, loads
from adapters.wire.native.chat_answer import native_usage
from adapters.wire.openai_answer import Stamp
from adapters.wire.openai_stream import MAX_LINE, split_delta
from adapters.wire.think import CLOSE, OPEN

MEDIA_TYPE = b"text/event-stream"
_SHORT = MAX_LINE // 6  # characters that are sure to fit into a line: each takes six bytes at most
_DONE = sse.dump_data(sse.DONE)
_COMMENT = sse.dump_comment("keep-alive")
_NO_USAGE = b',"usage":' + encode(native_usage(Usage()))
_LETTERS = "abdefgh12345678910cikmnopqrstuvwxyz"
_PADS = tuple(b',"p":"' + (_LETTERS * 2)[:length].encode() + b'"' for length in range(2, 66))


class _Padding:
    """`p`, whose length is to hide that of the tokens: 64 lengths, each once before any comes again."""

    def __init__(self, seed: int) -> None:
        self._at = seed % len(_PADS)

    def next(self) -> bytes:
        self._at = (self._at * 5 + 3) % len(_PADS)
        return _PADS[self._at]


class ResponseStreamEncoder:
    """Events to `{"response": text}` frames, for models that are `response_shaped`.

    Equal `padding` gives equal bytes. A thought at the start stands in the text, between its tags, as the models of
    this shape write it.
    """

    media_type = MEDIA_TYPE

    def __init__(self, stamp: Stamp, *, padding: int = 0) -> None:
        self._stamp = stamp
        self._pad = _Padding(padding)
        self._thinking = self._answering = False
        self._last_call: int | None = None

    def start(self) -> bytes:
        """Nothing: the first frame is the first token's."""
        return b""

    def keep_alive(self) -> bytes:
        return _COMMENT

    def encode(self, events: Sequence[ChatEvent]) -> bytes:
        """The frames of a batch. `Finish` brings the usage and the terminator."""
        frames = []
        for event in events:
            if isinstance(event, Finish):
                frames.append(self._finish(event))
            elif event.reasoning or event.tool_calls or len(event.text) > _SHORT:
                frames += map(self._delta, _pieces(event))
            elif event.text:
                frames.append(self._text(event.text))
        return b"".join(frames)

    def error(self, body: bytes) -> bytes:
        return dump_error(body)

    def _delta(self, delta: Delta) -> bytes:
        frame = self._thought(delta.reasoning) if delta.reasoning else b""
        if delta.text:
            frame += self._text(delta.text)
        if delta.tool_calls:
            calls = encode([self._call(call) for call in delta.tool_calls])
            frame += self._close_thought() + b'data: {"tool_calls":' + calls + self._end()
        return frame

    def _thought(self, reasoning: str) -> bytes:
        if self._answering:  # too late for a tag; decoders know this key too
            return b'data: {"response":"","reasoning_content":' + encode(reasoning) + self._end()
        opening = "" if self._thinking else f"{OPEN}\n"
        self._thinking = True
        return b'data: {"response":' + encode(opening + reasoning) + self._end()

    def _text(self, text: str) -> bytes:
        frame = b'data: {"response":' + encode(text) + self._end()
        return frame if self._answering else self._close_thought() + frame

    def _close_thought(self) -> bytes:
        self._answering = True
        if not self._thinking:
            return b""
        self._thinking = False
        return b'data: {"response":' + encode(f"{CLOSE}\n\n") + self._end()

    def _call(self, call: ToolCallDelta) -> dict[str, Any]:
        self._last_call = call.index
        return _call(call, self._stamp)

    def _finish(self, event: Finish) -> bytes:
        frames = self._close_thought()
        if self._last_call is not None:
            closing = {"id": None, "type": None, "index": self._last_call, "function": {"name": None, "arguments": ""}}
            frames += b'data: {"tool_calls":' + encode([closing]) + self._end()
        if event.reason is not None:
            frames += b'data: {"response":"","finish_reason":' + encode(event.reason) + self._end()
        if event.usage is not None:
            frames += b'data: {"response":"","usage":' + encode(native_usage(event.usage)) + self._end()
        return frames + _DONE

    def _end(self) -> bytes:
        return self._pad.next() + b"}\n\n"


class ChatChunkStreamEncoder:
    """Events to OpenAI's chunks as Workers AI sends them natively: padded, each with usage, and a tail of another form.

    The chunks' usage is incremental. What was counted is known at the end alone, so all of it is in the last chunk
    and every other one adds nothing; the tail repeats the sum.
    """

    media_type = MEDIA_TYPE

    def __init__(self, stamp: Stamp, *, padding: int = 0) -> None:
        self._stamp = stamp
        self._pad = _Padding(padding)
        head = {
            "id": stamp.id,
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": stamp.model,
        }
        self._head = b"data: " + encode(head)[:-1]
        self._open = b',"choices":[{"index":0,"delta":'
        self._end = b"}]" + _NO_USAGE + b"}\n\n"
        self._close = b',"finish_reason":null,"logprobs":null' + self._end
        self._text_open = self._open + b'{"content":'
        self._text_close = b',"reasoning_content":null}' + self._close

    def start(self) -> bytes:
        """The chunk that names the role."""
        return self._frame(b'{"role":"assistant","content":"","reasoning_content":null}', self._close)

    def keep_alive(self) -> bytes:
        return _COMMENT

    def encode(self, events: Sequence[ChatEvent]) -> bytes:
        """The frames of a batch. `Finish` brings the usage, the tail and the terminator."""
        frames = []
        for event in events:
            if isinstance(event, Finish):
                frames.append(self._finish(event))
            elif event.reasoning or event.tool_calls or event.logprobs is not None or len(event.text) > _SHORT:
                frames += map(self._delta, _pieces(event))
            else:
                frames.append(self._text(event.text))
        return b"".join(frames)

    def error(self, body: bytes) -> bytes:
        return dump_error(body)

    def _delta(self, delta: Delta) -> bytes:
        wire: dict[str, Any] = {}
        if delta.text:
            wire["content"] = delta.text
        if delta.reasoning:
            wire["reasoning_content"] = delta.reasoning
        if delta.tool_calls:
            wire["tool_calls"] = [_call(call, self._stamp) for call in delta.tool_calls]
        if delta.logprobs is None:
            return self._frame(encode(wire), self._close)
        logprobs = encode({"content": delta.logprobs})
        return self._frame(encode(wire), b',"finish_reason":null,"logprobs":' + logprobs + self._end)

    def _text(self, text: str) -> bytes:
        return self._head + self._pad.next() + self._text_open + encode(text) + self._text_close

    def _finish(self, event: Finish) -> bytes:
        reason = b',"finish_reason":' + encode(event.reason) + b',"logprobs":null' + self._end
        frames = self._frame(b"{}", reason)
        if event.usage is not None:
            usage = b'"usage":' + encode(native_usage(event.usage))
            frames += self._head + self._pad.next() + b',"choices":[],' + usage + b"}\n\n"
            frames += b'data: {"response":"",' + usage + b"}\n\n"
        return frames + _DONE

    def _frame(self, delta: bytes, close: bytes) -> bytes:
        return self._head + self._pad.next() + self._open + delta + close


def _pieces(delta: Delta) -> Sequence[Delta]:
    """The delta, or several where it may be too long for one line."""
    size = len(delta.text) + len(delta.reasoning) + sum(len(call.arguments) for call in delta.tool_calls)
    return (delta,) if size <= _SHORT and delta.logprobs is None else split_delta(delta)


def _call(call: ToolCallDelta, stamp: Stamp) -> dict[str, Any]:
    """A piece of a call; its id, type and name come in the first piece alone."""
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    return {
        "id": call.id or stamp.call_id(call.index),
        "type": "function",
        "index": call.index,
        "function": {"name": call.name, "arguments": call.arguments},
    }


# Cloudflare's numbers for the codes of OpenAI's error object that a stream can break with.
_CODES = {
    "rate_limit_exceeded": 3040,
    "insufficient_quota": 3036,
    "context_length_exceeded": 5021,
    "content_policy_violation": 3030,
    "upstream_timeout": 3046,
    "upstream_account_blocked": 3023,
}
_INTERNAL = 3043
_REFUSED = 5006


def dump_error(body: bytes) -> bytes:
    """The frame that ends a stream which failed; nothing may follow it.

    `body` is an error of Cloudflare's envelope, which goes out as it is, or OpenAI's `{"error"}`, which is turned
    into one. What Cloudflare itself sends here is not established.
    """
    value = loads(body)
    if "errors" not in value:
        error = value["error"]
        code = _CODES.get(error["code"], _REFUSED if error["type"] == "invalid_request_error" else _INTERNAL)
        value = {"errors": [{"code": code, "message": f"AiError: {error['message']}"}]}
    return sse.dump_data(encode({"result": {}, "success": False, "messages": [], **value}))
