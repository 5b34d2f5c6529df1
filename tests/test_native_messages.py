"""How wrong inputs are refused, for every native task: the field by name, and never the words of a type checker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adapters.errors import InvalidRequest
from adapters.wire.native.chat_inputs import parse_chat_inputs
from adapters.wire.native.payload import Payload, read_inputs
from adapters.wire.native.schemas import TEXT_GENERATION, schema_of
from tests.support.native_samples import CASES

Read = Callable[[Any], object]
Path = tuple[str | int, ...]

SECRET = "the secret value"
WRONG: tuple[Any, ...] = (
    *(None, True, 0, -1, 51, 2.5, 10**30, "", SECRET, "x" * 132_000),
    *([], [SECRET], [None], [256], {}, {SECRET: SECRET}, {"type": SECRET}, [{}], [{}] * 101, ["a"] * 101),
)
CHECKER = (
    "regex",
    "[...]",
    "Expected `",
    "Object missing",
    "Object contains",
    "`",
    "length >=",
    "length <=",
    "msgspec",
)
"""What a type checker says, and no person does."""

_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}, "strict": True}}
CHAT = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "name": "f", "content": "d"},
    ],
    "tools": [_TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "functions": [{"name": "g"}],
    "response_format": {"type": "json_schema", "json_schema": {"type": "object"}},
    "stream_options": {"include_usage": True},
    "options": {"rejectIfBusy": True},
    "logit_bias": {"1": 1},
    "stop": ["a"],
    "guided_json": {"type": "object"},
}
_QUESTIONS = {"mood": {"type": "choice", "instructions": "a", "criteria": {"x": "y"}}}
RICH: dict[str, dict[str, Any]] = {
    "decisions": {"state": 1, "questions": _QUESTIONS, "images": [{"content_type": "image/png", "base64": "aGk="}, "b"]}
}
"""Inputs with more in them than the samples have."""


def native(name: str) -> tuple[Read, dict[str, Any], dict[str, Any]]:
    """How to read an input of the task, its schema and one that fits."""
    case = CASES[name]
    schema = schema_of(case.native_result, case.task, case.input_kinds)["input"]

    def read(value: Any) -> object:
        return read_inputs(case.form, Payload(json.dumps(value).encode(), "application/json"))

    return read, schema, RICH.get(name, case.inputs)


def chat(native_result: str, **fields: Any) -> tuple[Read, dict[str, Any], dict[str, Any]]:
    def read(value: Any) -> object:
        return parse_chat_inputs(json.dumps(value).encode(), model="@cf/a/b", native_result=native_result)

    return read, schema_of(native_result, TEXT_GENERATION)["input"], fields or CHAT


TASKS = {name: native(name) for name in CASES} | {
    "text generation, older": chat("response"),
    "text generation, newer": chat("openai_chat"),
    "text generation of a prompt": chat("response", prompt="a"),
    "text generation of a prompt, newer": chat("openai_chat", prompt="a"),
}


def properties(schema: dict[str, Any]) -> set[str]:
    """Every field that the schema declares, in whichever of its variants."""
    variants = [variant for key in ("oneOf", "anyOf") for variant in schema.get(key, ())]
    return set(schema.get("properties", ())).union(*map(properties, variants))


def places(value: Any, at: Path = ()) -> Iterator[Path]:
    """The path of everything in the value, the value itself first."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*at, key))


def replaced(value: Any, at: Path, new: Any) -> Any:
    """The value with something else in one place; `...` takes away what is there."""
    if not at:
        return new
    key, rest = at[0], at[1:]
    pairs = dict(enumerate(value)) if isinstance(value, list) else dict(value)
    pairs[key] = replaced(pairs.get(key), rest, new)
    if not rest and new is ...:
        del pairs[key]
    return list(pairs.values()) if isinstance(value, list) else pairs


def wrong_inputs(schema: dict[str, Any], sample: dict[str, Any]) -> Iterator[Any]:
    for at in {*places(sample), *((name,) for name in properties(schema))}:
        yield from (replaced(sample, at, new) for new in WRONG)
        if at and at[-1] in (sample if len(at) == 1 else at):
            yield replaced(sample, at, ...)


@pytest.mark.parametrize(("read", "schema", "sample"), TASKS.values(), ids=TASKS)
def test_no_refusal_speaks_like_a_type_checker(read: Read, schema: dict[str, Any], sample: dict[str, Any]) -> None:
    read(sample)  # it fits, so whatever is refused below is refused for the change
    refusals = []
    for value in wrong_inputs(schema, sample):
        try:
            read(value)
        except InvalidRequest as exc:
            refusals.append(exc)
    told = {exc.message for exc in refusals}
    assert len(told) >= 10
    assert {message for message in told if any(word in message for word in CHECKER)} == set()
    assert {message for message in told if SECRET in message or len(message) > 300} == set()


# Task, what is wrong in its sample and where, and the whole refusal.
SAID: dict[str, tuple[str, Path, Any, str]] = {
    "an entry of an object": (
        "decisions",
        ("questions", "mood", "type"),
        SECRET,
        "Invalid value for 'questions.mood.type': supported values are 'choice', 'noul' and 'score', but got another "
        "string instead.",
    ),
    "a choice of another type": (
        "speech",
        ("encoding",),
        5,
        "Invalid value for 'encoding': supported values are 'aac', 'alaw', 'flac', 'linear16', 'mp3', 'mulaw' and "
        "'opus', but got an integer instead.",
    ),
    "an item of an array": (
        "text generation, newer",
        ("messages", 1, "tool_calls", 0, "function", "name"),
        5,
        "Invalid type for 'messages[1].tool_calls[0].function.name': expected a string, but got an integer instead.",
    ),
    "a kind of content": (
        "text generation, older",
        ("messages", 0, "content", 1, "type"),
        SECRET,
        "Invalid value for 'messages[0].content[1].type': supported values are 'text', 'image_url', 'refusal', "
        "'input_audio' and 'file', but got another string instead.",
    ),
    "an entry of a map": (
        "text generation, newer",
        ("logit_bias", "1"),
        SECRET,
        "Invalid type for 'logit_bias.1': expected a number, but got a string instead.",
    ),
    "an empty prompt": (
        "text generation of a prompt",
        ("prompt",),
        "",
        "Invalid value for 'prompt': expected at least 1 character, but got 0 instead.",
    ),
    "a number out of its range": (
        "binary image",
        ("num_steps",),
        51,
        "Invalid value for 'num_steps': expected an integer from 1 to 20, but got a larger one instead.",
    ),
    "a tool without a name": (
        "text generation, older",
        ("tools", 0),
        {"description": "d"},
        "Missing required parameter: 'tools[0].name' (a string).",
    ),
}


@pytest.mark.parametrize(("task", "at", "new", "message"), SAID.values(), ids=SAID)
def test_a_refusal_names_the_place_what_is_there_and_what_may_be(task: str, at: Path, new: Any, message: str) -> None:
    read, _, sample = TASKS[task]
    with pytest.raises(InvalidRequest) as caught:
        read(replaced(sample, at, new))
    assert caught.value.message == message
