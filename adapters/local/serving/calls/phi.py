"""`<|tool_call|>[{"name", "arguments"}]<|/tool_call|>`: Phi-4-mini, and Granite 3 without the end marker."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.canonical import Tool
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.objects import ObjectList
from adapters.local.serving.calls.syntax import CallReader, CallSyntax

_BEGIN, _END = "<|tool_call|>", "<|/tool_call|>"


def _reader(tools: Sequence[Tool]) -> CallReader:
    return MarkedCalls(_BEGIN, (_END,), ObjectList)


PHI = CallSyntax(
    name="phi",
    opening=f"{_BEGIN}[",
    head='{"name": "',
    middle='", "arguments": ',
    tail="}",
    separator=", ",
    closing=f"]{_END}",
    markers=(_BEGIN, _END),
    reader=_reader,
)
