"""Entries of OpenAI's list of logprobs."""

from __future__ import annotations

import json
from copy import deepcopy
from math import inf
from typing import Any

import pytest

from adapters.canonical import ChatRequest, Delta, Message, Tool
from adapters.local.inference.request import Finish, Step, Token
from adapters.local.serving.detokenizer import TokenTexts
from adapters.local.serving.drafts import Drafts
from adapters.local.serving.logprobs import PendingEntries, logprob_entry
from tests.inference.with_torch.vocabularies import KINDS, tokenizer

TEXTS = TokenTexts(tokenizer())
DOG, COMMA = tokenizer().encode(" dog,", add_special_tokens=False)
[PART] = tokenizer().convert_tokens_to_ids(["\u00c3"])
END = 2

ENTRIES = {
    "a word": (
        Token(DOG, -0.25),
        {"token": " dog", "bytes": [32, 100, 111, 103], "logprob": -0.25, "top_logprobs": []},
    ),
    "a part of a character": (
        Token(PART, -1.0),
        {"token": "\ufffd", "bytes": [0xC3], "logprob": -1.0, "top_logprobs": []},
    ),
    "alternatives": (
        Token(DOG, -0.5, ((COMMA, -0.25), (END, -inf))),
        {
            "token": " dog",
            "bytes": [32, 100, 111, 103],
            "logprob": -0.5,
            "top_logprobs": [
                {"token": ",", "bytes": [44], "logprob": -0.25},
                {"token": "<|im_end|>", "bytes": list(b"<|im_end|>"), "logprob": -9999.0},
            ],
        },
    ),
    "no token": (Token(10**6, -3.0), {"token": "", "bytes": [], "logprob": -3.0, "top_logprobs": []}),
}


@pytest.mark.parametrize(("token", "entry"), ENTRIES.values(), ids=ENTRIES)
def test_a_token_is_told_with_its_bytes_and_its_alternatives(token: Token, entry: dict[str, object]) -> None:
    assert logprob_entry(token, TEXTS) == entry
    json.dumps(entry, allow_nan=False)


ANSWERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "words": ("The quick dog,", {}, "The quick dog,"),
    "characters of several tokens": ("caf\u00e9 \U0001f600 \u4f60", {}, "caf\u00e9 \U0001f600 \u4f60"),
    "special tokens between": ("The<s> dog<s>", {}, "The dog"),
    "a thought": ("<think>Hm.</think>\n\nThe dog", {}, "The dog"),
    "a thought and a special token": ("<think>Hm.<s></think>\n\n<s>The dog", {}, "The dog"),
    "a character of several tokens behind a thought": ("<think>Hm.</think>\U0001f600!", {}, "\U0001f600!"),
    "what might be a marker, twice": ("<<dog", {"tools": (Tool(name="f", parameters={}),)}, "<<dog"),
    "text before and after a call": (
        'The dog.\n\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\n\nover',
        {"tools": (Tool(name="f", parameters={}),)},
        "The dog.over",
    ),
    "what is no call": ("The <tool_call>dog", {"tools": (Tool(name="f", parameters={}),)}, "The <tool_call>dog"),
    "before a stop string": ("The quick dog, brown", {"stop": (", b",)}, "The quick dog"),
    "what was held back for one": ("The quick dog, ", {"stop": (", b",)}, "The quick dog, "),
}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("written", "fields", "content"), ANSWERS.values(), ids=ANSWERS)
def test_the_bytes_of_the_entries_are_the_content(
    kind: str, written: str, fields: dict[str, Any], content: str, together: bool
) -> None:
    backend = deepcopy(tokenizer(kind, ("<think>", "</think>", "<tool_call>", "</tool_call>")))
    backend.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{# <think> <tool_call> #}{{ tools }}"
    drafts = Drafts(backend, vocabulary=len(backend), stop_ids=frozenset({END}))
    turns = (Message(role="user", content="Hi"),)
    ids = backend(written, add_special_tokens=False)["input_ids"]
    steps = [Step(Token(id, -0.5)) for id in (*ids, END)] + [Step(None, Finish("stop", 1, 0, len(ids) + 1))]
    try:
        # Without a grammar: what is no call could not be written with one.
        reader = drafts._answer(
            ChatRequest(model="m", messages=turns, logprobs=True, **fields),
            drafts._prompts.render(ChatRequest(model="m", messages=turns, **fields)).turn,
        )
    finally:
        drafts.close()
    told = reader.feed(steps) if together else [event for step in steps for event in reader.feed([step])]
    deltas = [event for event in told if isinstance(event, Delta)]
    text = "".join(delta.text for delta in deltas)
    assert text == content or kind != "byte-level"  # others write blanks as they like
    entries = [entry for delta in deltas for entry in delta.logprobs or ()]
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode() == text
    assert all(delta.text or not delta.logprobs for delta in deltas)


def pending(*pieces: bytes) -> PendingEntries:
    made = PendingEntries()
    for piece in pieces:
        made.add({"bytes": list(piece)})
    return made


def test_a_token_that_is_shown_in_part_has_one_entry() -> None:
    made = pending(b"ab\n", b"c")
    made.said("ab", first=True)
    assert len(made.shown("ab")) == 1
    made.said("\nc", first=False)
    assert [len(made.shown(text)) for text in ("\n", "c")] == [0, 1]


def test_a_token_of_which_a_part_is_no_text_has_an_entry_too() -> None:
    made = pending(b"a", b">\n", b"\nab", b"c")
    made.said("ab", first=True)
    assert made.shown("ab") == [{"bytes": list(b"\nab")}]


def test_what_waits_to_be_shown_is_not_passed_over() -> None:
    """A stop string may have begun with it."""
    made = pending(b"a", b"a", b"a")
    made.said("aa", first=False)
    assert [len(made.shown(text)) for text in ("a", "a")] == [1, 1]
    made.said("a", first=False)
    assert len(made.shown("a")) == 1


def test_where_bytes_were_replaced_all_that_is_there_is_told() -> None:
    made = pending(b"\xff", b"a")
    made.said("\ufffda", first=True)
    assert len(made.shown("\ufffda")) == 2
    made.add({"bytes": [0x62]})
    made.said("b", first=False)
    assert len(made.shown("b")) == 1


def test_a_token_without_a_logprob_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="asked for no logprobs"):
        logprob_entry(Token(DOG), TEXTS)
