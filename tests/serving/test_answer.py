"""`adapters.local.serving.answer`: what a client sees of an engine's steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import ChatEvent, Delta, Finish, ToolCallDelta
from adapters.local.inference.errors import JobFailed
from adapters.local.inference.request import Finish as JobFinish
from adapters.local.inference.request import Step
from tests.serving.played import answer, steps


def seen(events: list[ChatEvent]) -> tuple[str, str, list[tuple[str | None, str]], str | None]:
    """Text, reasoning, calls and the reason of the end."""
    deltas = [event for event in events if isinstance(event, Delta)]
    calls: list[tuple[str | None, str]] = []
    for piece in (piece for delta in deltas for piece in delta.tool_calls):
        if piece.name is not None:
            calls.append((piece.name, ""))
        name, arguments = calls[piece.index]
        calls[piece.index] = (name, arguments + piece.arguments)
    reason = next((event.reason for event in events if isinstance(event, Finish)), None)
    return "".join(d.text for d in deltas), "".join(d.reasoning for d in deltas), calls, reason


READ: dict[str, tuple[dict[str, Any], list[Step], Any]] = {
    "an end token": ({}, steps("Hi"), ("Hi", "", [], "stop")),
    "the limit": ({}, steps("Hi", "length"), ("Hi", "", [], "length")),
    "half a character at the limit": ({}, steps("Hi~", "length"), ("Hi?", "", [], "length")),
    "what the parser kept back": ({}, steps("[a", "length"), ("!", "a", [], "length")),
    "reasoning": ({}, steps("[ab]c"), ("c", "ab", [], "stop")),
    "a call": ({}, steps("a{12}"), ("a", "", [("f", "12")], "tool_calls")),
    "two calls": ({}, steps("{1}{2}"), ("", "", [("f", "1"), ("f", "2")], "tool_calls")),
    "a call that is cut off": ({}, steps("{1", "length"), ("", "", [("f", "1")], "length")),
    "a stop string": ({"stop": ("ST",)}, steps("aSTb"), ("a", "", [], "stop")),
    "a stop string that is none": ({"stop": ("STOP",)}, steps("aSTb"), ("aSTb", "", [], "stop")),
    "the beginning of a stop string": ({"stop": ("STOP",)}, steps("aST"), ("aST", "", [], "stop")),
    "the beginning of one before a call": ({"stop": ("STOP",)}, steps("S{1}"), ("S", "", [("f", "1")], "tool_calls")),
    "a stop string within reasoning": ({"stop": ("b",)}, steps("[abc]d"), ("d", "abc", [], "stop")),
    "a stop string after a call": ({"stop": ("x",)}, steps("{1}x{2}"), ("", "", [("f", "1")], "tool_calls")),
    "a stop string at the limit": ({"stop": ("i",)}, steps("Hi", "length"), ("H", "", [], "stop")),
    "a stop string that only the end shows": ({"stop": ("?",)}, steps("Hi~", "length"), ("Hi", "", [], "stop")),
}


@pytest.mark.parametrize("together", [False, True], ids=["a step at a time", "all at once"])
@pytest.mark.parametrize(("options", "played", "expected"), READ.values(), ids=READ)
def test_steps_are_read(options: dict[str, Any], played: list[Step], expected: Any, together: bool) -> None:
    reader = answer(**options)
    batches = [played] if together else [[step] for step in played]
    events = [event for batch in batches for event in reader.feed(batch)]
    assert seen(events) == expected
    assert reader.finish is events[-1]


def usage(options: dict[str, Any], played: list[Step]) -> tuple[int, int, int, int]:
    reader = answer(**options)
    reader.feed(played)
    assert reader.finish is not None and reader.finish.usage is not None
    told = reader.finish.usage
    return told.prompt_tokens, told.cached_tokens, told.completion_tokens, told.reasoning_tokens


COUNTED: dict[str, tuple[dict[str, Any], list[Step], tuple[int, int, int, int]]] = {
    "the end token counts": ({}, steps("Hi"), (7, 3, 3, 0)),
    "the limit brings no token": ({}, steps("Hi", "length"), (7, 3, 2, 0)),
    "reasoning, with the marker at its end": ({}, steps("[abc]de"), (7, 3, 8, 4)),
    "reasoning that the prompt has begun": ({"thinking": True}, steps("d"), (7, 3, 2, 0)),
    "nothing after a stop string": ({"stop": ("b",)}, steps("abcdef"), (7, 3, 2, 0)),
}


@pytest.mark.parametrize(("options", "played", "expected"), COUNTED.values(), ids=COUNTED)
def test_tokens_are_counted(options: dict[str, Any], played: list[Step], expected: Any) -> None:
    assert usage(options, played) == expected


def test_an_end_after_a_stop_string_counts_whatever_it_was() -> None:
    reader = answer(stop=("b",))
    assert reader.feed(steps("ab", None)) == [Delta("a")]
    assert reader.stopped and reader.finish is None
    failed = JobFinish("error", 7, 3, 9, JobFailed("too late"))
    (finish,) = reader.feed([*steps("more", None), Step(None, failed)])
    assert isinstance(finish, Finish) and finish.reason == "stop"
    assert finish.usage is not None and (finish.usage.completion_tokens, finish.usage.cached_tokens) == (2, 3)


def test_an_answer_that_was_cancelled_has_no_end() -> None:
    reader = answer()
    assert reader.feed([*steps("a", None), Step(None, JobFinish("cancelled", 7, 0, 1))]) == [Delta("a")]
    assert reader.finish is None


def test_a_job_that_fails_raises_what_it_failed_of() -> None:
    with pytest.raises(JobFailed, match="no numbers"):
        answer().feed([Step(None, JobFinish("error", 7, 0, 0, JobFailed("no numbers")))])


LOGPROBS: dict[str, tuple[tuple[str, ...], str, list[tuple[str, str]]]] = {
    "with each token": ((), "ab", [("a", "a"), ("b", "b")]),
    "with a character of two": ((), "~b", [("~b", "~b")]),
    "not of reasoning": ((), "[a]b", [("", ""), ("b", "b")]),
    "not of calls": ((), "a{1}", [("a", "a"), ("", ""), ("", "")]),
    "with what was held back": (("xyz",), "axyb", [("a", "a"), ("xyb", "xyb")]),
    "with what was held back before a call": (("xyz",), "ax{", [("a", "a"), ("x", "x"), ("", "")]),
    "with what was held back at the end": (("xyz",), "axy", [("a", "a"), ("xy", "xy")]),
    "not of a stop string": (("xy",), "axy", [("a", "a")]),
}


@pytest.mark.parametrize(("stop", "text", "expected"), LOGPROBS.values(), ids=LOGPROBS)
def test_logprobs_come_with_the_text_of_their_tokens(
    stop: tuple[str, ...], text: str, expected: list[tuple[str, str]]
) -> None:
    events = answer(stop=stop, logprobs=True).feed(steps(text))
    deltas = [event for event in events if isinstance(event, Delta)]
    assert [(d.text, "".join(e["token"] for e in d.logprobs or ())) for d in deltas] == expected


def test_at_a_stop_string_within_a_piece_the_logprobs_end_with_the_text() -> None:
    reader = answer(stop=("xy",), logprobs=True)
    events = reader.feed(steps("a~xyb", None))
    deltas = [event for event in events if isinstance(event, Delta)]
    assert [d.text for d in deltas] == ["a", "~"]
    assert [[e["token"] for e in d.logprobs or ()] for d in deltas] == [["a"], ["~"]]


def test_a_call_is_told_piece_by_piece() -> None:
    events = answer().feed(steps("{1"))
    assert events[:2] == [
        Delta(tool_calls=(ToolCallDelta(0, name="f"),)),
        Delta(tool_calls=(ToolCallDelta(0, arguments="1"),)),
    ]


@given(
    text=st.text(alphabet="abx[]{}~", max_size=30),
    stops=st.lists(st.text(alphabet="abx", min_size=1, max_size=3), max_size=3).map(tuple),
    reason=st.sampled_from(["stop", "length"]),
    data=st.data(),
)
def test_however_the_steps_come_together_the_answer_is_the_same_and_its_logprobs_are_its_text(
    text: str, stops: tuple[str, ...], reason: Any, data: st.DataObject
) -> None:
    played = steps(text, reason)
    whole, pieces = answer(stop=stops, logprobs=True), answer(stop=stops, logprobs=True)
    at_once = whole.feed(played)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(played)))))
    bit_by_bit: list[ChatEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(played)], strict=True):
        bit_by_bit += pieces.feed(played[start:end])
    assert seen(at_once) == seen(bit_by_bit)
    assert not any(stop in seen(at_once)[0] for stop in stops if not set("[]{}") & set(text))
    for events in (at_once, bit_by_bit):
        deltas = [event for event in events if isinstance(event, Delta)]
        told = "".join(entry["token"] for delta in deltas for entry in delta.logprobs or ())
        if not set("[]{}") & set(text) and not whole.stopped:
            assert told == text
