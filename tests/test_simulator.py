"""The simulator's chat: what it answers, that it is always the same, and that it adds up."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from random import Random
from typing import Any

import anyio
import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Call
from adapters.canonical import (
    Change,
    ChatEvent,
    ChatRequest,
    ChatResult,
    Choice,
    Delta,
    Finish,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)
from adapters.catalogue import Model, load_snapshot
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.simulator import schema, tokens
from adapters.simulator.chat import SIMULATOR_MODEL, Simulator
from adapters.simulator.logprobs import logprobs
from adapters.simulator.pieces import Pacing
from adapters.simulator.plan import Piece, Plan, play, play_whole

pytestmark = pytest.mark.anyio

LLAMA = "@cf/meta/llama-3.2-1b-instruct"
CATALOGUE = load_snapshot().with_models([SIMULATOR_MODEL])
SIMULATOR = Simulator(CATALOGUE, pace=0)


def user(content: str | tuple[TextPart | ImagePart, ...]) -> Message:
    return Message(role="user", content=content)


def ask(said: str | tuple[Message, ...] = "What is the capital of Norway?", **fields: Any) -> ChatRequest:
    messages = (user(said),) if isinstance(said, str) else said
    return ChatRequest(**{"model": LLAMA, "messages": messages, **fields})


async def whole(request: ChatRequest) -> ChatResult:
    return await SIMULATOR.chat(request, Call("test"))


async def answer(request: ChatRequest) -> Choice:
    (choice,) = (await whole(request)).choices
    return choice


async def events(request: ChatRequest, simulator: Simulator = SIMULATOR) -> list[ChatEvent]:
    async with simulator.stream_chat(request, Call("test")) as batches:
        return [event async for batch in batches for event in batch]


WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = Tool(name="getTime", parameters={})
TOOLS = (WEATHER, CLOCK)
FRUIT = JsonFormat(schema={"type": "object", "properties": {"fruit": {"type": "string"}}, "required": ["fruit"]})

REQUESTS = {
    "words": ask(),
    "words from a system prompt": ask((Message(role="system", content="Be brief."), user("Hi"))),
    "no words": ask(""),
    "no user": ask((Message(role="system", content="Be brief."),)),
    "words of another script": ask("\u5965\u65af\u9646\u5929\u6c14\u600e\u4e48\u6837\uff1f"),
    "a cut answer": ask(max_tokens=7),
    "thoughts": ask(model="@cf/openai/gpt-oss-20b", reasoning_effort="low"),
    "cut thoughts": ask(model="relay/simulator", reasoning_effort="high", max_tokens=5),
    "a call": ask("get_weather for Oslo", tools=TOOLS),
    "two calls": ask("get weather and gettime", tools=TOOLS),
    "a cut call": ask("get_weather for Oslo", tools=TOOLS, max_tokens=8),
    "a call that was never begun": ask("get_weather for Oslo", tools=TOOLS, max_tokens=1),
    "an object": ask(response_format=JsonFormat()),
    "an instance": ask(response_format=FRUIT),
    "probabilities": ask(logprobs=True, top_logprobs=2),
    "an image": ask((user((TextPart("Look:"), ImagePart("data:image/png;base64,AAAA"))),)),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_a_stream_and_a_whole_answer_are_the_same(request_: ChatRequest) -> None:
    result = await whole(request_)
    *deltas, finish = await events(request_)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert isinstance(finish, Finish)
    plan = Plan(tuple(Piece(delta) for delta in deltas if isinstance(delta, Delta)), finish)
    assert await play_whole(plan) == result


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_usage_adds_up(request_: ChatRequest) -> None:
    result = await whole(request_)
    (choice,) = result.choices
    parts = [
        choice.reasoning,
        choice.text,
        *(part for call in choice.tool_calls for part in (call.name, call.arguments)),
    ]
    reasoning_tokens = tokens.count(choice.reasoning)
    assert result.usage == Usage(
        prompt_tokens=tokens.count_prompt(request_),
        completion_tokens=sum(tokens.count(part) for part in parts),
        reasoning_tokens=reasoning_tokens,
    )
    assert request_.max_tokens is None or result.usage.completion_tokens <= request_.max_tokens


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_the_same_request_gets_the_same_answer(request_: ChatRequest) -> None:
    assert await whole(copy.deepcopy(request_)) == await whole(request_)


async def test_the_answer_is_the_same_in_another_process() -> None:
    """Python's own hashes differ between processes; an answer made with them would too."""
    code = (
        "import sys; from random import Random; from adapters.simulator import schema;"
        "sys.stdout.write(schema.instance({'type': 'string', 'pattern': r'^[^a-m]{9}\\\\W\\\\S.[\\\\d_]$'}, Random(5)))"
    )
    made = set()
    for seed in ("1", "2"):
        run = await anyio.run_process(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            stderr=subprocess.STDOUT,
        )
        made.add(run.stdout)
    assert len(made) == 1


@pytest.mark.parametrize(
    "fields",
    [{"seed": 7}, {"model": "relay/simulator"}, {"messages": (user("And of Sweden?"),)}],
    ids=lambda fields: next(iter(fields)),
)
async def test_another_request_gets_another_answer(fields: dict[str, Any]) -> None:
    assert (await answer(msgspec.structs.replace(ask(), **fields))).text != (await answer(ask())).text


@pytest.mark.parametrize(
    "fields", [{"stream": True}, {"logprobs": True}, {"temperature": 2.0}, {"include_usage": True}], ids=str
)
async def test_what_is_no_part_of_the_question_does_not_change_the_answer(fields: dict[str, Any]) -> None:
    assert (await answer(ask(**fields))).text == (await answer(ask())).text


