"""gpt-oss: messages in channels. Analysis is reasoning, final is the answer, commentary holds calls and preambles.

    <|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f
    <|constrain|>json<|message|>{"city":"Oslo"}<|call|>

(in one line). The prompt ends with `<|start|>assistant`; the recipient may stand before the channel too. Source:
OpenAI's description of the harmony format, 2025-08.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.canonical import Delta, Tool
from adapters.local.serving.calls.syntax import CallReader, CallSyntax, Numbers
from adapters.wire.think import overlap

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
MARKERS = (START, CHANNEL, MESSAGE, *ENDS, "<|constrain|>")
_CUT = re.compile("|".join(map(re.escape, (START, *ENDS))))
_RECIPIENT = re.compile(r"(?:^|\s)to=functions\.([^\s<]+)")
_CHANNEL = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")
_OPENINGS = (CHANNEL, " to=", START)
_MOST_HEADER = 512


class HarmonyParser:
    """The answer's text, with the texts of its markers, to deltas. Fulfils `turns.TurnParser`."""

    def __init__(self, *, tools: bool) -> None:
        self._tools = tools
        self._numbers = Numbers()
        self._held = ""
        self._in_header = True
        self._kind = "text"

    @property
    def called(self) -> bool:
        return self._numbers.used > 0

    def feed(self, text: str) -> list[Delta]:
        deltas: list[Delta] = []
        self._held += text
        while self._held:
            if self._in_header:
                if not self._header(deltas):
                    break
            elif not self._content(deltas):
                break
        return deltas

    def end(self) -> list[Delta]:
        """A header that is cut off says nothing."""
        if not self._in_header:
            return self._piece(self._held)
        return [Delta(self._held)] if self._held and not self._held.startswith(_OPENINGS) else []

    def _header(self, deltas: list[Delta]) -> bool:
        """Whether there is more to read, with the header done."""
        held = self._held
        if not held.startswith(_OPENINGS):
            if any(opening.startswith(held) for opening in _OPENINGS):
                return False
            self._kind, self._in_header = "text", False  # no header at all
            return True
        end = held.find(MESSAGE, 0, _MOST_HEADER)
        if end < 0 and len(held) < _MOST_HEADER:
            return False
        self._in_header = False
        if end < 0:
            self._kind = "text"
            self._held = held[_MOST_HEADER:]
            deltas.append(Delta(held[:_MOST_HEADER]))
            return True
        header, self._held = held[:end], held[end + len(MESSAGE) :]
        channel, recipient = _CHANNEL.search(header), _RECIPIENT.search(header)
        self._kind = "reasoning" if channel is not None and channel[1] == "analysis" else "text"
        if recipient is not None and self._tools:
            self._kind = "call"
            deltas.append(self._numbers.open(recipient[1]))
        return True

    def _content(self, deltas: list[Delta]) -> bool:
        cut = _CUT.search(self._held)
        if cut is None:
            keep = max(overlap(self._held, mark) for mark in (START, *ENDS))
            shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
            deltas += self._piece(shown)
            return False
        deltas += self._piece(self._held[: cut.start()])
        self._held = self._held[cut.start() if cut[0] == START else cut.end() :]
        self._in_header = True
        return True

    def _piece(self, text: str) -> list[Delta]:
        if not text:
            return []
        if self._kind == "call":
            return self._numbers.more(text)
        return [Delta(reasoning=text) if self._kind == "reasoning" else Delta(text)]


def _reader(tools: Sequence[Tool]) -> CallReader:
    return HarmonyParser(tools=True)


HARMONY = CallSyntax(
    name="harmony",
    head=f"{CHANNEL}commentary to=functions.",
    middle=f" <|constrain|>json{MESSAGE}",
    tail="<|call|>",
    markers=MARKERS,
    reader=_reader,
)
