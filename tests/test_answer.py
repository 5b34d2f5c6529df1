"""The rules that make an upstream's events a truthful answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.answer import MOST_HELD, AnswerRules, LeakedCall, StopCutter, collect, gather, settle, spread
from adapters.canonical import (
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    FinishReason,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.errors import RelayError, UpstreamTruncated
from adapters.tokens import PER_IMAGE, PER_MESSAGE, estimate_prompt, estimate_text
from tests.support.events import merged

USAGE = Usage(prompt_tokens=9, completion_tokens=2)
END = Finish("stop", USAGE)


def asking(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), **fields)


def answer(request: ChatRequest, batches: Sequence[Sequence[ChatEvent]]) -> list[ChatEvent]:
    """What a client gets for these batches; the end is one `Finish` with a reason and a usage."""
    rules = AnswerRules(request)
    events = [*(event for batch in batches for event in rules.feed(batch)), *rules.close()]
    finishes = [event for event in events if isinstance(event, Finish)]
    assert events[-1:] == finishes
    assert finishes[0].reason is not None and finishes[0].usage is not None
    return events


def text_of(events: Sequence[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def finish_of(events: Sequence[ChatEvent]) -> Finish:
    last = events[-1]
    assert isinstance(last, Finish)
    return last


# ---------------------------------------------------------------- the end

CALL = Delta(tool_calls=(ToolCallDelta(0, "x", "f", "{}"),))
HI = Delta("Hi")

# What came, the limit sent, what the upstream said, what it counted; the reason that is true.
REASONS: dict[str, tuple[Delta, int | None, FinishReason | None, Usage, FinishReason]] = {
    "told": (HI, 100, "stop", USAGE, "stop"),
    "told length": (HI, 100, "length", USAGE, "length"),
    "told content_filter": (HI, 2, "content_filter", USAGE, "content_filter"),
    "not told": (HI, 100, None, USAGE, "stop"),
    "not told, no limit": (HI, None, None, USAGE, "stop"),
    "not told, at the limit": (HI, 2, None, USAGE, "length"),
    "not told, past the limit": (HI, 1, None, USAGE, "length"),
    "not told, one below the limit": (HI, 3, None, USAGE, "stop"),
    "told stop at the limit": (HI, 2, "stop", USAGE, "stop"),
    "a call, not told": (CALL, 100, None, USAGE, "tool_calls"),
    "a call, told stop": (CALL, 100, "stop", USAGE, "tool_calls"),
    "a call, told tool_calls": (CALL, 100, "tool_calls", USAGE, "tool_calls"),
    "a call, not told, at the limit": (CALL, 2, None, USAGE, "tool_calls"),
    "a call that was cut off": (CALL, 2, "length", USAGE, "length"),
    "told tool_calls without a call": (HI, 100, "tool_calls", USAGE, "stop"),
    "told tool_calls without a call, at the limit": (HI, 2, "tool_calls", USAGE, "length"),
}


@pytest.mark.parametrize(("delta", "limit", "told", "usage", "reason"), REASONS.values(), ids=REASONS)
def test_every_answer_ends_with_the_reason_that_is_true(
    delta: Delta, limit: int | None, told: FinishReason | None, usage: Usage, reason: FinishReason
) -> None:
    events = answer(asking(max_tokens=limit), [[delta], [Finish(told, usage)]])
    assert events == [delta, Finish(reason, usage)]


def test_an_upstream_that_never_finished_is_an_error() -> None:
    rules = AnswerRules(asking())
    rules.feed([HI])
    with pytest.raises(UpstreamTruncated):
        rules.close()


def test_usage_that_was_counted_stays_even_where_it_is_zero() -> None:
    assert finish_of(answer(asking(), [[HI, Finish("stop", Usage())]])).usage == Usage()
    assert finish_of(answer(asking(), [[HI, Finish("stop", Usage(neurons=0.0))]])).usage == Usage(neurons=0.0)


def test_usage_that_nobody_counted_is_an_estimate_and_says_so() -> None:
    request = asking()
    deltas = [Delta("Hello"), Delta(reasoning="Hm."), Delta(tool_calls=(ToolCallDelta(0, "x", "f", '{"a":1}'),))]
    usage = finish_of(answer(request, [deltas, [Finish("stop", None)]])).usage
    assert usage == Usage(
        prompt_tokens=estimate_prompt(request), completion_tokens=estimate_text(5 + 3 + 7), estimated=True
    )


# ---------------------------------------------------------------- estimates


def test_a_text_is_a_token_for_every_three_characters_begun() -> None:
    assert [estimate_text(characters) for characters in (0, 1, 3, 4, 300)] == [0, 1, 1, 2, 100]


def test_a_prompt_is_everything_that_the_model_reads() -> None:
    words = Message(role="user", content="x" * 30)
    bare = estimate_prompt(ChatRequest(model="m", messages=(words,)))
    assert bare == 10 + PER_MESSAGE
    image = Message(role="user", content=(TextPart("x" * 30), ImagePart("data:" + "A" * 10_000)))
    assert estimate_prompt(ChatRequest(model="m", messages=(image,))) == bare + PER_IMAGE
    said = Message(
        role="assistant", content="x" * 10, reasoning="y" * 10, tool_calls=(ToolCall("id", "ffff", "z" * 6),)
    )
    assert estimate_prompt(ChatRequest(model="m", messages=(said,))) == bare
    assert estimate_prompt(ChatRequest(model="m", messages=(words,) * 3)) == 3 * bare
    tools = (Tool(name="f", parameters={"type": "object"}),)
    assert estimate_prompt(ChatRequest(model="m", messages=(words,), tools=tools)) > bare
    schema = JsonFormat(schema={"type": "object"})
    assert estimate_prompt(ChatRequest(model="m", messages=(words,), response_format=schema)) > bare


# ---------------------------------------------------------------- stop sequences

# The stops, the whole text, what is left of it.
STOPS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "in the middle": (("END",), "a END b", "a "),
    "at the start": (("END",), "END b", ""),
    "at the very end": (("END",), "a END", "a "),
    "never": (("END",), "a EN D", "a EN D"),
    "only begun": (("END",), "a EN", "a EN"),
    "begun twice": (("END",), "a EEND b", "a E"),
    "made of one character": (("aab",), "aaaab", "aa"),
    "the first of several": (("X", "Y"), "a Y b X", "a "),
    "the first of one": (("X",), "a X b X", "a "),
    "one inside another": (("bc", "abcd"), "abcd", "a"),
    "one the end of another": (("bc", "abc"), "xabc", "x"),
    "one the beginning of another": (("ab", "abc"), "xabc", "x"),
    "overlapping": (("abX", "bY"), "abY", "a"),
    "a line break": (("\n\n",), "a\nb\n\nc", "a\nb"),
    "beyond the basic plane": (("🎉",), "né🎉!", "né"),
    "four of them": (("1", "2", "3", "4"), "a3b1", "a"),
}


@pytest.mark.parametrize(("stops", "text", "left"), STOPS.values(), ids=STOPS)
def test_text_ends_before_the_stop_wherever_it_is_cut(stops: tuple[str, ...], text: str, left: str) -> None:
    request = asking(stop=stops, max_tokens=2)
    cuts = [[text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))]
    for pieces in cuts:
        events = answer(request, [*([Delta(piece)] for piece in pieces), [Finish(None, USAGE)]])
        assert text_of(events) == left, pieces
        assert finish_of(events) == Finish("stop" if left != text else "length", USAGE)
    assert settle(ChatResult(choices=(Choice(text=text),), usage=USAGE), request).choices[0].text == left


@given(
    st.text("abc", max_size=20),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(0, 20), max_size=6),
)
def test_any_text_is_cut_alike_wherever_it_is_cut_up(text: str, stops: list[str], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert cut_text(stops, pieces) == cut_text(stops, [text]) == _cut_by_the_character(stops, text)


def cut_text(stops: Sequence[str], pieces: Sequence[str]) -> str:
    cutter = StopCutter(stops)
    deltas = [*(delta for piece in pieces for delta in cutter.feed(Delta(piece))), *cutter.close()]
    return "".join(delta.text for delta in deltas)


def _cut_by_the_character(stops: Sequence[str], text: str) -> str:
    """What a server does that looks after every character."""
    for end in range(len(text) + 1):
        if ending := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, ending))]
    return text


def test_text_is_not_held_longer_than_it_may_become_a_stop() -> None:
    rules = AnswerRules(asking(stop=("END",)))
    assert text_of(rules.feed([Delta("a E")])) == "a "
    assert text_of(rules.feed([Delta("N")])) == ""
    assert text_of(rules.feed([Delta("N b")])) == "ENN b"


def test_after_the_cut_nothing_comes_but_the_usage() -> None:
    rules = AnswerRules(asking(stop=("END",)))
    assert not rules.cut
    assert rules.feed([Delta("a END b"), Delta("c", "r"), CALL]) == [Delta("a ")]
    assert rules.cut
    assert rules.feed([Delta("d"), Finish("length", USAGE)]) == []
    assert rules.close() == [Finish("stop", USAGE)]


def test_a_cut_answer_is_whole_though_its_upstream_was_left() -> None:
    rules = AnswerRules(asking(stop=("END",)))
    rules.feed([Delta("a END")])
    (finish,) = rules.close()
    assert isinstance(finish, Finish)
    assert finish.reason == "stop"
    assert finish.usage is not None and finish.usage.estimated


def test_reasoning_is_not_searched_for_stops() -> None:
    events = answer(asking(stop=("END",)), [[Delta(reasoning="the END")], [Delta("a")], [END]])
    assert merged(events) == [Delta(reasoning="the END"), Delta("a"), END]


def test_what_is_held_back_comes_before_a_call() -> None:
    events = answer(asking(stop=("END",)), [[Delta("a E")], [CALL], [END]])
    assert merged(events) == [Delta("a E"), CALL, Finish("tool_calls", USAGE)]


def test_log_probabilities_pass_through_the_rules() -> None:
    entries: list[Any] = [{"token": "a"}, {"token": "b"}]
    deltas = [Delta("a", logprobs=entries[:1]), Delta(logprobs=entries[1:])]
    for request in (asking(), asking(stop=("END",)), asking(parallel_tool_calls=False)):
        events = answer(request, [deltas, [END]])
        assert [entry for event in events if isinstance(event, Delta) for entry in event.logprobs or ()] == entries


# ---------------------------------------------------------------- calls that leaked into the text

TOOLS = (Tool(name="calc", parameters={}), Tool(name="other", parameters={}))
LEAKS: dict[str, tuple[str, str]] = {
    "name and arguments": ('{"name":"calc","arguments":{"a":1}}', '{"a":1}'),
    "arguments as text": ('{"name":"calc","arguments":"{\\"a\\":1}"}', '{"a":1}'),
    "empty arguments": ('{"name":"calc","arguments":""}', "{}"),
    "parameters": ('{"name":"calc","parameters":{"a":1}}', '{"a":1}'),
    "arguments beside the name": ('{"name":"calc","a":1,"b":[2]}', '{"a":1,"b":[2]}'),
    "no arguments": ('{"name":"calc"}', "{}"),
    "a list of one": ('[{"name":"calc","arguments":{"a":1}}]', '{"a":1}'),
    "blanks around it": ('\n {"name":"calc","arguments":{"a":1}}\n', '{"a":1}'),
}
NO_LEAKS: dict[str, str] = {
    "another function": '{"name":"delete_all","arguments":{}}',
    "a list of two": '[{"name":"calc"},{"name":"calc"}]',
    "an empty list": "[]",
    "no name": '{"a":1}',
    "a name that is none": '{"name":["calc"]}',
    "a name that is an object": '{"name":{"calc":1}}',
    "broken JSON": '{"name":"calc","arguments":{',
    "words after it": '{"name":"calc"} is what I would call',
    "words before it": 'I call {"name":"calc"}',
    "words": "I will not.",
    "a number": "42",
    "blanks": " \n",
    "nothing": "",
}
FORCED = [
    pytest.param("required", id="any tool"),
    pytest.param(NamedTool("calc"), id="this tool"),
]


def pieces_of(text: str) -> list[list[list[ChatEvent]]]:
    """The text whole, in two at every place, and character by character; ended as such a model ends."""
    cuts = [[text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))]
    end: list[ChatEvent] = [END]
    return [_deltas(pieces) + [end] for pieces in cuts]


def _deltas(pieces: Sequence[str]) -> list[list[ChatEvent]]:
    return [[Delta(piece)] for piece in pieces]


@pytest.mark.parametrize("choice", FORCED)
@pytest.mark.parametrize(("text", "arguments"), LEAKS.values(), ids=LEAKS)
def test_a_forced_call_that_came_as_text_becomes_a_call(text: str, arguments: str, choice: Any) -> None:
    request = asking(tools=TOOLS, tool_choice=choice)
    call = ToolCallDelta(0, None, "calc", arguments)
    for batches in pieces_of(text):
        assert merged(answer(request, batches)) == [Delta(tool_calls=(call,)), Finish("tool_calls", USAGE)]


@pytest.mark.parametrize("choice", FORCED)
@pytest.mark.parametrize("text", NO_LEAKS.values(), ids=NO_LEAKS)
def test_text_that_is_no_call_stays_text(text: str, choice: Any) -> None:
    request = asking(tools=TOOLS, tool_choice=choice)
    for batches in pieces_of(text):
        events = answer(request, batches)
        assert text_of(events) == text
        assert finish_of(events) == Finish("stop", USAGE)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_a_call_that_nobody_forced_stays_text(choice: Any) -> None:
    text = LEAKS["name and arguments"][0]
    assert text_of(answer(asking(tools=TOOLS, tool_choice=choice), [[Delta(text)], [END]])) == text


def test_only_the_tool_that_was_named_is_recovered() -> None:
    text = '{"name":"other","arguments":{}}'
    assert text_of(answer(asking(tools=TOOLS, tool_choice=NamedTool("calc")), [[Delta(text)], [END]])) == text


def test_a_real_call_leaves_the_text_as_it_is() -> None:
    text = LEAKS["name and arguments"][0]
    events = answer(asking(tools=TOOLS, tool_choice="required"), [[Delta(text)], [CALL], [END]])
    assert merged(events) == [Delta(text), CALL, Finish("tool_calls", USAGE)]


def test_words_pass_at_once_though_a_call_was_forced() -> None:
    leak = LeakedCall(asking(tools=TOOLS, tool_choice="required"))
    assert text_of(leak.feed(Delta(" I"))) == " I"
    assert text_of(leak.feed(Delta(' {"name":"calc"}'))) == ' {"name":"calc"}'


def test_reasoning_passes_while_text_is_held() -> None:
    events = answer(
        asking(tools=TOOLS, tool_choice="required"),
        [[Delta(reasoning="a")], [Delta('{"name":', "b")], [Delta('"calc"}')], [END]],
    )
    call = ToolCallDelta(0, None, "calc", "{}")
    assert merged(events) == [Delta(reasoning="ab"), Delta(tool_calls=(call,)), Finish("tool_calls", USAGE)]


def test_a_call_that_leaked_ends_at_no_stop() -> None:
    request = asking(tools=TOOLS, tool_choice="required", stop=("}",))
    events = answer(request, [[Delta('{"name":"calc","a":1}')], [END]])
    call = ToolCallDelta(0, None, "calc", '{"a":1}')
    assert merged(events) == [Delta(tool_calls=(call,)), Finish("tool_calls", USAGE)]


# ---------------------------------------------------------------- one call


def test_one_call_is_kept_where_only_one_was_allowed() -> None:
    batches: list[list[ChatEvent]] = [
        [Delta("a", tool_calls=(ToolCallDelta(0, "x", "f", '{"a"'), ToolCallDelta(1, "y", "g", "{}")))],
        [Delta(tool_calls=(ToolCallDelta(1, arguments="!"), ToolCallDelta(0, arguments=":1}")))],
        [Delta(tool_calls=(ToolCallDelta(2, "z", "h", "{}"),))],
        [Finish("tool_calls", USAGE)],
    ]
    only = ToolCallDelta(0, "x", "f", '{"a":1}')
    assert merged(answer(asking(parallel_tool_calls=False), batches)) == [
        Delta("a"),
        Delta(tool_calls=(only,)),
        Finish("tool_calls", USAGE),
    ]
    for allowed in (True, None):
        result = collect(answer(asking(parallel_tool_calls=allowed), batches))
        assert [call.name for call in result.choices[0].tool_calls] == ["f", "g", "h"]


# ---------------------------------------------------------------- whole answers

RESULT = ChatResult(
    choices=(
        Choice(
            text="Hi",
            reasoning="r",
            tool_calls=(ToolCall("x", "f", '{"a":1}'), ToolCall(None, "g", "{}")),
            finish_reason="tool_calls",
            logprobs=[{"token": "Hi"}],
        ),
    ),
    usage=USAGE,
)


def test_what_is_spread_is_collected_again() -> None:
    assert collect(spread(RESULT)) == RESULT
    assert collect(spread(ChatResult(choices=(Choice(),)))) == ChatResult(choices=(Choice(),))


def test_a_whole_answer_is_spread_as_one_delta_and_its_end() -> None:
    delta, finish = spread(RESULT)
    assert isinstance(delta, Delta)
    assert finish == Finish("tool_calls", USAGE)


def test_pieces_are_collected_in_their_order() -> None:
    events: list[ChatEvent] = [
        Delta("a", "r"),
        Delta(tool_calls=(ToolCallDelta(0, "x", "f", ""), ToolCallDelta(1, "y", "g", "{}"))),
        Delta("b", logprobs=[1]),
        Delta(reasoning="s", tool_calls=(ToolCallDelta(0, arguments='{"a":1}'),), logprobs=[2]),
        Finish("length", USAGE),
    ]
    assert collect(events) == ChatResult(
        choices=(
            Choice(
                text="ab",
                reasoning="rs",
                tool_calls=(ToolCall("x", "f", '{"a":1}'), ToolCall("y", "g", "{}")),
                finish_reason="length",
                logprobs=[1, 2],
            ),
        ),
        usage=USAGE,
    )


def test_a_whole_answer_is_settled_by_the_same_rules() -> None:
    assert settle(RESULT, asking()) == RESULT
    (choice,) = settle(RESULT, asking(parallel_tool_calls=False)).choices
    assert [call.name for call in choice.tool_calls] == ["f"]
    silent = settle(ChatResult(choices=(Choice(text="Hi"),)), asking())
    assert silent.choices[0].finish_reason == "stop"
    assert silent.usage is not None and silent.usage.estimated
    leaked = settle(
        ChatResult(choices=(Choice(text='{"name":"calc"}', finish_reason="stop"),), usage=USAGE),
        asking(tools=TOOLS, tool_choice="required"),
    )
    assert leaked.choices[0].tool_calls == (ToolCall(None, "calc", "{}"),)
    assert leaked.choices[0].text == ""


def test_a_call_before_the_stop_is_still_to_be_run() -> None:
    rules = AnswerRules(asking(stop=("END",)))
    assert rules.feed([CALL, Delta("a END"), Finish("tool_calls", USAGE)]) == [CALL, Delta("a ")]
    assert rules.close() == [Finish("tool_calls", USAGE)]


def test_logprobs_end_with_the_text() -> None:
    entries = [{"token": token, "logprob": -0.1} for token in ("one", " END", " two")]
    rules = AnswerRules(asking(stop=("END",)))
    (delta,) = rules.feed([Delta("one END two", logprobs=entries)])
    assert delta == Delta("one ", logprobs=entries[:1])


def test_a_text_too_long_to_be_a_call_is_passed_on() -> None:
    rules = AnswerRules(asking(tool_choice="required"))
    text = "{" + "x" * MOST_HELD
    assert "".join(event.text for event in rules.feed([Delta(text)]) if isinstance(event, Delta)) == text


@pytest.mark.anyio
async def test_an_answer_without_an_end_is_not_collected() -> None:
    async def endless() -> AsyncIterator[list[ChatEvent]]:
        while True:
            yield [Delta("x" * 2**20)]

    with pytest.raises(RelayError):
        await gather(endless())
