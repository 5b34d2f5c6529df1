"""What had to be changed in a request, from an engine of ours to the relay."""

from __future__ import annotations

import pytest

from adapters.canonical import Change
from adapters.wire.changes import dump_changes, parse_changes

LISTS = {
    "none": ([], ""),
    "one": ([Change("reasoning_effort", "dropped")], "reasoning_effort=dropped"),
    "several": (
        [Change("max_tokens", "clamped"), Change("messages[].name", "ignored")],
        "max_tokens=clamped, messages[].name=ignored",
    ),
    "names that callers chose": ([Change("a=b, c\r\n\u00e9", "emulated")], "a%3Db%2C%20c%0D%0A%C3%A9=emulated"),
}
ODD = {
    "no pairs": "a, ,=,b=",
    "a kind that there is not": "a=lost",
    "no name": "=dropped",
}


@pytest.mark.parametrize(("changes", "text"), LISTS.values(), ids=LISTS)
def test_changes_arrive_as_they_were_sent(changes: list[Change], text: str) -> None:
    assert dump_changes(changes) == text
    assert parse_changes(text) == changes


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_what_makes_no_sense_says_nothing(text: str) -> None:
    assert parse_changes(text) == []
    assert parse_changes(f"{text},n=ignored") == [Change("n", "ignored")]


def test_only_a_long_tail_of_ignored_fields_is_cut() -> None:
    changes = [Change(f"field{i}", "ignored") for i in range(22)] + [Change(f"f{i}", "dropped") for i in range(30)]
    told = parse_changes(dump_changes(changes))
    assert told == [*changes[:20], *changes[22:], Change("2-more", "ignored")]


def test_no_more_are_read_than_anybody_has() -> None:
    assert len(parse_changes("a=ignored," * 1000)) == 64
