"""Tokens to text as they come, against the tokenizer's own decoding of all at once."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models

from adapters.local.serving.detokenizer import Detokenizer, TokenTexts
from tests.inference.with_torch.vocabularies import KINDS, MARKERS, SPECIAL, tokenizer

BYTE_FALLBACK = [kind for kind in KINDS if kind.startswith("byte fallback")]
TEXTS = {kind: TokenTexts(tokenizer(kind)) for kind in KINDS}
TOKENS = {kind: range(len(tokenizer(kind)) + 3) for kind in KINDS}
"""All that there are, and numbers that are none."""


def pieces_of(kind: str, ids: list[int], kept: frozenset[int] = frozenset()) -> list[str]:
    detokenizer = Detokenizer(TEXTS[kind], kept)
    return [*map(detokenizer.feed, ids), detokenizer.end()]


def ids_of(kind: str, *tokens: str) -> list[int]:
    return [int(id) for id in tokenizer(kind).convert_tokens_to_ids(tokens)]


def byte_ids(kind: str, *values: int) -> list[int]:
    return ids_of(kind, *(f"<0x{value:02X}>" for value in values))


@st.composite
def answers(draw: Any, kind: str) -> list[int]:
    """Random tokens; those of bytes make characters, since their decoder spoils a whole run of others."""
    token = st.sampled_from(TOKENS[kind]).map(lambda id: [id])
    if kind in BYTE_FALLBACK:
        single = set(byte_ids(kind, *range(256)))
        token = token.filter(lambda ids: ids[0] not in single)
        token |= st.characters(codec="utf-8").map(lambda char: byte_ids(kind, *char.encode()))
    return [id for ids in draw(st.lists(token, max_size=25)) for id in ids]


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(data=st.data())
def test_the_pieces_make_what_the_tokenizer_decodes(kind: str, data: st.DataObject) -> None:
    ids = data.draw(answers(kind))
    assert "".join(pieces_of(kind, ids)) == tokenizer(kind).decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(data=st.data())
def test_special_tokens_that_are_kept_are_text_wherever_they_stand(kind: str, data: st.DataObject) -> None:
    ids = data.draw(answers(kind))
    kept = frozenset(data.draw(st.lists(st.sampled_from(range(len(SPECIAL))))))
    left = [id for id in ids if id >= len(SPECIAL) or id in kept]
    assert "".join(pieces_of(kind, ids, kept)) == tokenizer(kind).decode(left, skip_special_tokens=False)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_come_back_and_added_markers_with_them(kind: str) -> None:
    text = f"the quick dog {MARKERS[0]} over the lazy fox"
    ids = tokenizer(kind).encode(text, add_special_tokens=False)
    assert "".join(pieces_of(kind, ids)).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("kind", ["byte-level", *BYTE_FALLBACK])
def test_a_character_comes_with_its_last_byte(kind: str) -> None:
    ids = tokenizer(kind).encode("a\u00e7\U0001f9e6b", add_special_tokens=False)
    pieces = pieces_of(kind, ids)
    assert [piece.strip() for piece in pieces if piece.strip()] == ["a", "\u00e7", "\U0001f9e6", "b"]
    assert pieces.count("") >= 4


INVALID = {
    "a character that the end cuts off": ([0xF0, 0x9F, 0xA7], ["", "", "", "\ufffd"]),
    "one that another begins in": ([0xE2, 0x82, 0xC3, 0xA7], ["", "", "\ufffd", "\u00e7", ""]),
    "bytes that begin none": ([0x80, 0xFF, 0x41], ["\ufffd", "\ufffd", "A", ""]),
    "a good character before": ([0xC3, 0xA7, 0xFF], ["", "\u00e7", "\ufffd", ""]),
}


@pytest.mark.parametrize(("values", "pieces"), INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("kind", BYTE_FALLBACK)
def test_what_is_no_character_is_replaced_once(kind: str, values: list[int], pieces: list[str]) -> None:
    assert pieces_of(kind, byte_ids(kind, *values)) == pieces


def test_a_long_row_of_bytes_that_make_no_character_is_not_kept_back() -> None:
    [kind, *_] = BYTE_FALLBACK
    assert pieces_of(kind, byte_ids(kind, 0xFF) * 1000) == ["\ufffd"] * 1000 + [""]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_has_its_own_bytes(kind: str) -> None:
    texts = TEXTS[kind]
    [dog] = tokenizer(kind).encode("a dog", add_special_tokens=False)[-1:]
    assert texts.text_of(dog).lstrip() == "dog"
    assert [texts.text_of(id).strip() for id in (2, len(tokenizer(kind)), 10**6)] == [SPECIAL[2], "", ""]
    if kind in BYTE_FALLBACK:
        [part] = byte_ids(kind, 0xC3)
        assert (texts.bytes_of(part), texts.text_of(part)) == (b"\xc3", "\ufffd")


def made(decoder: Any, vocabulary: dict[str, int]) -> Any:
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.decoder = decoder
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend)


def test_a_tokenizer_without_a_decoder_puts_blanks_between_words() -> None:
    source = made(None, {"<unk>": 0, "one": 1, "two": 2})
    detokenizer = Detokenizer(TokenTexts(source))
    assert [detokenizer.feed(id) for id in (1, 2, 1)] == ["one", " two", " one"]


def test_an_added_token_with_characters_that_byte_level_does_not_know_is_written_as_it_is() -> None:
    source = made(decoders.ByteLevel(), {"<unk>": 0, "\u0120one": 1})
    source.add_tokens(["<\uff5cturn end\uff5c>"])
    texts = TokenTexts(source)
    assert [texts.text_of(1), texts.text_of(2)] == [" one", "<\uff5cturn end\uff5c>"]


@pytest.mark.parametrize(
    ("decoder", "vocabulary", "reason"),
    [
        (decoders.BPEDecoder(), {"<unk>": 0, "one": 1}, "BPEDecoder, which looks ahead"),
        (decoders.Metaspace(), {"<unk>": 0, "1": 1}, "no token of this tokenizer is made of letters"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_token_by_token_is_refused(
    decoder: Any, vocabulary: dict[str, int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        TokenTexts(made(decoder, vocabulary))
