"""Qwen3-Coder and Qwen 3.5: `<tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call>`.

Each tag and each value stands on a line of its own. Source: the models' chat templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.canonical import Tool
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.syntax import CallReader, CallSyntax, Tags
from adapters.local.serving.calls.tags import Shape, tagged_call

_BEGIN, _END = "<tool_call>", "</tool_call>"
_SHAPE = Shape(
    head=re.compile(r"\s*<function=\s*([^<>\n]*[^<>\s])\s*>"),
    key="<parameter=",
    key_end=">",
    value="",
    value_end="</parameter>",
    close="</function>",
)


def _reader(tools: Sequence[Tool]) -> CallReader:
    return MarkedCalls(_BEGIN, (_END,), tagged_call(_SHAPE, tools))


QWEN_TAGS = CallSyntax(
    name="qwen-tags",
    head=f"{_BEGIN}\n<function=",
    middle=">\n",
    tail=f"</function>\n{_END}",
    separator="\n",
    arguments="tags",
    tags=Tags(open="<parameter=", between=">\n", close="\n</parameter>\n"),
    markers=(_BEGIN, _END),
    reader=_reader,
)
