"""Stop strings, wherever the text was cut."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from adapters.local.serving.stops import StopWatch

CASES = {
    "no stop strings": ((), ["one", " two"], "one two", False),
    "one within a piece": (("END",), ["go on END of it"], "go on ", True),
    "one across pieces": (("END",), ["go on E", "N", "D of it"], "go on ", True),
    "the beginning of one that goes on otherwise": (("END",), ["E", "EN", "ENE", "x"], "EENENEx", False),
    "the beginning of one at the end": (("END",), ["the EN"], "the EN", False),
    "the one that is complete first": (("long stop", "g s"), ["a long stop"], "a lon", True),
    "the longest of those that end together": (("\n\n", "\n"), ["a\n\nb"], "a", True),
    "a longer one that ends with a shorter": (("b", "aab"), ["xaab"], "x", True),
    "one that overlaps itself": (("aab",), ["a", "a", "a", "b"], "a", True),
    "more of them than anyone needs": (tuple(f"<{i}>" for i in range(200)), ["a <1", "99", "> b"], "a ", True),
    "characters beyond the basic plane": (("\U0001f600!",), ["hey \U0001f600", "! ho"], "hey ", True),
}


def watched(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    """What was sent, and whether a stop string ended it."""
    watch = StopWatch(stops)
    sent = ""
    for piece in pieces:
        safe, stopped = watch.feed(piece)
        sent += safe
        if stopped:
            assert watch.end() == ""
            return sent, True
    return sent + watch.end(), False


@pytest.mark.parametrize(("stops", "pieces", "sent", "stopped"), CASES.values(), ids=CASES)
def test_a_text_ends_before_a_stop_string(stops: tuple[str, ...], pieces: list[str], sent: str, stopped: bool) -> None:
    assert watched(stops, pieces) == (sent, stopped)


def test_no_more_is_held_back_than_may_be_the_beginning_of_a_stop_string() -> None:
    watch = StopWatch(("###", "#!"))
    assert [watch.feed(piece) for piece in ("a", "b#", "c", "##", "x", "#")] == [
        ("a", False),
        ("b", False),
        ("#c", False),
        ("", False),
        ("##x", False),
        ("", False),
    ]
    assert [watch.end(), watch.end()] == ["#", ""]


def test_an_empty_stop_string_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopWatch(("a", ""))


@hypothesis.given(
    stops=st.lists(st.text("ab\u00e9", min_size=1, max_size=4), max_size=4).map(tuple),
    pieces=st.lists(st.text("ab\u00e9", max_size=5), max_size=8),
)
def test_the_outcome_is_that_of_a_search_in_the_whole_text_and_as_soon_as_it_can_be(
    stops: tuple[str, ...], pieces: list[str]
) -> None:
    text = "".join(pieces)
    ends = [(end, end - len(stop)) for end in range(len(text) + 1) for stop in stops if text[:end].endswith(stop)]
    assert watched(stops, pieces) == ((text[: min(ends)[1]], True) if ends else (text, False))
    watch, fed, sent = StopWatch(stops), "", ""
    for piece in pieces:
        safe, stopped = watch.feed(piece)
        fed, sent = fed + piece, sent + safe
        if stopped:
            break
        held = fed[len(sent) :]
        starts = [k for k in range(len(fed)) if any(stop.startswith(fed[k:]) for stop in stops)]
        assert held == fed[min(starts, default=len(fed)) :]