async def test_a_cut_answer_is_the_beginning_of_the_whole_one() -> None:
    full = (await answer(ask())).text
    for most in (1, 2, 9, 30):
        result = await whole(ask(max_tokens=most))
        assert full.startswith(result.choices[0].text)
        assert result.choices[0].finish_reason == "length"
        assert result.usage is not None and result.usage.completion_tokens == most


async def test_an_answer_that_just_fits_is_not_cut() -> None:
    result = await whole(ask())
    assert result.usage is not None
    assert await whole(ask(max_tokens=result.usage.completion_tokens)) == result


async def test_an_answer_says_once_that_it_is_simulated_and_quotes_the_question() -> None:
    choice = await answer(ask())
    assert choice.text.startswith("(simulated) ")
    assert choice.text.lower().count("simulated") == 1
    assert 'You asked "What is the capital of Norway?"' in choice.text
    assert LLAMA in choice.text
    assert choice.finish_reason == "stop"


async def test_the_simulators_own_id_is_not_named_as_the_model_it_replaces() -> None:
    assert "relay/simulator" not in (await answer(ask(model="relay/simulator"))).text


async def test_an_answer_is_no_echo_of_a_long_question() -> None:
    choice = await answer(ask("secret " * 50 + "and the very last words"))
    assert "and the very last words" in choice.text
    assert choice.text.count("secret") < 12


async def test_words_are_counted_as_far_as_they_are_read() -> None:
    assert "makes 1000 words." in (await answer(ask("word " * 1000))).text
    assert "words or more." in (await answer(ask("word " * 20_000))).text


async def test_an_answer_comes_word_by_word() -> None:
    deltas = [event for event in await events(ask()) if isinstance(event, Delta)]
    assert len(deltas) > 25
    assert all(len(delta.text) < 25 for delta in deltas)


@pytest.mark.parametrize("count", [1, 3])
async def test_images_are_acknowledged_by_their_number(count: int) -> None:
    content: tuple[TextPart | ImagePart, ...] = (TextPart("Look:"), *[ImagePart("data:image/png;base64,AAAA")] * count)
    assert f"It came with {count} image" in (await answer(ask((user(content),)))).text


# Timing


async def played_delays(monkeypatch: pytest.MonkeyPatch, simulator: Simulator, *, stream: bool) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    if stream:
        await events(ask(), simulator)
    else:
        await simulator.chat(ask(), Call("test"))
    return slept


async def test_pieces_keep_their_pace_after_a_first_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = await played_delays(monkeypatch, Simulator(CATALOGUE, pace=0.02, first_delay=0.3), stream=True)
    assert slept[0] == 0.3
    assert all(0.01 <= delay <= 0.03 for delay in slept[1:])
    assert len(set(slept)) > 10


async def test_a_whole_answer_takes_as_long_as_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator(CATALOGUE, pace=0.02, first_delay=0.3)
    streamed = await played_delays(monkeypatch, simulator, stream=True)
    assert await played_delays(monkeypatch, simulator, stream=False) == pytest.approx([sum(streamed)])


async def test_without_a_pace_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await played_delays(monkeypatch, SIMULATOR, stream=True) == []
    assert await played_delays(monkeypatch, SIMULATOR, stream=False) == []


async def test_a_stream_that_is_left_is_closed() -> None:
    async with SIMULATOR.stream_chat(ask(), Call("test")) as batches:
        assert await anext(batches)
    with pytest.raises(StopAsyncIteration):
        await anext(batches)


async def test_a_plan_of_ones_own_can_be_played() -> None:
    finish = Finish("content_filter", Usage(completion_tokens=2))
    plan = Plan((Piece(Delta(text="No")), Piece(Delta(text="."))), finish)
    assert [batch async for batch in play(plan)] == [[Delta(text="No")], [Delta(text=".")], [finish]]
    assert (await play_whole(plan)).choices == (Choice(text="No.", finish_reason="content_filter"),)
    assert Pacing(0, 0).between == 0


# Tools


def calls_since(*names: str) -> tuple[Message, ...]:
    """Calls of these functions by the assistant, and their results."""
    calls = tuple(ToolCall(f"id-{name}", name, "{}") for name in names)
    results = [Message(role="tool", content="12 degrees", tool_call_id=call.id) for call in calls]
    return (Message(role="assistant", tool_calls=calls), *results)


CALLS: dict[str, tuple[ChatRequest, list[str]]] = {
    "nothing mentioned": (ask(tools=TOOLS), []),
    "mentioned": (ask("Use get_weather for Oslo", tools=TOOLS), ["get_weather"]),
    "mentioned with spaces": (ask("Please Get  Weather for Oslo!", tools=TOOLS), ["get_weather"]),
    "mentioned in camel case": (ask("gettime please", tools=TOOLS), ["getTime"]),
    "mentioned amid another script": (ask("\u8bf7\u7528get_weather\u67e5", tools=TOOLS), ["get_weather"]),
    "mentioned as part of a word": (ask("forget_weathering", tools=TOOLS), []),
    "mentioned earlier only": (ask((user("get_weather"), Message(role="assistant"), user("Thanks")), tools=TOOLS), []),
    "both": (ask("get_weather, getTime", tools=TOOLS), ["get_weather", "getTime"]),
    "both, one at a time": (ask("get_weather, getTime", tools=TOOLS, parallel_tool_calls=False), ["get_weather"]),
    "mentioned but not wanted": (ask("get_weather", tools=TOOLS, tool_choice="none"), []),
    "mentioned without tools": (ask("get_weather"), []),
    "required": (ask(tools=TOOLS, tool_choice="required"), ["get_weather"]),
    "required, another mentioned": (ask("getTime", tools=TOOLS, tool_choice="required"), ["getTime"]),
    "named": (ask(tools=TOOLS, tool_choice=NamedTool("getTime")), ["getTime"]),
    "forced over a schema": (ask(tools=TOOLS, tool_choice="required", response_format=FRUIT), ["get_weather"]),
    "answered": (ask((user("get_weather"), *calls_since("get_weather")), tools=TOOLS), []),
    "required, one answered": (
        ask((user("get_weather"), *calls_since("get_weather")), tools=TOOLS, tool_choice="required"),
        ["getTime"],
    ),
    "required, all answered": (
        ask((user("Hi"), *calls_since("get_weather", "getTime")), tools=TOOLS, tool_choice="required"),
        [],
    ),
    "named and answered": (
        ask((user("Hi"), *calls_since("getTime")), tools=TOOLS, tool_choice=NamedTool("getTime")),
        [],
    ),
    "asked again": (
        ask((user("get_weather"), *calls_since("get_weather"), user("get_weather again")), tools=TOOLS),
        ["get_weather"],
    ),
}


