"""DeepSeek: V3.1 writes `name <sep> {...}` between markers, V3 and R1 a type, the name and fenced JSON.

Source: the models' chat templates. The bars are U+FF5C and the low lines U+2581.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.canonical import Tool
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.named import named_object
from adapters.local.serving.calls.syntax import CallReader, CallSyntax


def _marker(words: str) -> str:
    return "<\uff5c" + words.replace(" ", "\u2581") + "\uff5c>"


_ALL, _ALL_END = _marker("tool calls begin"), _marker("tool calls end")
_ONE, _ONE_END, _SEP = _marker("tool call begin"), _marker("tool call end"), _marker("tool sep")
_HEAD = re.compile(rf"\s*(?:function{_SEP})?([^\s<{{]+)\s*(?:{_SEP}\s*)?(?:```(?:json)?\s*)?(?=\{{)")
_FENCED_HEAD = f"{_ONE}function{_SEP}"


def _reader(tools: Sequence[Tool]) -> CallReader:
    body = named_object(_HEAD)
    return MarkedCalls(_ONE, ("```", _ONE_END), body, around=(_ALL, _ALL_END))


DEEPSEEK = CallSyntax(
    name="deepseek",
    opening=_ALL,
    head=_ONE,
    middle=_SEP,
    tail=_ONE_END,
    closing=_ALL_END,
    markers=(_ALL, _ALL_END, _ONE, _ONE_END, _SEP),
    reader=_reader,
)
DEEPSEEK_FENCED = CallSyntax(
    name="deepseek-fenced",
    opening=_ALL,
    head=_FENCED_HEAD,
    middle="\n```json\n",
    tail=f"\n```{_ONE_END}",
    separator="\n",
    closing=_ALL_END,
    markers=DEEPSEEK.markers,
    reader=_reader,
)
