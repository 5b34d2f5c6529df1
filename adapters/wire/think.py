"""Reasoning that a model writes into its text, told apart from the answer.

DeepSeek R1 and its like open their text with `<think>` and close the thought with `</think>`.
"""

from __future__ import annotations

from adapters.canonical import Delta

OPEN, CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """Text, cut anywhere, to deltas of reasoning and of text. Only a thought at the very start counts."""

    def __init__(self, opening: str = OPEN, closing: str = CLOSE, *, inside: bool = False) -> None:
        """`inside`: the thought was opened before the text begins; a model may open it again."""
        self._open = opening
        self._close = closing
        self._blanks: list[str] = []
        """Those before anything else: whether they are to be told depends on what follows."""
        self._held = ""
        self._begun = inside
        self._state = self._at_start

    def feed(self, text: str) -> list[Delta]:
        return self._state(text)

    def close(self) -> list[Delta]:
        """What was kept back because it might have been the beginning of a tag."""
        held, self._held = "".join((*self._blanks, self._held)), ""
        if not held:
            return []
        thought = self._state == self._inside or (self._begun and self._state == self._at_start)
        return [Delta(reasoning=held) if thought else Delta(text=held)]

    def _at_start(self, text: str) -> list[Delta]:
        if not self._held:
            first = text.lstrip()
            self._blanks.append(text[: len(text) - len(first)])
            text = first
        self._held += text
        if len(self._held) < len(self._open) and self._open.startswith(self._held):
            return []
        held, whole = self._held, "".join((*self._blanks, self._held))
        self._held = ""
        self._blanks.clear()
        if held.startswith(self._open):
            self._state = self._opening
            return self._opening(held[len(self._open) :])
        if self._begun:
            self._state = self._opening
            return self._opening(whole)
        self._state = self._after
        return [Delta(text=whole)]

    def _opening(self, text: str) -> list[Delta]:
        """The line break after the tag is no part of the thought."""
        text = text.lstrip("\n")
        if not text:
            return []
        self._state = self._inside
        return self._inside(text)

    def _inside(self, text: str) -> list[Delta]:
        thought, tag, answer = (self._held + text).partition(self._close)
        if tag:
            self._held = ""
            self._state = self._between
            return [*_reasoning(thought), *self._between(answer)]
        keep = overlap(thought, self._close)
        self._held = thought[len(thought) - keep :]
        return _reasoning(thought[: len(thought) - keep])

    def _between(self, text: str) -> list[Delta]:
        """The blank lines that set the answer off from the thought belong to neither."""
        text = text.lstrip("\n")
        if not text:
            return []
        self._state = self._after
        return [Delta(text=text)]

    def _after(self, text: str) -> list[Delta]:
        return [Delta(text=text)] if text else []


def _reasoning(text: str) -> list[Delta]:
    return [Delta(reasoning=text)] if text else []


def overlap(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0