@pytest.mark.parametrize(("request_", "names"), CALLS.values(), ids=CALLS)
async def test_tools_are_called_when_forced_or_named_and_no_loop_goes_on(
    request_: ChatRequest, names: list[str]
) -> None:
    choice = await answer(request_)
    assert [call.name for call in choice.tool_calls] == names
    assert choice.finish_reason == ("tool_calls" if names else "stop")
    assert bool(choice.text) is not bool(names)


async def test_a_calls_arguments_are_an_instance_fed_from_the_message() -> None:
    (call,) = (await answer(ask("Use get_weather for Oslo please", tools=TOOLS))).tool_calls
    arguments = json.loads(call.arguments)
    jsonschema.validate(arguments, WEATHER.parameters)
    assert arguments["city"] == "Oslo"
    assert set(arguments) == {"city", "unit", "days"}
    assert call.id is not None and call.id.startswith("call_")


async def test_calls_of_one_answer_have_ids_of_their_own() -> None:
    first, second = (await answer(ask("get_weather, getTime", tools=TOOLS))).tool_calls
    assert first.id != second.id
    assert second.arguments == "{}"


async def test_only_the_first_piece_of_a_call_names_it() -> None:
    deltas = [event for event in await events(ask("get_weather for Oslo", tools=TOOLS)) if isinstance(event, Delta)]
    first, *others = [piece for delta in deltas for piece in delta.tool_calls]
    assert (first.index, first.name, first.arguments) == (0, "get_weather", "")
    assert len(others) > 2
    assert all((piece.index, piece.id, piece.name) == (0, None, None) for piece in others)


async def test_an_answer_to_a_tool_result_mentions_it() -> None:
    choice = await answer(ask((user("get_weather"), *calls_since("get_weather")), tools=TOOLS))
    assert "1 tool result of get_weather came back, 10 characters in all" in choice.text


async def test_a_named_tool_that_was_not_offered_is_the_clients_mistake() -> None:
    with pytest.raises(InvalidRequest) as caught:
        await whole(ask(tools=TOOLS, tool_choice=NamedTool("other")))
    assert caught.value.param == "tool_choice"


async def test_a_tool_without_possible_arguments_is_the_clients_mistake() -> None:
    impossible = Tool(name="impossible", parameters={"required": ["x"], "properties": {"x": False}})
    with pytest.raises(InvalidRequest) as caught:
        await whole(ask(tools=(WEATHER, impossible), tool_choice=NamedTool("impossible")))
    assert caught.value.param == "tools[1].function.parameters"


# JSON, reasoning, probabilities


async def test_json_mode_answers_an_object() -> None:
    assert isinstance(json.loads((await answer(ask(response_format=JsonFormat()))).text), dict)


async def test_a_json_schema_is_answered_with_an_instance() -> None:
    choice = await answer(ask("Name a Mango", response_format=FRUIT))
    assert json.loads(choice.text) == {"fruit": "Mango"}


async def test_a_schema_without_an_instance_fails_as_json_mode_does_upstream() -> None:
    wanted = JsonFormat(schema={"type": "object", "properties": {"x": False}, "required": ["x"]})
    with pytest.raises(RelayError, match="JSON Mode couldn't be met") as caught:
        await whole(ask(response_format=wanted))
    assert (caught.value.fault, caught.value.upstream_code) == (Fault.RESPONSE_FORMAT, 5024)


@pytest.mark.parametrize(
    ("model", "effort", "reasons"),
    [
        ("@cf/openai/gpt-oss-20b", "low", True),
        ("@cf/openai/gpt-oss-20b", None, False),
        ("@cf/openai/gpt-oss-20b", "none", False),
        ("relay/simulator", "high", True),
        (LLAMA, "high", False),
    ],
)
async def test_a_reasoning_model_thinks_first_when_asked_to(model: str, effort: str | None, reasons: bool) -> None:
    deltas = [event for event in await events(ask(model=model, reasoning_effort=effort)) if isinstance(event, Delta)]
    kinds = ["reasoning" if delta.reasoning else "text" for delta in deltas]
    assert ("reasoning" in kinds) is reasons
    assert kinds == sorted(kinds)
    assert kinds[-1] == "text"


@pytest.mark.parametrize("top", [None, 0, 1, 5, 20])
async def test_probabilities_cover_the_text_and_are_possible(top: int | None) -> None:
    choice = await answer(ask("\u00c6\u00f8\u00e5?", logprobs=True, top_logprobs=top))
    assert choice.logprobs is not None
    assert "".join(entry["token"] for entry in choice.logprobs) == choice.text
    assert b"".join(bytes(entry["bytes"]) for entry in choice.logprobs) == choice.text.encode()
    for entry in choice.logprobs:
        ranked = entry["top_logprobs"]
        assert len(ranked) == (top or 0)
        assert len({one["token"] for one in ranked}) == len(ranked)
        assert entry["logprob"] < 0
        if ranked:
            assert ranked[0] == {key: entry[key] for key in ("token", "logprob", "bytes")}
            assert [one["logprob"] for one in ranked] == sorted((one["logprob"] for one in ranked), reverse=True)
            assert sum(math.exp(one["logprob"]) for one in ranked) < 1.000001


