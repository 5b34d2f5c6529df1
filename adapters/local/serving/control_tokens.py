"""Keeps the caller's text from being read as control tokens, which only the chat template may write.

A tokenizer finds the text of an added token wherever it stands, so a caller who writes `<|im_end|>` would end the
turn. Therefore the characters that such texts are made with (`<`, `[`) are replaced in all that the caller sent by
stand-ins, private characters that occur nowhere in it; the template renders; the stand-ins are turned back, and where
a caller's character turns out to be part of a control token's text, the text is cut there and its parts are tokenised
apart. So nothing that a template does to the caller's strings, or puts beside them, makes a control token of them; and
text without any is tokenised as ever. Stand-ins print, so that Python's `repr` shows them as they are, and where a
template escapes them nevertheless (JSON in ASCII, URLs), what it wrote is read back.

Only what is a token can be protected: where a model's `[INST]` is plain text to its tokenizer, it is so for all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any
from urllib.parse import quote, unquote

from adapters.errors import InvalidRequest

_BLANKS = " \t\r\n\u2581"
_STAND_INS = tuple(chain(range(0x1D000, 0x1D0F6), range(0xF0000, 0xFFFFE)))
"""Byzantine notes, which print and are no letters; after them private characters."""
_ESCAPES = ("\\u", "\\U", "%")
"""What escapes begin with, and hardly any text has."""
_HEX = "[0-9a-fA-F]"
_ESCAPED = re.compile(
    rf"(?<!\\)(\\+)u([dD][89abAB]{_HEX}{{2}})\\+u([dD][c-fC-F]{_HEX}{{2}})"
    rf"|(?<!\\)(\\+)U({_HEX}{{8}})"
    rf"|(%[fF][0-4](?:%[89abAB]{_HEX}){{3}})"
)
"""A character beyond U+FFFF in JSON's ASCII, in Python's, in a URL; backslashes may have been escaped in their turn."""


class Disguise:
    """The stand-ins of one request."""

    def __init__(self, pivots: str, initials: str, words: re.Pattern[str], stand_ins: str) -> None:
        """`pivots` are replaced wherever they stand, `initials` at the head of the `words` alone."""
        self._pairs = tuple(zip(pivots, stand_ins, strict=False))
        self._initials = dict(zip(initials, stand_ins[len(pivots) :], strict=True))
        self._words = words
        self._originals = dict(zip(stand_ins, pivots + initials, strict=True))
        self._back = str.maketrans(self._originals)
        self.stand_ins = frozenset(stand_ins)

    def hide(self, value: Any) -> Any:
        """A JSON value with stand-ins in all of its strings, keys among them."""
        if isinstance(value, str):
            return self._hide_text(value)
        if isinstance(value, Mapping):
            return {self.hide(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value

    def unescaped(self, rendered: str) -> str:
        """A rendered template in which stand-ins are stand-ins, however it has written them."""
        if not any(escape in rendered for escape in _ESCAPES):
            return rendered

        def stand_in(found: re.Match[str]) -> str:
            char = _unescaped(found)
            if char not in self.stand_ins:
                return found[0]
            original = self._originals[char]
            if found[0][0] != "%":
                return _backslashes_before(found) + char
            quoted = quote(original)
            return char if quoted == original else quoted  # URLs leave letters as they are

        return _ESCAPED.sub(stand_in, rendered)

    def reveal(self, text: str) -> str:
        return text.translate(self._back)

    def _hide_text(self, text: str) -> str:
        for pivot, stand_in in self._pairs:
            text = text.replace(pivot, stand_in)
        return self._words.sub(lambda word: self._initials[word[0][0]] + word[0][1:], text) if self._initials else text


class ControlTokens:
    """A tokenizer's control tokens, and texts to ids with respect to them. Holds no state between calls."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is one of transformers'. Raises ValueError if it has no Rust backend."""
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is None:
            raise ValueError(f"{type(tokenizer).__name__} is no fast tokenizer")
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = False
        added = self._backend.get_added_tokens_decoder()
        controls = {token.content: id for id, token in added.items() if _is_control(token)}
        self._controls = controls
        self._ids = frozenset(controls.values()) - {tokenizer.unk_token_id}
        self._pattern = _any_of(controls)
        pivots = {text: _pivot(text) for text in controls}
        self._pivots = "".join(sorted({pivot for pivot in pivots.values() if pivot is not None}))
        words = [text for text, pivot in pivots.items() if pivot is None]
        self._words = _any_of(words)
        self._initials = "".join(sorted({word[0] for word in words}))

    def ids_of(self, texts: Iterable[str]) -> frozenset[int]:
        """The control tokens that these texts are made with."""
        return frozenset(self._controls[found] for text in texts for found in self._pattern.findall(text))

    def disguise(self, strings: list[str]) -> Disguise:
        """Stand-ins that occur in none of the caller's strings. Raises InvalidRequest."""
        needed = len(self._pivots) + len(self._initials)
        used = set().union(*strings)
        for text in strings:
            if any(escape in text for escape in _ESCAPES):
                used.update(map(_unescaped, _ESCAPED.finditer(text)))
        free = (char for char in map(chr, _STAND_INS) if char not in used)
        stand_ins = "".join(islice(free, needed))
        if len(stand_ins) < needed:
            raise InvalidRequest("Invalid 'messages': they use up the private characters.", param="messages")
        return Disguise(self._pivots, self._initials, self._words, stand_ins)

    def encode(self, rendered: str, disguise: Disguise) -> list[int]:
        """The ids of a rendered template. Raises InvalidRequest."""
        rendered = disguise.unescaped(rendered)
        text = disguise.reveal(rendered)
        ids: list[int] = []
        written = 0
        start = 0
        for end in [*self._cuts(text, rendered, disguise.stand_ins), len(text)]:
            piece = text[start:end]
            # Of `encode` and its like the one that lets other threads run meanwhile; it does not count characters.
            ids += self._backend.encode_batch_fast([piece], add_special_tokens=False)[0].ids
            written += sum(1 for _ in self._pattern.finditer(piece))
            start = end
        if sum(id in self._ids for id in ids) > written:  # some tokenizers take other texts for a token's, too
            raise InvalidRequest("Invalid 'messages': a text there would be read as a control token.", param="messages")
        return ids

    def _cuts(self, text: str, rendered: str, stand_ins: frozenset[str]) -> Iterator[int]:
        """Where to cut so that no control token is left that the caller has a part in; ascending."""
        last = 0
        at = 0
        while found := self._pattern.search(text, at):
            at = found.start() + 1
            own = next((i for i in range(found.start(), found.end()) if rendered[i] in stand_ins), None)
            if own is not None:
                cut = own if own > found.start() else own + 1
                if cut > last:
                    last = cut
                    yield cut


