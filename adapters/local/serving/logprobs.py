"""OpenAI's `logprobs.content`: one entry a token of the text.

The `bytes` of the entries, joined, are the bytes of the content. So a token that adds nothing to it has no entry: an
end token, another special token that is left out of the text, a mark of reasoning or of a call. (vLLM has entries for
those, which makes the two lists differ.) A token of which only a part is shown, as before a stop string, has one.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from adapters.local.inference.request import Token
from adapters.local.serving.detokenizer import TokenTexts

_LEAST = -9999.0
"""What OpenAI writes for a token that is next to impossible; -inf is no JSON."""


def logprob_entry(token: Token, texts: TokenTexts, *, opening: bool = False) -> dict[str, Any]:
    """`token`, `bytes`, `logprob` and `top_logprobs` (as many as the job asked for, best first).

    A token that is a part of a character has its bytes, and U+FFFD for what has no text. `opening`: it is the first of
    the text, where some tokenizers leave a blank out.
    Raises ValueError for a token without a logprob: the job asked for none.
    """
    if token.logprob is None:
        raise ValueError("the job asked for no logprobs")
    bytes_of = texts.opening if opening else texts.bytes_of
    top = [_entry(bytes_of(id), logprob) for id, logprob in token.alternatives]
    return {**_entry(bytes_of(token.id), token.logprob), "top_logprobs": top}


def _entry(piece: bytes, logprob: float) -> dict[str, Any]:
    return {"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": max(logprob, _LEAST)}


class PendingEntries:
    """Entries of tokens until their text is shown. What a parser makes no text of takes its entries with it."""

    def __init__(self) -> None:
        self._entries: deque[tuple[int, dict[str, Any]]] = deque()
        """Each behind where its bytes begin in `_text`, which may begin with the rest of a token shown in part."""
        self._text = bytearray()
        self._said = 0
        """Bytes of `_text` that are known to be text, and only wait to be shown."""
        self._exact = True
        """They stand there as they will be shown."""

    def add(self, entry: dict[str, Any]) -> None:
        self._entries.append((len(self._text), entry))
        self._text += bytes(entry["bytes"])

    def said(self, text: str, *, first: bool) -> None:
        """The parser found this to be text. What stood before it is not; there is some before the `first` text alone,
        after a thought or a call, or else hardly ever. Behind it there may be what the parser keeps back, which may be
        the same again."""
        written = text.encode()
        from_the_start = not first or (text.strip() and self._text.startswith(written, self._said))
        start = (self._text.find if from_the_start else self._text.rfind)(written, self._said)
        if start < 0:  # invalid UTF-8 was replaced
            self._said, self._exact = len(self._text), False
            return
        passed = start - self._said
        kept: deque[tuple[int, dict[str, Any]]] = deque()
        for begins, entry in self._entries:
            if begins < self._said or begins + len(entry["bytes"]) > start:
                kept.append((begins if begins < self._said else max(begins - passed, self._said), entry))
        self._entries = kept
        del self._text[self._said : start]
        self._said += len(written)

    def shown(self, text: str) -> list[dict[str, Any]]:
        """The entries of the tokens that a text is made of, which is the next of what was said."""
        end = len(text.encode()) if self._exact else self._said
        entries = []
        while self._entries and self._entries[0][0] < end:
            entries.append(self._entries.popleft()[1])
        del self._text[:end]
        self._entries = deque((begins - end, entry) for begins, entry in self._entries)
        self._said -= end
        self._exact = self._exact or not self._said
        return entries

    def forget(self) -> None:
        """None of this is text."""
        self._entries.clear()
        self._text.clear()
        self._said, self._exact = 0, True
