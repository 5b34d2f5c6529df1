"""GLM-4.5 and later: `<tool_call>name<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`, tags on lines.

GLM-4 wrote a call as an answer of its own: the function's name on a line, then JSON. Source: the models' templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.canonical import Tool
from adapters.local.serving.calls.bare import BareCalls
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.named import named_object
from adapters.local.serving.calls.syntax import CallReader, CallSyntax, Tags
from adapters.local.serving.calls.tags import Shape, tagged_call

_BEGIN, _END = "<tool_call>", "</tool_call>"
_KEY, _KEY_END, _VALUE, _VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
_SHAPE = Shape(
    head=re.compile(rf"\s*([^\s<>{{}}]+)\s*(?={_KEY}|{_END})"),
    key=_KEY,
    key_end=_KEY_END,
    value=_VALUE,
    value_end=_VALUE_END,
    close=_END,
)
_LINE = re.compile(r"\s*(\S+)[ \t]*\n\s*(?=\{)")


def _reader(tools: Sequence[Tool]) -> CallReader:
    return MarkedCalls(_BEGIN, (), tagged_call(_SHAPE, tools))


def _line_reader(tools: Sequence[Tool]) -> CallReader:
    names = tuple(tool.name for tool in tools)

    def looks(text: str) -> bool | None:
        if any(name.startswith(text.rstrip(" \t")) for name in names):
            return None
        name, line_break, rest = text.partition("\n")
        if name.strip() not in names:
            return False
        return (rest.lstrip()[:1] == "{") if line_break and rest.strip() else None

    return BareCalls(looks, named_object(_LINE))


GLM_TAGS = CallSyntax(
    name="glm-tags",
    head=_BEGIN,
    middle="\n",
    tail=_END,
    separator="\n",
    arguments="tags",
    tags=Tags(open=_KEY, between=f"{_KEY_END}\n{_VALUE}", close=f"{_VALUE_END}\n"),
    markers=(_BEGIN, _END, _KEY, _KEY_END, _VALUE, _VALUE_END),
    reader=_reader,
)
GLM_LINE = CallSyntax(name="glm-line", head="", middle="\n", tail="", reader=_line_reader)
