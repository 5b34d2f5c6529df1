"""Tokens to text as they come, in constant time a token.

The bytes of each token are learnt once from the tokenizer's own decoder; what is left is UTF-8, which Python decodes
incrementally. `tokenizers.decoders.DecodeStream` is not used: it decodes two windows a token, keeps invalid UTF-8 back
for as long as it lasts (in quadratic time), and raises where a later byte token spoils an earlier one.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

_UTF8 = codecs.getincrementaldecoder("utf-8")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _bytes_of_characters() -> dict[str, int]:
    """The alphabet of byte-level BPE: bytes that print in Latin-1 are themselves, the rest follow from U+0100 on."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _bytes_of_characters()
_KINDS = frozenset({"ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Strip", "WordPiece"})
"""Decoders in which what a token adds depends on nothing but whether it is the first, and on bytes before it."""


class TokenTexts:
    """What each token adds to a text: one for a model, for all threads."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a fast one of `transformers`.

        Raises ValueError for one that cannot be decoded token by token.
        """
        self._backend = tokenizer.backend_tokenizer
        added = self._backend.get_added_tokens_decoder()
        self.special = frozenset(id for id, token in added.items() if token.special)
        """Tokens that are no text of the answer."""
        kinds = _decoder_kinds(self._backend.decoder)
        if unknown := kinds - _KINDS:
            raise ValueError(f"this tokenizer decodes by {', '.join(sorted(unknown))}, which looks ahead")
        self._added = frozenset(added)
        self._byte_level = "ByteLevel" in kinds
        self._byte_fallback = "ByteFallback" in kinds
        self._anchor, self._anchor_text = (0, "") if self._byte_level else self._find_anchor()
        self._pieces: dict[int, bytes] = {}
        self._openings: dict[int, bytes] = {}

    def bytes_of(self, id: int) -> bytes:
        """What the token adds after other text; nothing for a number that is no token."""
        piece = self._pieces.get(id)
        if piece is None:
            piece = self._pieces[id] = self._learn(id, opening=False)
        return piece

    def opening(self, id: int) -> bytes:
        """What the token adds at the start of a text, where some decoders leave a blank out."""
        piece = self._openings.get(id)
        if piece is None:
            piece = self._openings[id] = self._learn(id, opening=True)
        return piece

    def text_of(self, id: int) -> str:
        """As `bytes_of`; U+FFFD stands for what is a part of a character."""
        return self.bytes_of(id).decode(errors="replace")

    def is_token(self, id: int) -> bool:
        """Models often have more numbers than their tokenizers have tokens."""
        return self._backend.id_to_token(id) is not None

    def _learn(self, id: int, *, opening: bool) -> bytes:
        token = self._backend.id_to_token(id)
        if token is None:
            return b""
        if self._byte_level:
            return _byte_level_piece(token)
        if self._byte_fallback and id not in self._added and (found := _BYTE_TOKEN.fullmatch(token)):
            byte = bytes.fromhex(found[1])
            return self._decode([id]).encode() if opening and byte.isascii() else byte
        if opening:
            return self._decode([id]).encode()
        return self._decode([self._anchor, id]).removeprefix(self._anchor_text).encode()

    def _decode(self, ids: list[int]) -> str:
        return str(self._backend.decode(ids, skip_special_tokens=False))

    def _find_anchor(self) -> tuple[int, str]:
        """A token of letters, to decode others behind it."""
        for id in range(self._backend.get_vocab_size()):
            if id not in self._added and (text := self._decode([id])).isascii() and text.isalpha():
                return id, text
        raise ValueError("no token of this tokenizer is made of letters")


def _decoder_kinds(decoder: Any) -> frozenset[str]:
    """The types of a decoder and of the decoders in it."""
    if decoder is None:
        return frozenset()
    state = json.loads(decoder.__getstate__())
    return frozenset(part["type"] for part in state.get("decoders", [state]))


def _byte_level_piece(token: str) -> bytes:
    try:
        return bytes([_ALPHABET[character] for character in token])
    except KeyError:  # an added token is written as it is
        return token.encode()


class Detokenizer:
    """The text of one answer.

    Joined it is what the tokenizer decodes from all tokens at once, without special tokens that are not `kept`. Invalid
    UTF-8 becomes U+FFFD as Unicode recommends, once for each maximal part of a character; decoders with byte fallback
    replace a whole run of byte tokens, and with it good characters that had been sent.
    """

    def __init__(self, texts: TokenTexts, kept: frozenset[int] = frozenset()) -> None:
        self._texts = texts
        self._dropped = texts.special - kept
        self._decoder = _UTF8("replace")
        self.opened = False
        """Whether a token has come that was text."""

    def drops(self, id: int) -> bool:
        """Whether the token is nothing in the text."""
        return id in self._dropped or not self._texts.is_token(id)

    def feed(self, id: int) -> str:
        """The text that is complete with this token; "" while a character is not."""
        if id in self._dropped:
            return ""
        if self.opened:
            return self._decoder.decode(self._texts.bytes_of(id))
        self.opened = self._texts.is_token(id)
        return self._decoder.decode(self._texts.opening(id))

    def end(self) -> str:
        """U+FFFD where the answer ended within a character."""
        return self._decoder.decode(b"", final=True)
