"""What each model takes and gives as JSON Schema (2020-12), made from the types that check and write it.

The schemas have no references. They are a little narrower than what is taken: a null for a field that may be left
out counts as left out, and is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec

from adapters.canonical import FinishReason
from adapters.wire.native.blob import Blob
from adapters.wire.native.chat_answer import NativeUsage, ResponseResult, TextCompletion
from adapters.wire.native.chat_inputs import BOUNDS, DIALOGUE, VERDICT, Prompt, response_shaped
from adapters.wire.native.forms import Form, form_of
from adapters.wire.native.rules import NO_RULE, RULES, Names
from adapters.wire.openai_request import RANGES, WHOLE_RANGES
from adapters.wire.openai_types import Call, CallFunction, ChatBody, ChatMessage, Content, Function, FunctionTool

Schema = dict[str, Any]

TEXT_GENERATION = "Text Generation"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_STREAM: Schema = {"type": "string", "contentMediaType": "text/event-stream"}
_BINARY: Schema = {"type": "string", "format": "binary"}
BLOB: Schema = {
    "oneOf": [
        {"type": "string", "minLength": 1, "description": "Base64 text or a data URI."},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    ]
}
_NAMED_FUNCTION: Schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_CHOICE: Schema = {
    "anyOf": [
        {"enum": ["none", "auto", "required"]},
        _NAMED_FUNCTION,
        {"type": "object", "properties": {"function": _NAMED_FUNCTION}, "required": ["function"]},
    ]
}
"""Of a tool; that it is among those offered, and another vendor's `any`, no schema tells."""


def schema_of(native_result: str | None, task: str, input_kinds: tuple[str, ...] = ()) -> dict[str, Schema]:
    """`{"input", "output"}` of a model of the catalogue; of one whose form is not known, schemas that take anything."""
    if task == TEXT_GENERATION and native_result != "clef":
        parts = _chat_input(native_result), _chat_output(native_result)
    elif form := form_of(native_result, task, input_kinds):
        parts = _input(form), _output(form, streams=native_result == "moondream")
    else:
        parts = {"type": "object"}, {}
    return {name: {"$schema": _DIALECT, **part} for name, part in zip(("input", "output"), parts, strict=True)}


# ---------------------------------------------------------------- types to schemas


def _schema(kind: Any) -> Schema:
    """The schema of a type, its references replaced by what they refer to."""
    (schema,), parts = msgspec.json.schema_components((kind,), schema_hook=_hook, ref_template="{name}")
    inlined: Schema = _inlined(schema, parts)
    return inlined


def _hook(kind: type) -> Schema:
    return BLOB if kind is Blob else {}


def _inlined(node: Any, parts: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, parts) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        part = parts[node["$ref"]]  # its title and description are for readers of the source
        return _inlined({key: value for key, value in part.items() if key not in ("title", "description")}, parts)
    return {key: _inlined(value, parts) for key, value in node.items() if key != "discriminator"}


def _any_of(kinds: Iterable[Any]) -> Schema:
    schemas = [_schema(kind) for kind in kinds]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


# ---------------------------------------------------------------- every task but text generation


def _input(form: Form) -> Schema:
    schema = _schema(form.inputs)
    for name, bounds in form.bounds.items():
        _narrow(schema["properties"][name], *bounds)
    if form.multipart:
        schema["description"] = "The fields of a multipart form (multipart/form-data); JSON is refused."
    if conditions := _conditions(form):
        schema["allOf"] = conditions
    return {"oneOf": [_BINARY, schema]} if form.raw else schema


def _narrow(number: Schema, low: int, high: int) -> None:
    """The bounds of one model, where the number's own are wider; beside a number, null may stand."""
    for kind in number.get("anyOf", [number]):
        if kind["type"] == "integer":
            kind |= {"minimum": low, "maximum": high}


def _output(form: Form, *, streams: bool) -> Schema:
    if form.result is None:
        return {**_BINARY, "contentMediaType": form.media_types[0]}
    kinds = get_args(form.result) if get_origin(form.result) is UnionType else (form.result,)
    schema = _any_of(kinds)
    return {"anyOf": [schema, _STREAM]} if streams else schema


