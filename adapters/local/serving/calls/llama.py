"""Llama 3.1 and later: an answer that is `{"name", "parameters"}`, several set off by `;`, or one behind a marker.

What a call names must be one of the request's functions: else it is JSON that the user asked for. Source: the models'
chat templates and Meta's description of their prompt format.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from adapters.canonical import Tool
from adapters.local.serving.calls.bare import BareCalls
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.objects import ObjectList
from adapters.local.serving.calls.syntax import CallReader, CallSyntax

_BEGIN = "<|python_tag|>"


def _looks(text: str) -> bool | None:
    return text[0] in "{["


def _reader(tools: Sequence[Tool]) -> CallReader:
    body = partial(ObjectList, names={tool.name for tool in tools})
    return BareCalls(_looks, body, MarkedCalls(_BEGIN, (), body))


LLAMA = CallSyntax(
    name="llama",
    head='{"name": "',
    middle='", "parameters": ',
    tail="}",
    separator="; ",
    markers=(_BEGIN,),
    reader=_reader,
)
