"""Mistral: `[TOOL_CALLS] [{"name", "arguments"}]`, and since 2025 `[TOOL_CALLS]name[ARGS]{...}` for each call.

Between the two came `[TOOL_CALLS]name[CALL_ID]id[ARGS]{...}` and `[TOOL_CALLS]name{...}`. Source: the models' chat
templates and the documentation of mistral-common.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.canonical import Tool
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.named import named_object
from adapters.local.serving.calls.objects import ObjectList
from adapters.local.serving.calls.syntax import CallReader, CallSyntax

_BEGIN, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_HEAD = re.compile(r"\s*([^\s\[\]{}]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\]\s*)?(?=\{)")


def _list_reader(tools: Sequence[Tool]) -> CallReader:
    return MarkedCalls(_BEGIN, (), ObjectList)


def _named_reader(tools: Sequence[Tool]) -> CallReader:
    return MarkedCalls(_BEGIN, (), named_object(_HEAD))


MISTRAL_LIST = CallSyntax(
    name="mistral-list",
    opening=f"{_BEGIN} [",
    head='{"name": "',
    middle='", "arguments": ',
    tail="}",
    separator=", ",
    closing="]",
    markers=(_BEGIN,),
    reader=_list_reader,
)
MISTRAL_NAMED = CallSyntax(
    name="mistral-named",
    head=_BEGIN,
    middle=_ARGS,
    tail="",
    markers=(_BEGIN, _ARGS, _ID),
    reader=_named_reader,
)
