"""Events to OpenAI's chunks.

Source: openai-python, openai-node, AI SDK, LangChain, pydantic-ai and others of 2026-10, which were run
against every deviation that is avoided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    Delta,
    Finish,
    ToolCallDelta,
    Usage,
)
from adapters.wire import sse
from adapters.wire.json_text import encode
from adapters.wire.openai_answer import Stamp, dump_usage

MAX_LINE = 60 * 1024  # bytes of a member; some readers refuse lines past 64 KiB


class ChatStreamEncoder:
    """Events to OpenAI's chunks.

    One id, one `created`, one model; the role once; `choices` in every chunk; a call's id, type and
    name in its first piece only. All of it is constant but for the delta, so a chunk is three pieces
    of bytes joined.
    """

    media_type = b"text/event-stream; charset=utf-8"

    def __init__(self, request: ChatRequest, stamp: Stamp) -> None:
        self._request = request
        self._stamp = stamp
        head = {
            "id": stamp.id,
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": stamp.model,
            "system_fingerprint": stamp.fingerprint,
        }
        self._frame = b"data: " + encode(head)[:-1]
        usage = b',"usage":null' if request.include_usage else b""
        self._end = b"}]" + usage + b"}\n\n"
        self._head = self._frame + b',"choices":[{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null' + self._end
        self._text_head = self._head + b'{"content":'
        self._text_tail = b"}" + self._tail

    def start(self) -> bytes:
        """The chunk that names the role."""
        return self._head + b'{"role":"assistant","content":""}' + self._tail

    def keep_alive(self) -> bytes:
        """A chunk that says nothing; every client tested accepts one, before the role chunk too."""
        return self._head + b"{}" + self._tail

    def encode(self, events: Sequence[ChatEvent]) -> bytes:
        """The frames of a batch. `Finish` brings the usage, if asked for, and the terminator."""
        frames = []
        for event in events:
            if isinstance(event, Finish):
                frames.append(self._finish(event))
            elif event.reasoning or event.tool_calls or event.logprobs is not None:
                frames.append(self._delta(event))
            else:
                text = encode(event.text)
                if len(text) > MAX_LINE:
                    frames.append(self._delta(event))
                else:
                    frames.append(self._text_head + text + self._text_tail)
        return b"".join(frames)

    def error(self, body: bytes) -> bytes:
        """The frame that ends a stream which failed; nothing may follow it."""
        return sse.dump_data(body)

    def _finish(self, event: Finish) -> bytes:
        reason: str = event.reason or "stop"
        if self._request.legacy_functions and reason == "tool_calls":
            reason = "function_call"
        frame = self._head + b'{},"logprobs":null,"finish_reason":' + encode(reason) + self._end
        if self._request.include_usage:
            usage = encode(dump_usage(event.usage or Usage(estimated=True)))
            frame += self._frame + b',"choices":[],"usage":' + usage + b"}\n\n"
        return frame + sse.dump_data(sse.DONE)

    def _delta(self, delta: Delta) -> bytes:
        pieces = [delta] if _size(delta) <= MAX_LINE else split_delta(delta)
        return b"".join(self._chunk(piece) for piece in pieces)

    def _chunk(self, delta: Delta) -> bytes:
        wire: dict[str, Any] = {}
        if delta.reasoning:
            wire["reasoning_content"] = delta.reasoning
        if delta.text or not (delta.reasoning or delta.tool_calls):
            wire["content"] = delta.text
        if delta.tool_calls and self._request.legacy_functions:
            wire["function_call"] = self._function_call(delta.tool_calls)
        elif delta.tool_calls:
            wire["tool_calls"] = [self._tool_call(call) for call in delta.tool_calls]
        if delta.logprobs is None:
            return self._head + encode(wire) + self._tail
        logprobs = encode({"content": delta.logprobs, "refusal": None})
        return self._head + encode(wire) + b',"logprobs":' + logprobs + b',"finish_reason":null' + self._end

    def _tool_call(self, call: ToolCallDelta) -> dict[str, Any]:
        if call.name is None:
            return {"index": call.index, "function": {"arguments": call.arguments}}
        return {
            "index": call.index,
            "id": call.id or self._stamp.call_id(call.index),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }

    @staticmethod
    def _function_call(calls: Sequence[ToolCallDelta]) -> dict[str, str]:
        first = [call for call in calls if call.index == 0]
        wire = {"arguments": "".join(call.arguments for call in first)}
        name = next((call.name for call in first if call.name is not None), None)
        return wire if name is None else {"name": name, **wire}


_CALL_FRAME = 200  # bytes around a call's name and arguments, its id among them


def _size(delta: Delta) -> int:
    """An upper bound of the bytes of the delta once it is JSON."""
    size = len(encode(delta.text)) + len(encode(delta.reasoning))
    for call in delta.tool_calls:
        size += len(encode(call.arguments)) + len(encode(call.name)) + len(encode(call.id)) + _CALL_FRAME
    return size if delta.logprobs is None else size + len(encode(delta.logprobs))


def split_delta(delta: Delta) -> list[Delta]:
    """A delta too long for one line as several; a call keeps its id and name in its first piece."""
    pieces = [Delta(reasoning=part) for part in _split_text(delta.reasoning)]
    if delta.logprobs is None:
        texts = [Delta(text=part) for part in _split_text(delta.text)]
    else:
        texts = _split_logprobs(delta.text, delta.logprobs)
    for call in delta.tool_calls:
        name, id_ = call.name, call.id
        for part in _split_text(call.arguments) or [""]:
            texts.append(Delta(tool_calls=(ToolCallDelta(call.index, id_, name, part),)))
            name = id_ = None
    return pieces + texts


def _split_logprobs(text: str, entries: list[Any]) -> list[Delta]:
    """Text and the entries of its tokens. They part together where the tokens spell the text."""
    runs = _split_entries(entries)
    spelled = ["".join(map(_token, run)) for run in runs]
    if "".join(spelled) == text:
        return [Delta(part, logprobs=run) for part, run in zip(spelled, runs, strict=True)]
    return [*(Delta(text=part) for part in _split_text(text)), *(Delta(logprobs=run) for run in runs)]


def _token(entry: Any) -> str:
    token = entry.get("token") if isinstance(entry, dict) else None
    return token if isinstance(token, str) else ""


def _split_entries(entries: list[Any]) -> list[list[Any]]:
    # Half a line each: the text that they spell stands in the same line.
    if len(entries) < 2 or len(encode(entries)) <= MAX_LINE // 2:
        return [entries]
    middle = len(entries) // 2
    return _split_entries(entries[:middle]) + _split_entries(entries[middle:])


def _split_text(text: str) -> list[str]:
    if not text:
        return []
    if len(encode(text)) <= MAX_LINE:
        return [text]
    middle = len(text) // 2
    return _split_text(text[:middle]) + _split_text(text[middle:])