def _unescaped(found: re.Match[str]) -> str:
    """The character that a match of `_ESCAPED` stands for; U+FFFD for what is none."""
    _, high, low, _, code, octets = found.groups()
    if octets is not None:
        return unquote(octets)
    number = int(code, 16) if code else 0x10000 + (int(high, 16) - 0xD800 << 10) + int(low, 16) - 0xDC00
    return chr(number) if number <= sys.maxunicode else "\ufffd"


def _backslashes_before(found: re.Match[str]) -> str:
    """Those that stood before the character, and not for it.

    Whatever escapes doubles every backslash, and then writes one of its own for the character: of 2^j (2m + 1) are 2^j
    the character's, and the rest are m backslashes as they were escaped.
    """
    count = len(found[1] or found[4])
    return "\\" * (count - (count & -count))


def _is_control(token: Any) -> bool:
    """Special tokens, and others that look like a marker; not words or blanks that were added to a vocabulary."""
    text = token.content
    if len(text) < 2 or not text.strip(_BLANKS):
        return False
    return bool(token.special) or (text[0] in "<[{" and text[-1] in ">]}")


def _pivot(text: str) -> str | None:
    """The character of a control token's text that gets a stand-in: no letter or blank, which templates look at."""
    return next((char for char in text if not char.isalnum() and not char.isspace()), None)


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """The longest of the texts that begins somewhere; without any, nothing.

    Written as a tree of their characters: some tokenizers have thousands of control tokens, and where one may begin a
    plain list of them is tried from end to end.
    """
    tree: _Tree = {}
    for text in texts:
        node = tree
        for char in text:
            node = node.setdefault(char, {})
        node[""] = {}
    return re.compile(_branch(tree) if tree else "(?!)")


_Tree = dict[str, "_Tree"]
"""What may follow, by the next character; "" stands for the end of a text."""


def _branch(node: _Tree) -> str:
    """Without recursion where there is no choice: texts may be long."""
    straight = ""
    while len(node) == 1 and "" not in node:
        ((char, node),) = node.items()
        straight += re.escape(char)
    branches = [re.escape(char) + _branch(after) for char, after in sorted(node.items()) if char]
    if not branches:
        return straight
    return f"{straight}(?:{'|'.join(branches)}){'?' if '' in node else ''}"
