"""`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes 2 Pro, Qwen 2.5 and 3, and many after them."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.canonical import Tool
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.objects import ObjectList
from adapters.local.serving.calls.syntax import CallReader, CallSyntax

_BEGIN, _END = "<tool_call>", "</tool_call>"


def _reader(tools: Sequence[Tool]) -> CallReader:
    return MarkedCalls(_BEGIN, (_END,), ObjectList)


HERMES = CallSyntax(
    name="hermes",
    head=f'{_BEGIN}\n{{"name": "',
    middle='", "arguments": ',
    tail=f"}}\n{_END}",
    separator="\n",
    markers=(_BEGIN, _END),
    reader=_reader,
)
