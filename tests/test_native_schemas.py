"""Every model's schemas: valid, true of what is sent, and no wider than what is taken."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from adapters.canonical import ChatRequest, ChatResult, Choice, JsonFormat, Message, ToolCall, Usage
from adapters.catalogue import load_snapshot
from adapters.errors import InvalidRequest
from adapters.wire.native.chat_answer import dump_native_chat
from adapters.wire.native.chat_inputs import VERDICT, InputKey, NativeChatRequest, parse_chat_inputs
from adapters.wire.native.payload import Payload, read_inputs
from adapters.wire.native.schemas import TEXT_GENERATION, schema_of
from adapters.wire.openai_responses import dump_responses_result
from tests.support.native_samples import CASES, Case
from tests.support.openai_answers import STAMP

SHAPES = ["response", "response_or_openai_chat", "openai_chat", "openai_chat_or_responses", None]


def validator(native_result: str | None, task: str, part: str, input_kinds: tuple[str, ...] = ()) -> Any:
    return Draft202012Validator(schema_of(native_result, task, input_kinds)[part])


def of(case: Case, part: str) -> Any:
    return validator(case.native_result, case.task, part, case.input_kinds)


def references(node: Any) -> bool:
    if isinstance(node, dict):
        return "$ref" in node or any(map(references, node.values()))
    return isinstance(node, list) and any(map(references, node))


@pytest.mark.parametrize("model", [*load_snapshot()], ids=lambda model: model.id)
def test_every_model_has_valid_schemas(model: Any) -> None:
    schemas = schema_of(model.native_result, model.task, model.input_kinds)
    assert list(schemas) == ["input", "output"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert not references(schema)
        json.dumps(schema)


def test_a_model_whose_form_is_not_known_takes_anything() -> None:
    schemas = schema_of("websocket", "Automatic Speech Recognition")
    Draft202012Validator(schemas["input"]).validate({"a": 1})
    assert not Draft202012Validator(schemas["input"]).is_valid(5)
    Draft202012Validator(schemas["output"]).validate([1])


# ---------------------------------------------------------------- every task but text generation


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_sample_fits_its_schemas(case: Case) -> None:
    of(case, "input").validate(case.inputs)
    for result in case.results:
        of(case, "output").validate(msgspec.to_builtins(result))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_field_that_is_needed_is_needed_by_the_schema(case: Case) -> None:
    for name in case.required:
        rest = {key: value for key, value in case.inputs.items() if key != name}
        assert not of(case, "input").is_valid(rest)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_another_result_does_not_fit(case: Case) -> None:
    results: list[Any] = [5, {}, {"unknown": 1}, [5]]
    for result in results:
        assert not of(case, "output").is_valid(result)


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("embeddings", {"text": ""}),
    ("embeddings", {"text": ["a"] * 101}),
    ("embeddings", {"text": "a", "pooling": "max"}),
    ("query embeddings", {"queries": "a", "documents": "b"}),
    ("embeddings or scores", {"query": "a"}),
    ("embeddings or scores", {"text": "a", "contexts": [{"text": "b"}]}),
    ("binary image", {"prompt": "a", "mask": [1]}),
    ("binary image", {"prompt": "a", "width": 1025}),
    ("binary image", {"prompt": "a", "num_steps": 21}),
    ("image to image", {"prompt": "a", "image": [1], "height": 2048}),
    ("jpeg", {"prompt": "a", "num_steps": 51}),
    ("fast image", {"prompt": "a", "steps": 9}),
    ("moondream", {"task": "caption"}),
    ("moondream", {"task": "detect", "image": None}),
    ("image labels", {"image": [256]}),
    ("image labels", {"image": []}),
    ("whisper", {"audio": ""}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_refused_does_not_fit(name: str, value: dict[str, Any]) -> None:
    assert not of(CASES[name], "input").is_valid(value)
    with pytest.raises(InvalidRequest):
        read_inputs(CASES[name].form, Payload(msgspec.json.encode(value), "application/json"))


@pytest.mark.parametrize("name", ["image labels", "whisper", "deepgram", "turn", "description"])
def test_bytes_fit_where_a_body_may_be_bytes(name: str) -> None:
    of(CASES[name], "input").validate("\x89PNG")


def test_binary_answers_say_what_they_are() -> None:
    kinds = {
        name: schema_of(case.native_result, case.task)["output"]["contentMediaType"]
        for name, case in CASES.items()
        if not case.results
    }
    assert kinds == {
        "binary image": "image/png",
        "image to image": "image/png",
        "inpainting": "image/png",
        "jpeg": "image/jpeg",
        "speech": "audio/mpeg",
    }


SCALARS = st.integers(-5, 600) | st.floats(-3, 60) | st.sampled_from(["", "a", "mean", "mp3", "iVBORw0KGgo="])
# No booleans inside lists: as bytes they pass for 0 and 1.
VALUES = st.booleans() | st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "type"]), inner)
)


@settings(max_examples=40)
@given(st.data())
@pytest.mark.parametrize("name", CASES)
def test_what_is_taken_fits_the_schema(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    names = st.sampled_from(case.form.inputs.__struct_fields__)
    value = {**case.inputs, **data.draw(st.dictionaries(names, VALUES, max_size=3))}
    try:
        read_inputs(case.form, Payload(msgspec.json.encode(value), "application/json"))
    except InvalidRequest:
        return
    of(case, "input").validate(value)


# ---------------------------------------------------------------- text generation

USER = {"role": "user", "content": "Hi"}
FLAT = {"name": "f", "description": "d", "parameters": {"type": "object"}}
CHATS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "Hi", "raw": True, "lora": "mine"},
    "messages": {"messages": [USER], "stream": True, "max_tokens": 9, "temperature": 1.5, "seed": 1, "top_k": 5},
    "null beside messages": {"messages": [USER], "prompt": None},
    "tools": {"messages": [USER], "tools": [FLAT, {"type": "function", "function": FLAT}], "tool_choice": "auto"},
    "a tool of choice": {
        "messages": [USER],
        "tools": [FLAT],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    },
    "the older choice": {"messages": [USER], "functions": [{"name": "f"}], "function_call": {"name": "f"}},
    "functions": {"messages": [USER], "functions": [{"name": "f", "code": ""}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    "one part": {"messages": [{"role": "user", "content": {"type": "image_url", "image_url": {"url": "data:,"}}}]},
    "history": {
        "messages": [
            {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {}}], "reasoning": "Hm"},
            {"role": "tool", "name": "f", "content": "1"},
        ]
    },
    "image": {"prompt": "Hi", "image": [1, 2]},
    "JSON": {"prompt": "Hi", "response_format": {"type": "json_schema", "json_schema": {"type": "object"}}},
    "guided": {"prompt": "Hi", "guided_json": {"type": "object"}, "reasoning_effort": None},
    "unknown": {"prompt": "Hi", "new_setting": [1]},
}


@pytest.mark.parametrize("native_result", SHAPES)
@pytest.mark.parametrize("value", CHATS.values(), ids=CHATS)
def test_a_chat_fits(value: dict[str, Any], native_result: str | None) -> None:
    validator(native_result, TEXT_GENERATION, "input").validate(value)
    parse_chat_inputs(value, model="m", native_result=native_result)


NO_CHATS: dict[str, dict[str, Any]] = {
    "neither": {"stream": True},
    "both": {"prompt": "Hi", "messages": [USER]},
    "a prompt beside what would be messages": {"prompt": "Hi", "messages": 5},
    "an empty prompt": {"prompt": ""},
    "a prompt that is none": {"prompt": 5},
    "no messages": {"messages": []},
    "a message without a role": {"messages": [{"content": "Hi"}]},
    "content of a wrong type": {"messages": [{"role": "user", "content": 5}]},
    "an unknown part": {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
    "a tool without a name": {"prompt": "Hi", "tools": [{"description": "d"}]},
    "no image": {"prompt": "Hi", "image": []},
    "a choice of nobody's": {"prompt": "Hi", "tools": [FLAT], "tool_choice": "some"},
    "a choice without a name": {"prompt": "Hi", "tools": [FLAT], "tool_choice": {"function": {}}},
    "the older choice without a name": {"prompt": "Hi", "tools": [FLAT], "function_call": {}},
    "more of the likeliest than were asked for": {"prompt": "Hi", "top_logprobs": 2},
}


@pytest.mark.parametrize("native_result", SHAPES)
@pytest.mark.parametrize("value", NO_CHATS.values(), ids=NO_CHATS)
def test_what_is_no_chat_does_not(value: dict[str, Any], native_result: str | None) -> None:
    assert not validator(native_result, TEXT_GENERATION, "input").is_valid(value)
    with pytest.raises(InvalidRequest):
        parse_chat_inputs(value, model="m", native_result=native_result)


NUMBERS = [
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "min_p",
    "max_tokens",
    "max_completion_tokens",
    "top_logprobs",
    "n",
]


@pytest.mark.parametrize("native_result", SHAPES)
@pytest.mark.parametrize("name", NUMBERS)
def test_ranges_are_those_that_are_checked(name: str, native_result: str | None) -> None:
    schema = validator(native_result, TEXT_GENERATION, "input")
    if name not in schema.schema["properties"]:
        assert name == "n" and native_result in ("response", "response_or_openai_chat")  # it is ignored there
        return
    for value in (-2.01, -2, -1, -0.5, 0, 0.5, 1, 1.01, 2, 2.01, 5, 5.01, 50, 51, 100, 101, 9_999_999_999, 10**10):
        body = {"prompt": "Hi", "logprobs": True, name: value}
        try:
            parse_chat_inputs(body, model="m", native_result=native_result)
        except InvalidRequest:
            assert not schema.is_valid(body)
        else:
            schema.validate(body)


def test_only_some_models_take_an_input_for_responses() -> None:
    values: list[dict[str, Any]] = [{"input": "Hi"}, {"input": [{"role": "user", "content": "Hi"}]}]
    for value in values:
        assert [validator(shape, TEXT_GENERATION, "input").is_valid(value) for shape in SHAPES] == [
            shape == "openai_chat_or_responses" for shape in SHAPES
        ]


DIALOGUES: dict[str, dict[str, Any]] = {
    "a turn": {"messages": [USER]},
    "turns": {
        "messages": [USER, {"role": "assistant", "content": "Hello"}],
        "response_format": {"type": "json_object"},
    },
    "a prompt beside it": {"messages": [USER], "prompt": 5},
}
NO_DIALOGUES: dict[str, dict[str, Any]] = {
    "a prompt alone": {"prompt": "Hi"},
    "nothing": {},
    "no turns": {"messages": []},
    "no list": {"messages": "Hi"},
    "a system's turn": {"messages": [{"role": "system", "content": "Be safe."}, USER]},
    "a tool's turn": {"messages": [USER, {"role": "tool", "content": "1"}]},
    "content in parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    "no content": {"messages": [{"role": "assistant"}]},
    "content that is null": {"messages": [{"role": "assistant", "content": None}]},
}


@pytest.mark.parametrize("value", DIALOGUES.values(), ids=DIALOGUES)
def test_a_dialogue_fits_a_safety_model(value: dict[str, Any]) -> None:
    validator(VERDICT, TEXT_GENERATION, "input").validate(value)
    parse_chat_inputs(value, model="m", native_result=VERDICT)


@pytest.mark.parametrize("value", NO_DIALOGUES.values(), ids=NO_DIALOGUES)
def test_what_is_no_dialogue_does_not(value: dict[str, Any]) -> None:
    assert not validator(VERDICT, TEXT_GENERATION, "input").is_valid(value)
    with pytest.raises(InvalidRequest):
        parse_chat_inputs(value, model="m", native_result=VERDICT)


USAGE = Usage(prompt_tokens=3, completion_tokens=2, reasoning_tokens=1, neurons=0.5, estimated=True)
CALL = ToolCall(id="c", name="f", arguments='{"a":1}')
RESULTS = [
    ChatResult(choices=(Choice(text="Hi", finish_reason="stop"),), usage=USAGE),
    ChatResult(choices=(Choice(tool_calls=(CALL,), finish_reason="tool_calls"),), usage=USAGE),
    ChatResult(choices=(Choice(text='{"a":1}', reasoning="Hm.", logprobs=[{"token": "Hi"}]),)),
]


@pytest.mark.parametrize("native_result", SHAPES)
@pytest.mark.parametrize("key", ["messages", "prompt"])
@pytest.mark.parametrize("result", RESULTS)
def test_an_answer_fits(result: ChatResult, key: InputKey, native_result: str | None) -> None:
    for wanted in (None, JsonFormat()):
        request = ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), response_format=wanted)
        asked = NativeChatRequest(request=request, input_key=key)
        body = dump_native_chat(result, asked, native_result=native_result, stamp=STAMP)
        validator(native_result, TEXT_GENERATION, "output").validate(json.loads(body))


@pytest.mark.parametrize("native_result", SHAPES)
def test_an_answer_of_another_shape_does_not(native_result: str | None) -> None:
    schema = validator(native_result, TEXT_GENERATION, "output")
    values: list[Any] = [5, {}, {"response": "Hi"}, {"choices": []}]
    for value in values:
        assert not schema.is_valid(value)
    assert schema.is_valid("data: {}\n\n")  # a stream


def test_an_answer_to_responses_fits() -> None:
    request = ChatRequest(model="m", messages=())
    body = json.loads(dump_responses_result(RESULTS[0], request, STAMP))
    validator("openai_chat_or_responses", TEXT_GENERATION, "output").validate(body)
    assert not validator("openai_chat", TEXT_GENERATION, "output").is_valid(body)
