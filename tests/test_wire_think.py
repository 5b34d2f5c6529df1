"""Reasoning in the text of a model, told apart from the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wire.think import ThinkSplitter, overlap

TEXTS: dict[str, tuple[str, str, str]] = {
    "a thought, then the answer": ("<think>\nHm.\n</think>\n\nYes.", "Hm.\n", "Yes."),
    "on one line": ("<think>Hm.</think>Yes.", "Hm.", "Yes."),
    "blanks before the tag": ("\n <think>Hm.</think>Yes.", "Hm.", "Yes."),
    "an empty thought": ("<think>\n\n</think>\n\nYes.", "", "Yes."),
    "no thought": ("Yes.", "", "Yes."),
    "blanks without a thought stay": ("\n\n Yes.", "", "\n\n Yes."),
    "a tag that comes later is text": ("Write <think>x</think> so.", "", "Write <think>x</think> so."),
    "a second thought is text": ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    "a thought that was cut off": ("<think>Hm", "Hm", ""),
    "cut off inside the closing tag": ("<think>Hm</thi", "Hm</thi", ""),
    "cut off inside the opening tag": ("<thi", "", "<thi"),
    "what only looks like a tag": ("<thinking>no</thinking>", "", "<thinking>no</thinking>"),
    "a closing tag that only begins": ("<think>a </thin> b</think>c", "a </thin> b", "c"),
    "only blanks": (" \n", "", " \n"),
    "only the tags": ("<think></think>", "", ""),
    "nothing": ("", "", ""),
}


def split(pieces: list[str]) -> tuple[str, str]:
    """Reasoning and text. Reasoning never follows text."""
    splitter = ThinkSplitter()
    deltas = [*(delta for piece in pieces for delta in splitter.feed(piece)), *splitter.close()]
    kinds = ["text" if delta.text else "reasoning" for delta in deltas]
    assert kinds == sorted(kinds)
    assert all(bool(delta.text) != bool(delta.reasoning) for delta in deltas)
    return "".join(delta.reasoning for delta in deltas), "".join(delta.text for delta in deltas)


@pytest.mark.parametrize(("text", "reasoning", "answer"), TEXTS.values(), ids=TEXTS)
def test_a_thought_is_told_apart_wherever_the_text_is_cut(text: str, reasoning: str, answer: str) -> None:
    assert split([text]) == (reasoning, answer)
    assert split(list(text)) == (reasoning, answer)
    for at in range(len(text)):
        assert split([text[:at], text[at:]]) == (reasoning, answer), at


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "th", "\n", " ", "a", "</"]), max_size=12), st.data())
def test_any_text_is_split_alike_wherever_it_is_cut(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    at = data.draw(st.integers(0, len(text)))
    assert split([text[:at], text[at:]]) == split([text]) == split(list(text))


def test_text_is_not_held_longer_than_it_may_be_a_tag() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("<thi") == []
    assert [delta.text for delta in splitter.feed("s")] == ["<this"]
    assert [delta.text for delta in splitter.feed("<think>")] == ["<think>"]


OVERLAPS = [("abc", "cd", 1), ("abc", "bcd", 2), ("abc", "x", 0), ("abc", "abc", 0), ("", "a", 0), ("aa", "aab", 2)]


@pytest.mark.parametrize(("text", "marker", "length"), OVERLAPS)
def test_the_overlap_is_the_longest_beginning_of_the_marker(text: str, marker: str, length: int) -> None:
    assert overlap(text, marker) == length