def _conditions(form: Form) -> list[Schema]:
    """What binds the fields together."""
    rule = RULES.get(form.inputs, NO_RULE)
    found = [_one_given(group) for group in form.needs]
    if rule.one_of:
        found.append({"oneOf": [_given(name) for name in rule.one_of]})
    found += [{"if": _given(name), "then": _one_given(group)} for name, group in rule.beside.items()]
    for name, by_value in rule.by_value.items():
        for value, needed in by_value.items():  # none of them is the default
            holds = {"required": [name], "properties": {name: {"const": value}}}
            found.append({"if": holds, "then": _given(needed)})
    return found


def _given(name: str) -> Schema:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _one_given(group: Names) -> Schema:
    return {"anyOf": [_given(name) for name in group]}


# ---------------------------------------------------------------- text generation


class _AnswerFunction(msgspec.Struct):
    name: str
    arguments: str


class _AnswerCall(msgspec.Struct):
    id: str
    type: str
    function: _AnswerFunction


class _AnswerMessage(msgspec.Struct):
    role: str
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[_AnswerCall] | None = None


class _AnswerChoice(msgspec.Struct):
    index: int
    message: _AnswerMessage
    finish_reason: FinishReason | None
    logprobs: dict[str, Any] | None = None


class _ChatCompletion(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[_AnswerChoice]
    usage: NativeUsage


class _Responses(msgspec.Struct):
    id: str
    object: str
    status: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None = None


def _chat_output(native_result: str | None) -> Schema:
    if response_shaped(native_result):
        return {"anyOf": [_schema(ResponseResult), _STREAM]}
    kinds = [_ChatCompletion, TextCompletion]
    if native_result == "openai_chat_or_responses":
        kinds.append(_Responses)
    return {"anyOf": [*map(_schema, kinds), _STREAM]}


def _chat_input(native_result: str | None) -> Schema:
    """What may stand in any input, and the one member that says which of the inputs it is."""
    older = response_shaped(native_result)
    properties = _schema(ChatBody)["properties"]
    for name in ("model", "messages", "prompt", "history", *(("n",) if older else ())):
        del properties[name]
    ranges = {**RANGES, **WHOLE_RANGES, **(BOUNDS if older else {})}
    for name in ranges.keys() & properties.keys():
        low, high = ranges[name]
        kind = "integer" if name in WHOLE_RANGES else "number"
        properties[name] = {"type": kind, "minimum": low, "maximum": high}
    tool = _schema(FunctionTool)
    properties |= {
        "tools": {"type": "array", "items": {"anyOf": [{**tool, "required": ["function"]}, _schema(Function)]}},
        "functions": {"type": "array", "items": _schema(Function)},
        "raw": {"type": "boolean", "default": False},
        "image": BLOB,
        **dict.fromkeys(("tool_choice", "function_call"), _CHOICE),
        "guided_json": {"type": "object"},
        "reasoning_effort": {"type": ["string", "null"], "description": "Null says: do not think."},
        "lora": {"type": ["string", "null"], "description": "An adapter's id or name. Models without any refuse it."},
    }
    body = {
        "type": "object",
        "properties": properties,
        "if": {"required": ["top_logprobs"], "properties": {"top_logprobs": {"minimum": 1}}},
        "then": {"required": ["logprobs"], "properties": {"logprobs": {"const": True}}},
    }
    if native_result == VERDICT:
        properties["messages"] = _messages(_turn_of_dialogue())
        return {**body, "required": ["messages"]}
    prompt = _schema(Prompt) if older else {"type": "string", "minLength": 1}
    variants = {"prompt": prompt, "messages": _messages(_message())}
    if native_result == "openai_chat_or_responses":
        variants["input"] = {"type": ["string", "array"]}
    return {
        **body,
        "oneOf": [
            {"required": [name], "properties": {**dict.fromkeys(variants, {"type": "null"}), name: schema}}
            for name, schema in variants.items()
        ],
    }


def _messages(turn: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": turn}


def _turn_of_dialogue() -> Schema:
    """A safety model's."""
    turn = _schema(ChatMessage)
    turn["properties"] |= {"role": {"enum": [*DIALOGUE]}, "content": {"type": "string"}}
    return {**turn, "required": ["role", "content"]}


def _message() -> Schema:
    """As OpenAI's, with content that may be a single part and calls that may be flat."""
    message = _schema(ChatMessage)
    content = message["properties"]["content"]["anyOf"]
    content.append(_schema(Content))
    calls = {"anyOf": [_schema(Call), _schema(CallFunction)]}
    message["properties"]["tool_calls"] = {"anyOf": [{"type": "array", "items": calls}, {"type": "null"}]}
    return message