async def test_no_probabilities_come_unasked() -> None:
    assert (await answer(ask())).logprobs is None


def test_a_token_of_half_a_character_has_bytes_too() -> None:
    (entry,) = logprobs(["\ud83d"], 0, Random(1))
    assert entry["bytes"] == [63]


async def test_an_adapter_decides_the_answer() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = JsonFormat(schema=schema)
    plain, one, again, other = [
        (await answer(ask(response_format=wanted, lora=lora))).text for lora in (None, "one", "one", "other")
    ]
    assert one == again and len({plain, one, other}) == 3
    assert (await answer(ask(response_format=wanted, lora=""))).text == plain


# What is accepted and what is refused


async def test_a_call_says_who_answers_and_what_was_not_honoured() -> None:
    call = Call("test")
    request = ask(
        logit_bias={"5": 1.0},
        lora="mine",
        chat_template_kwargs={"x": 1},
        reasoning_effort="low",
        unsupported=("audio",),
        unknown=("foo",),
    )
    async with SIMULATOR.stream_chat(request, call):
        pass
    assert call.upstream == "simulator"
    assert call.changes == (
        Change("logit_bias", "dropped"),
        Change("chat_template_kwargs", "dropped"),
        Change("reasoning_effort", "dropped"),
        Change("audio", "dropped"),
        Change("foo", "ignored"),
    )


@pytest.mark.parametrize(
    "fields", [{}, {"logit_bias": {}}, {"reasoning_effort": "none"}, {"temperature": 0.5}, {"lora": "mine"}], ids=str
)
async def test_what_is_honoured_is_no_change(fields: dict[str, Any]) -> None:
    call = Call("test")
    await SIMULATOR.chat(ask(**fields), call)
    assert call.changes == ()


async def test_strict_mode_refuses_what_would_be_dropped() -> None:
    with pytest.raises(InvalidRequest) as caught:
        await SIMULATOR.chat(ask(logit_bias={"5": 1.0}), Call("test", strict=True))
    assert caught.value.param == "logit_bias"


@pytest.mark.parametrize(
    "model", [model for model in CATALOGUE if model.is_chat and not model.is_retired], ids=lambda m: m.id
)
async def test_every_chat_model_that_is_not_retired_answers(model: Model) -> None:
    assert (await answer(ask(model=model.id))).text


async def test_a_retired_model_fails_as_it_does_upstream() -> None:
    with pytest.raises(RelayError) as caught:
        await whole(ask(model="llama-3.1-8b-instruct"))
    assert caught.value.message == (
        "Model has been deprecated: @cf/meta/llama-3.1-8b-instruct was deprecated on 2026-05-30. "
        "Use @cf/meta/llama-3.1-8b-instruct-fp8 instead."
    )
    assert (caught.value.fault, caught.value.param, caught.value.upstream_code) == (
        Fault.MODEL_NOT_FOUND,
        "model",
        5028,
    )


async def test_retired_models_answer_where_that_is_allowed() -> None:
    result = await Simulator(CATALOGUE, pace=0, allow_retired=True).chat(ask(model="phi-2"), Call("test"))
    assert "@cf/microsoft/phi-2" in result.choices[0].text


@pytest.mark.parametrize("model", ["@cf/baai/bge-m3", "@cf/cloudflare/clef", "@cf/openai/whisper"])
async def test_a_model_for_another_task_is_refused(model: str) -> None:
    with pytest.raises(InvalidRequest, match="no chat model") as caught:
        await whole(ask(model=model))
    assert caught.value.param == "model"


@pytest.mark.parametrize("model", ["@cf/no/such-model", "gpt-4o"])
async def test_a_model_that_is_not_in_the_catalogue_does_not_exist_here(model: str) -> None:
    with pytest.raises(RelayError) as caught:
        await whole(ask(model=model))
    assert caught.value.fault is Fault.MODEL_NOT_FOUND


async def test_a_refused_request_is_nobodys_answer() -> None:
    call = Call("test")
    with pytest.raises(RelayError):
        async with SIMULATOR.stream_chat(ask(model="gpt-4o"), call):
            pytest.fail("entered")
    assert call.upstream is None


async def test_the_catalogue_may_change_while_the_simulator_runs() -> None:
    shelf = [CATALOGUE]
    simulator = Simulator(lambda: shelf[0], pace=0)
    shelf[0] = CATALOGUE.with_aliases({"mine": LLAMA})
    assert LLAMA in (await simulator.chat(ask(model="mine"), Call("test"))).choices[0].text


# Tokens


@given(st.text())
def test_tokens_join_to_the_text_again(text: str) -> None:
    assert "".join(tokens.split(text)) == text
    assert tokens.count(text) == len(tokens.split(text))


def test_a_long_text_is_counted_by_its_beginning() -> None:
    assert tokens.count("word " * 1_000_000) == pytest.approx(1_000_000, rel=0.01)


def test_all_that_a_model_reads_is_counted() -> None:
    plain = tokens.count_prompt(ask())
    for fields in ({"tools": TOOLS}, {"response_format": FRUIT}, {"messages": (*ask().messages, *calls_since("x"))}):
        assert tokens.count_prompt(msgspec.structs.replace(ask(), **fields)) > plain


# JSON Schema


