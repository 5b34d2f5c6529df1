"""Gemma 4: `<|tool_call>call:NAME{key:<|"|>text<|"|>,other:[1,true]}<tool_call|>`, with keys as they are.

Source: the models' chat template, 2026.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from adapters.canonical import Tool
from adapters.local.serving.calls.head import NamedCall
from adapters.local.serving.calls.marked import MarkedCalls
from adapters.local.serving.calls.syntax import CallReader, CallSyntax
from adapters.wire.json_text import NotJson, dump_text, loads
from adapters.wire.think import overlap

_BEGIN, _END, _QUOTE = "<|tool_call>", "<tool_call|>", '<|"|>'
_HEAD = re.compile(r"\s*call:\s*([^\s{]+)\s*(?=\{)")
_STRUCTURE = re.compile(re.escape(_QUOTE) + r"|[{}\[\],:]")


class GemmaArguments:
    """The arguments of one call, rewritten as JSON while they come. Fulfils `head.Arguments`."""

    def __init__(self) -> None:
        self._held = ""
        self._word: list[str] = []
        """Of a key or a value without quotes, what has come and holds no mark."""
        self._depth = 0
        self._in_string = False
        self._over = False

    def feed(self, text: str) -> tuple[str, str | None]:
        self._held += text
        pieces: list[str] = []
        while not self._over and (self._string(pieces) if self._in_string else self._structure(pieces)):
            pass
        return "".join(pieces), self._held if self._over else None

    def end(self) -> str:
        return dump_text(self._held)[1:-1] if self._in_string else "".join(self._word) + self._held

    def _string(self, pieces: list[str]) -> bool:
        text, found, rest = self._held.partition(_QUOTE)
        shown = len(text) if found else len(text) - overlap(text, _QUOTE)
        pieces.append(dump_text(text[:shown])[1:-1])
        if not found:
            self._held = text[shown:]
            return False
        pieces.append('"')
        self._held, self._in_string = rest, False
        return True

    def _structure(self, pieces: list[str]) -> bool:
        """Up to and with the next mark; a word before it is a key or a value."""
        mark = _STRUCTURE.search(self._held)
        if mark is None:
            sure = len(self._held) - overlap(self._held, _QUOTE)
            self._word.append(self._held[:sure])
            self._held = self._held[sure:]
            return False
        word = "".join((*self._word, self._held[: mark.start()])).strip()
        self._word.clear()
        self._held = self._held[mark.end() :]
        if word:
            pieces.append(dump_text(word) if mark[0] == ":" else _value(word))
        self._in_string = mark[0] == _QUOTE
        pieces.append('"' if self._in_string else mark[0])
        self._depth += (mark[0] in "{[") - (mark[0] in "}]")
        self._over = not self._depth
        return True


def _value(word: str) -> str:
    try:
        loads(word.encode())
    except NotJson:
        return dump_text(word)
    return word


def _reader(tools: Sequence[Tool]) -> CallReader:
    return MarkedCalls(_BEGIN, (_END,), partial(NamedCall, head=_HEAD, arguments=lambda _: GemmaArguments()))


GEMMA = CallSyntax(
    name="gemma",
    head=f"{_BEGIN}call:",
    middle="",
    tail=_END,
    arguments="gemma",
    markers=(_BEGIN, _END, _QUOTE),
    reader=_reader,
)