def obj(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


NODE = obj(["value"], value={"type": "integer"}, next={"$ref": "#/$defs/Node"})
CAT = obj(["kind", "lives"], kind={"const": "cat"}, lives={"type": "integer"})
DOG = obj(["kind"], kind={"const": "dog"}, breed={"type": "string"})

SCHEMAS: dict[str, dict[str, Any]] = {
    "anything": {},
    "a word": {"type": "string"},
    "a short word": {"type": "string", "maxLength": 2},
    "a long text": {"type": "string", "minLength": 100, "maxLength": 110},
    "an empty text": {"type": "string", "maxLength": 0},
    "a pattern": {"type": "string", "pattern": r"^[A-Z]{3}-\d{4}$"},
    "a pattern without anchors": {"type": "string", "pattern": "[0-9]+", "minLength": 30},
    "a pattern of some length": {"type": "string", "pattern": "^[a-z]+$", "minLength": 30, "maxLength": 34},
    "a pattern with a look-ahead": {"type": "string", "pattern": r"^(?=.*\d)[a-z0-9]{4,}$"},
    "a pattern with a group": {"type": "string", "pattern": r"^(ab|cd)\1(?:x|y)?[^\s]$"},
    "a pattern with all letters": {"type": "string", "pattern": "^[\\u0000-\\uffff]+$"},
    "a costly pattern": {"type": "string", "pattern": "^(a+)+b"},
    "an integer": {"type": "integer"},
    "an integer within": {"type": "integer", "minimum": -3, "maximum": -2},
    "an integer between": {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6},
    "an integer between fractions": {"type": "integer", "minimum": 1.5, "maximum": 2.5},
    "a multiple": {"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 20},
    "a negative one": {"type": "integer", "exclusiveMaximum": -5},
    "a large one": {"type": "integer", "minimum": 2**60},
    "a number": {"type": "number"},
    "a small number": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    "the one number left": {"type": "number", "minimum": 2.5, "maximum": 2.5},
    "tenths": {"type": "number", "multipleOf": 0.1, "minimum": 0.05, "maximum": 0.45},
    "a flag": {"type": "boolean"},
    "null": {"type": "null"},
    "several types": {"type": ["null", "integer"]},
    "types by hint": {"minimum": 3, "maximum": 4},
    "const": {"const": {"a": [1, None, "x"]}},
    "enum": {"enum": [3, "x", None, [1]]},
    "enum and type": {"type": "string", "enum": [3, "x", None]},
    "enum and a bound": {"enum": [1, 5, 9], "minimum": 8},
    "an object": obj(["a"], a={"type": "string"}, b={"type": "integer"}),
    "a closed object": {**obj(["a"], a={"type": "string"}), "additionalProperties": False},
    "required but not described": {"type": "object", "required": ["x"]},
    "required and described as additional": {"required": ["x"], "additionalProperties": {"type": "integer"}},
    "few properties": {**obj(["c"], a={}, b={}, c={"type": "null"}), "maxProperties": 2},
    "many properties": {"type": "object", "minProperties": 4},
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}},
    "a map with named keys": {
        "type": "object",
        "propertyNames": {"pattern": "^k[0-9]$"},
        "additionalProperties": {"type": "boolean"},
        "minProperties": 3,
    },
    "properties by pattern": {
        "type": "object",
        "patternProperties": {"^x_[a-z]{2,4}$": {"type": "boolean"}},
        "additionalProperties": False,
        "minProperties": 2,
    },
    "a property described twice": {
        **obj(ab={"type": "integer"}),
        "patternProperties": {"^a": {"minimum": 50, "maximum": 51}},
    },
    "dependent properties": {**obj(a={}), "dependentRequired": {"a": ["z"]}},
    "dependent schemas": {**obj(["a"], a={}), "dependentSchemas": {"a": obj(["b"], b={"type": "integer"})}},
    "a list": {"type": "array", "items": {"type": "integer"}},
    "a list of some length": {"type": "array", "items": {"type": "integer"}, "minItems": 5, "maxItems": 6},
    "an empty list": {"type": "array", "items": {"type": "integer"}, "maxItems": 0},
    "a tuple": {
        "type": "array",
        "prefixItems": [{"type": "string"}, {"type": "integer"}],
        "items": False,
        "minItems": 2,
    },
    "a tuple and more": {"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "null"}, "minItems": 3},
    "different members": {"type": "array", "items": {"enum": ["a", "b", "c", "d"]}, "minItems": 4, "uniqueItems": True},
    "different words": {
        "type": "array",
        "items": {"type": "string", "maxLength": 3},
        "minItems": 50,
        "uniqueItems": True,
    },
    "different flags": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True},
    "a list that contains": {
        "type": "array",
        "items": {"type": "integer"},
        "contains": {"minimum": 5000},
        "minContains": 2,
        "maxItems": 3,
    },
    "anyOf": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "number", "minimum": 0}]},
    "anyOf beside keywords": {
        "type": "object",
        "properties": {"x": {"type": "integer"}},
        "anyOf": [{"required": ["x"]}, {"required": ["y"]}],
    },
    "anyOf with a dead end": {"anyOf": [False, {"type": "integer", "minimum": 5, "maximum": 4}, {"type": "null"}]},
    "oneOf, overlapping": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    "oneOf, told apart by a tag": {
        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        "$defs": {"Cat": CAT, "Dog": DOG},
    },
    "allOf": {"allOf": [obj(["a"], a={"type": "integer"}), obj(["b"], a={"minimum": 8}, b={"type": "boolean"})]},
    "allOf of numbers": {
        "allOf": [
            {"type": "number", "multipleOf": 6},
            {"type": "integer", "multipleOf": 4, "minimum": 13, "maximum": 30},
        ]
    },
    "allOf of fractions": {"type": "number", "multipleOf": 0.5, "allOf": [{"multipleOf": 0.75, "minimum": 1}]},
    "allOf of bounds": {"type": "integer", "minimum": 1, "maximum": 9, "allOf": [{"minimum": 4}, {"maximum": 5}]},
    "allOf of types": {"type": ["number", "null"], "allOf": [{"type": ["integer", "string"]}, {"minimum": 2}]},
    "allOf of words": {"type": "string", "minLength": 2, "allOf": [{"minLength": 4, "maxLength": 5}, {"maxLength": 9}]},
    "allOf of members": {"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 4]}]},
    "allOf of lists": {
        "type": "array",
        "minItems": 1,
        "allOf": [{"items": {"minimum": 3}}, {"items": {"type": "integer"}}],
    },
    "if, then": {
        **obj(["k"], k={"const": 1}),
        "if": obj(k={"const": 1}),
        "then": obj(["n"], n={"type": "integer"}),
        "else": False,
    },
    "if, else": {
        **obj(["k"], k={"const": 2}),
        "if": obj(k={"const": 1}),
        "then": False,
        "else": obj(["m"], m={"type": "null"}),
    },
    "not": {"not": {"type": "string"}},
    "not this member": {"enum": [1, 2], "not": {"const": 1}},
    "a reference": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}},
    "a reference beside keywords": {"$ref": "#/$defs/a", "minimum": 500, "$defs": {"a": {"type": "integer"}}},
    "an older reference": {"$ref": "#/definitions/a", "definitions": {"a": {"type": "boolean"}}},
    "an escaped reference": {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "boolean"}}},
    "a reference into a list": {"anyOf": [{"type": "null"}, {"$ref": "#/anyOf/0"}], "type": "null"},
    "recursion through a property": {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
    "recursion through null": {
        "$ref": "#/$defs/N",
        "$defs": {"N": obj(["next"], next={"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]})},
    },
    "recursion through a list": {
        "type": "object",
        "required": ["kids"],
        "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}},
    },
    "recursion through a map": {"type": "object", "additionalProperties": {"$ref": "#"}},
    "recursion between two": {
        "$ref": "#/$defs/A",
        "$defs": {"A": obj(["b"], b={"$ref": "#/$defs/B"}), "B": obj(a={"$ref": "#/$defs/A"})},
    },
    "recursion that has to go deep": {
        "$ref": "#/$defs/N",
        "$defs": {"N": {"anyOf": [obj(["n"], n={"$ref": "#/$defs/N"}), {"const": 0}]}},
        **obj(["n"], n=obj(["n"], n=obj(["n"]))),
    },
}
FORMATS = ("date-time", "date", "time", "email", "uri", "uuid", "ipv4", "ipv6", "hostname", "duration")
SCHEMAS |= {f"format {name}": {"type": "string", "format": name} for name in FORMATS}


def check(value: Any, wanted: Mapping[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(wanted)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(wanted, format_checker=checker).validate(value)


@pytest.mark.parametrize("wanted", SCHEMAS.values(), ids=SCHEMAS)
def test_an_instance_is_valid(wanted: dict[str, Any]) -> None:
    for seed in range(20):
        value = schema.instance(wanted, Random(seed), ["Oslo", "weather"])
        check(value, wanted)
        assert json.loads(json.dumps(value)) == value
        assert schema.instance(wanted, Random(seed), ["Oslo", "weather"]) == value


def test_all_properties_are_filled_in_and_strings_come_from_the_words() -> None:
    wanted = obj(["a"], a={"type": "string"}, b={"type": "string"}, c={"type": "array", "items": {"type": "string"}})
    assert schema.instance(wanted, Random(1), ["Oslo", "Bergen"]) == {
        "a": "Oslo",
        "b": "Bergen",
        "c": ["Oslo 2", "Bergen 2"],
    }


def test_recursion_is_shown_and_then_ended() -> None:
    value = schema.instance(SCHEMAS["recursion through null"], Random(1))
    assert value == {"next": {"next": None}}


def nested(depth: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        wanted = obj(["a"], a=wanted)
    return wanted


def chain(link: Any, length: int, end: Any) -> dict[str, Any]:
    """`#/$defs/0` to `#/$defs/<length>`, each made by `link` from a reference to the next."""
    links = {str(at): link({"$ref": f"#/$defs/{at + 1}"}) for at in range(length)}
    return {"$ref": "#/$defs/0", "$defs": {**links, str(length): end}}


HOPELESS: dict[str, Any] = {
    "nothing allowed": False,
    "no schema at all": "string",
    "an empty range": {"type": "integer", "minimum": 5, "maximum": 4},
    "no integer between": {"type": "integer", "minimum": 1.2, "maximum": 1.8},
    "no length": {"type": "string", "minLength": 3, "maxLength": 2},
    "an unknown type": {"type": "file"},
    "types that exclude each other": {"allOf": [{"type": "string"}, {"type": "null"}]},
    "no members": {"enum": []},
    "all members excluded": {"enum": [1, 2], "type": "string"},
    "a reference to itself": {"$ref": "#"},
    "a reference elsewhere": {"$ref": "https://example.com/schema"},
    "a reference to nothing": {"$ref": "#/$defs/none"},
    "recursion without end": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "more different flags than there are": {
        "type": "array",
        "items": {"type": "boolean"},
        "minItems": 3,
        "uniqueItems": True,
    },
    "a pattern and its opposite": {"type": "string", "pattern": "^a$", "not": {"pattern": "a"}},
    "a pattern of what is no text": {"type": "string", "pattern": r"^[\ud800]$"},
    "too long a text": {"type": "string", "minLength": 10**9},
    "too long a list": {"type": "array", "minItems": 10**9},
    "too many properties": {"type": "object", "minProperties": 10**9},
    "nested too deeply": nested(500),
    "too many readings": {"allOf": [{"anyOf": [{"const": at}, {"const": at + 1}]} for at in range(40)]},
    "too many values": chain(lambda next_: obj(["a", "b"], a=next_, b=next_), 25, {"type": "null"}),
    "too many branches": chain(lambda next_: {"anyOf": [next_, next_]}, 30, False),
    "too many checks": {
        "not": {"$ref": "#/$defs/0"},
        **chain(lambda next_: {"oneOf": [next_, next_]}, 30, True),
        "$ref": "#/$defs/30",
    },
}


@pytest.mark.parametrize("wanted", HOPELESS.values(), ids=HOPELESS)
def test_a_schema_that_cannot_be_met_is_given_up_soon(wanted: Any) -> None:
    with pytest.raises(schema.Unsatisfiable):
        schema.instance(wanted, Random(1))


@pytest.mark.parametrize(
    "pattern",
    ["([", r"\p{L}+", "a" * 1000, "(?:x{900}){900}", "(?:){100000}", 5],
    ids=lambda p: f"{p!a:.20}",
)
def test_a_pattern_that_cannot_be_followed_gets_words(pattern: Any) -> None:
    assert schema.instance({"type": "string", "pattern": pattern}, Random(1), ["Oslo"]) == "Oslo"


def spoiled(text: str, pattern: str) -> dict[str, Any]:
    return {"enum": [text], "pattern": pattern}


COSTLY_TO_SEARCH = {
    "a repeated choice": spoiled("a" * 60 + "!", "^(a|a)*$"),
    "a repeated repeat": spoiled("a" * 60 + "!", "^(a+)+$"),
    "a repeated repeat in groups": spoiled("a" * 60 + "!", "^(((a+))b?)+$"),
    "a counted repeat of a repeat": spoiled("a" * 60 + "!", "^(a+){2,60}$"),
    "a repeat of what may be empty": spoiled("a" * 60 + "!", "^(a?a?)*$"),
    "many choices": spoiled("a" * 60 + "!", "^" + "(a|a)" * 60 + "$"),
    "many optional parts": spoiled("a" * 60 + "!", "^" + "a?" * 60 + "a" * 60 + "$"),
    "many short repeats": spoiled("a" * 60 + "!", "^" + "a{0,8}" * 40 + "$"),
    "repeats one after another": spoiled("a" * 5_000, "a*a*a*a*a*b"),
    "an unanchored repeat in a long text": spoiled("a" * 200_000, "a+b"),
    "a look-ahead": spoiled("a" * 60 + "!", "^(?=(a|a)*$)a"),
    "a look-behind": spoiled("a" * 60, "(?<=a)b"),
    "a back-reference": spoiled("a" * 5_000, r"(a*)(a*)\1\2b"),
    "an atomic group": spoiled("a" * 60 + "!", "^(?>(a|a)*)b"),
    "a flag": spoiled("a!", "(?i)^[\\u0000-\\U0010ffff]$b"),
    "a flag for a group": spoiled("a!", "^(?i:a)$"),
    "no expression": spoiled("a!", "(["),
    "too long an expression": spoiled("a!", "b" * 501),
}


@pytest.mark.parametrize("wanted", COSTLY_TO_SEARCH.values(), ids=COSTLY_TO_SEARCH)
def test_a_pattern_that_is_costly_to_search_gets_the_benefit_of_the_doubt(wanted: Any) -> None:
    assert schema.instance(wanted, Random(1)) == wanted["enum"][0]


def test_a_name_gets_the_benefit_of_the_doubt_from_a_costly_pattern() -> None:
    name = "a" * 60 + "!"
    wanted = {**obj([name]), "patternProperties": {"^(a|a)*$": {"const": 5}}, "additionalProperties": {"const": 6}}
    assert schema.instance(wanted, Random(1)) == {name: 5}


SEARCHED = {
    "a choice": "^(red|green)$",
    "repeats": r"^[^@]+@[^@.]+\.[a-z]+$",
    "a counted repeat": r"\d{3}-\d{4}",
    "a repeated group": "^(?:ab)+$",
    "a counted choice": "^(?:a|b){3}$",
    "an optional group": r"^(\d-)?\d$",
    "a place": r"\Ab",
    "an optional part that may be empty": "^(a|)?b$",
}


@pytest.mark.parametrize("pattern", SEARCHED.values(), ids=SEARCHED)
def test_a_pattern_that_is_cheap_to_search_is_minded(pattern: str) -> None:
    with pytest.raises(schema.Unsatisfiable):
        schema.instance({"enum": ["none of them!"], "pattern": pattern}, Random(1))


def optional(count: int, part: Any) -> dict[str, Any]:
    return obj([], **{f"p{at}": part for at in range(count)})


MANY = {
    "searches": {
        **spoiled("a" * 40 + "!", "!"),
        "not": {"anyOf": [{"pattern": f"^[a-z]*[a-z]*[a-z]*{at}$"} for at in range(4_000)]},
    },
    "expressions": {**spoiled("a", "a"), "not": {"anyOf": [{"pattern": f"b{at:0480}"} for at in range(4_000)]}},
    "names and expressions": {
        "enum": [{str(at): at for at in range(1_000)}],
        "patternProperties": {f"^{at}$": True for at in range(1_000)},
    },
    "examples": optional(2_000, {"type": "string", "pattern": "^a$", "minLength": 2}),
    "examples of sets": optional(2_000, {"type": "string", "pattern": r"^[\u0000-\uffff]{100}$", "maxLength": 9}),
    "empty examples": optional(2_000, {"type": "string", "pattern": r"^(?:^){1900}$", "minLength": 9}),
    "long texts": {"type": "array", "minItems": 10**9, "items": {"type": "string", "minLength": 19_000}},
    "long texts in lists": chain(
        lambda next_: {"type": "array", "minItems": 90, "items": next_}, 4, {"type": "string", "minLength": 19_000}
    ),
    "long texts by reference": {
        "$defs": {"text": {"type": "string", "minLength": 19_000}},
        "type": "array",
        "minItems": 4_000,
        "items": {"$ref": "#/$defs/text"},
    },
}


@pytest.mark.parametrize("wanted", MANY.values(), ids=MANY)
def test_too_much_of_what_is_cheap_alone_is_refused(wanted: Any) -> None:
    with pytest.raises(schema.Unsatisfiable):
        schema.instance(wanted, Random(1))


def test_a_long_list_of_different_items_is_made_soon() -> None:
    wanted = {"type": "array", "items": {"type": "string"}, "minItems": 4_900, "uniqueItems": True}
    assert len(set(schema.instance(wanted, Random(1)))) == 4_900


def test_an_optional_list_that_is_too_long_is_left_out() -> None:
    assert schema.instance(optional(1, {"type": "array", "minItems": 10**9}), Random(1)) == {}


def test_a_name_is_not_made_by_a_pattern_that_cannot_be_followed() -> None:
    wanted = {"type": "object", "patternProperties": {"([": True}, "additionalProperties": False}
    assert schema.instance(wanted, Random(1)) == {}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.sampled_from(["string", "#", "array", "^a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "type", "$ref", "items"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYWORDS = (
    "type enum const minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format "
    "minItems maxItems uniqueItems prefixItems items contains minContains maxContains properties patternProperties "
    "additionalProperties propertyNames required minProperties maxProperties dependentRequired dependentSchemas allOf "
    "anyOf oneOf not if then else $ref"
).split()


@given(st.dictionaries(st.sampled_from(KEYWORDS), json_values, max_size=5))
def test_a_malformed_schema_is_met_or_given_up_but_breaks_nothing(wanted: dict[str, Any]) -> None:
    try:
        value = schema.instance(wanted, Random(1))
    except schema.Unsatisfiable:
        return
    json.dumps(value)


@st.composite
def simple_schemas(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """Schemas of the kinds that people write, each of which has an instance."""
    leaves = [
        number_schemas(),
        string_schemas(),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        enum_schemas(),
    ]
    if depth == 0:
        return draw(st.one_of(leaves))
    inner = simple_schemas(depth - 1)
    return draw(st.one_of(*leaves, array_schemas(inner), object_schemas(inner), choice_schemas(inner)))


@st.composite
def number_schemas(draw: st.DrawFn) -> dict[str, Any]:
    low, width = draw(st.integers(-1000, 1000)), draw(st.integers(10, 1000))
    wanted: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    bounds = {"minimum": low, "maximum": low + width, "exclusiveMinimum": low, "exclusiveMaximum": low + width}
    names = draw(st.sets(st.sampled_from(sorted(bounds)), max_size=4))
    wanted |= {name: bounds[name] for name in names}
    if draw(st.booleans()):
        wanted["multipleOf"] = draw(st.integers(1, 4) | st.sampled_from([0.5, 0.25]))
    return wanted


@st.composite
def string_schemas(draw: st.DrawFn) -> dict[str, Any]:
    least = draw(st.integers(0, 20))
    wanted: dict[str, Any] = {"type": "string"}
    kind = draw(st.sampled_from(["plain", "length", "pattern", "format"]))
    if kind == "length":
        wanted |= {"minLength": least, "maxLength": least + draw(st.integers(0, 20))}
    elif kind == "pattern":
        wanted["pattern"] = draw(
            st.sampled_from(["^[a-z]{2,9}$", r"\d{3}", "^(yes|no)$", r"^\w+@\w+\.com$", "^[^x]+$"])
        )
    elif kind == "format":
        wanted["format"] = draw(st.sampled_from(["date-time", "date", "email", "uuid", "ipv4"]))
    return wanted


def enum_schemas() -> st.SearchStrategy[dict[str, Any]]:
    members = st.lists(st.none() | st.booleans() | st.integers() | st.text(max_size=4), min_size=1, max_size=4)
    return members.map(lambda found: {"enum": found}) | members.map(lambda found: {"const": found})


@st.composite
def array_schemas(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    least = draw(st.integers(0, 3))
    wanted: dict[str, Any] = {"type": "array", "items": draw(inner), "minItems": least}
    if draw(st.booleans()):
        wanted["maxItems"] = least + draw(st.integers(0, 3))
    if draw(st.booleans()):
        wanted["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=2))
    if draw(st.booleans()):
        wanted |= {"items": {"type": "integer"}, "prefixItems": [], "uniqueItems": True}
    if not wanted.get("prefixItems", True):
        del wanted["prefixItems"]
    return wanted


@st.composite
def object_schemas(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4))
    wanted: dict[str, Any] = {"type": "object", "properties": properties}
    if properties:
        wanted["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    extra = draw(st.sampled_from([None, False, True]) | inner)
    return wanted if extra is None else {**wanted, "additionalProperties": extra}


@st.composite
def choice_schemas(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    word = draw(st.sampled_from(["anyOf", "allOf"]))
    other = {"description": "anything"} if word == "allOf" else draw(inner)
    return {word: draw(st.permutations([draw(inner), other]))}


@given(simple_schemas(), st.integers(0, 9))
def test_schemas_of_the_common_kinds_are_all_met(wanted: dict[str, Any], seed: int) -> None:
    check(schema.instance(wanted, Random(seed), ["Oslo", "weather", "tomorrow"]), wanted)
