"""The Responses API on the wire: requests to canonical, whole answers in the form that OpenAI's own types demand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import Response

from adapters.canonical import (
    ChatRequest,
    ChatResult,
    Choice,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)
from adapters.errors import InvalidRequest
from adapters.wire.openai_answer import Stamp
from adapters.wire.openai_responses import ResponsesRequest, dump_responses_result, parse_responses_request

MODEL = "@cf/openai/gpt-oss-20b"
STAMP = Stamp(id="resp_0123", created=1_790_000_000, model=MODEL, fingerprint="fp")
HI = (Message(role="user", content="Hi"),)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool(name="get_weather", description="The weather", parameters=SCHEMA, strict=True)
WEATHER_WIRE = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather",
    "parameters": SCHEMA,
    "strict": True,
}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Oslo"}'}
CALLED = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Oslo"}')
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "cold"}
PNG = "data:image/png;base64,AAAA"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "input": "Hi", **fields}).encode()


def user(*content: Any) -> list[Any]:
    return [{"role": "user", "content": list(content)}]


# ---------------------------------------------------------------- requests

READ: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a text": (body(), {}),
    "instructions": (
        body(instructions="Be brief."),
        {"messages": (Message(role="system", content="Be brief."), *HI), "instructions": "Be brief."},
    ),
    "limits and sampling": (
        body(max_output_tokens=64.0, temperature=0, top_p=0.5),
        {"max_tokens": 64, "temperature": 0, "top_p": 0.5},
    ),
    "an effort": (body(reasoning={"effort": "low"}), {"reasoning_effort": "low"}),
    "a summary of the reasoning": (
        body(reasoning={"effort": "low", "summary": "auto"}),
        {"reasoning_effort": "low", "unsupported": ("reasoning.summary",)},
    ),
    "what cannot be honoured": (
        body(truncation="auto", text={"verbosity": "low"}),
        {"unsupported": ("text.verbosity", "truncation")},
    ),
    "what is as it is anyway": (
        body(truncation="disabled", store=True, stream=False, background=False, service_tier="auto", include=[]),
        {},
    ),
    "plain text": (body(text={"format": {"type": "text"}}), {}),
    "any JSON": (body(text={"format": {"type": "json_object"}}), {"response_format": JsonFormat()}),
    "a schema": (
        body(text={"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}),
        {"response_format": JsonFormat(name="city", schema=SCHEMA, strict=True)},
    ),
    "tools": (
        body(tools=[WEATHER_WIRE], tool_choice="required", parallel_tool_calls=False),
        {"tools": (WEATHER,), "tool_choice": "required", "parallel_tool_calls": False},
    ),
    "a tool of which little is said": (
        body(tools=[{"type": "function", "name": "now", "parameters": None}]),
        {"tools": (Tool(name="now", parameters={"type": "object", "properties": {}}),)},
    ),
    "a named tool": (
        body(tools=[WEATHER_WIRE], tool_choice={"type": "function", "name": "get_weather"}),
        {"tools": (WEATHER,), "tool_choice": NamedTool("get_weather")},
    ),
    "some of the tools": (
        body(
            tools=[WEATHER_WIRE, {"type": "function", "name": "now"}],
            tool_choice={
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "get_weather"}],
            },
        ),
        {"tools": (WEATHER,), "tool_choice": "required"},
    ),
    "logprobs": (body(include=["message.output_text.logprobs"]), {"logprobs": True}),
    "top logprobs": (body(top_logprobs=2), {"logprobs": True, "top_logprobs": 2}),
    "whom to recognise": (body(user="me"), {"affinity": "me"}),
    "whom to recognise, in the newer word": (
        body(user="me", prompt_cache_key="conversation"),
        {"affinity": "conversation"},
    ),
    "metadata": (body(metadata={"k": "v"}), {"metadata": {"k": "v"}}),
    "fields that nobody knows": (body(top_k=3, seed=None), {"unknown": ("top_k",)}),
}


@pytest.mark.parametrize(("wire", "expected"), READ.values(), ids=READ)
def test_a_body_is_read(wire: bytes, expected: dict[str, Any]) -> None:
    assert parse_responses_request(wire) == ResponsesRequest(**{"model": MODEL, "messages": HI, **expected})


TURNS: dict[str, tuple[list[Any], tuple[Message, ...]]] = {
    "roles": (
        [{"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant")],
        tuple(Message(role=role, content="x") for role in ("system", "system", "user", "assistant")),
    ),
    "a turn that says its type": ([{"type": "message", "role": "user", "content": "Hi"}], HI),
    "an answer as it was given": (
        [
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Hel", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "lo"},
                ],
            }
        ],
        (Message(role="assistant", content="Hello"),),
    ),
    "parts of text": (user({"type": "input_text", "text": "H"}, {"type": "input_text", "text": "i"}), HI),
    "an image": (
        user({"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": PNG, "detail": "low"}),
        (Message(role="user", content=(TextPart("What?"), ImagePart(PNG, "low"))),),
    ),
    "a call and its output": (
        [*user({"type": "input_text", "text": "Hi"}), CALL, OUTPUT],
        (
            *HI,
            Message(role="assistant", tool_calls=(CALLED,)),
            Message(role="tool", content="cold", tool_call_id="call_1"),
        ),
    ),
    "calls after a text are of one turn": (
        [{"role": "assistant", "content": "Let me see."}, CALL, {**CALL, "call_id": "call_2", "arguments": ""}],
        (
            Message(
                role="assistant",
                content="Let me see.",
                tool_calls=(CALLED, ToolCall(id="call_2", name="get_weather", arguments="{}")),
            ),
        ),
    ),
    "an output in parts": (
        [CALL, {**OUTPUT, "output": [{"type": "input_text", "text": "co"}, {"type": "input_text", "text": "ld"}]}],
        (
            Message(role="assistant", tool_calls=(CALLED,)),
            Message(role="tool", content="cold", tool_call_id="call_1"),
        ),
    ),
    "reasoning before a text": (
        [
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"role": "assistant", "content": "Hi"},
        ],
        (Message(role="assistant", content="Hi", reasoning="Hm."),),
    ),
    "a summary stands in for the reasoning": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, CALL],
        (Message(role="assistant", reasoning="Hm.", tool_calls=(CALLED,)),),
    ),
    "reasoning between calls": (
        [CALL, {"type": "reasoning", "content": "Hm."}, {**CALL, "call_id": "call_2"}],
        (
            Message(
                role="assistant",
                reasoning="Hm.",
                tool_calls=(CALLED, ToolCall(id="call_2", name="get_weather", arguments='{"city":"Oslo"}')),
            ),
        ),
    ),
    "reasoning that led nowhere": ([{"type": "reasoning", "encrypted_content": "x"}, *user()], (Message(role="user"),)),
}


@pytest.mark.parametrize(("items", "messages"), TURNS.values(), ids=TURNS)
def test_items_become_turns(items: list[Any], messages: tuple[Message, ...]) -> None:
    assert parse_responses_request(body(input=items)).messages == messages


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no model": ({"model": None}, "model", "missing_required_parameter"),
    "a blank model": ({"model": ""}, "model", "missing_required_parameter"),
    "no input": ({"input": None}, "input", "missing_required_parameter"),
    "an empty input": ({"input": []}, "input", "empty_array"),
    "an input of another kind": ({"input": 1}, "input", "invalid_type"),
    "a stream": ({"stream": True}, "stream", "invalid_value"),
    "work in the background": ({"background": True}, "background", "invalid_value"),
    "an earlier answer": ({"previous_response_id": "resp_1"}, "previous_response_id", "invalid_value"),
    "a conversation": ({"conversation": {"id": "c"}}, "conversation", "invalid_value"),
    "a stored prompt": ({"prompt": {"id": "p"}}, "prompt", "invalid_value"),
    "a tool of another kind": ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
    "a tool without a name": ({"tools": [{"type": "function"}]}, "tools[0].name", "invalid_value"),
    "a choice of a kind of tool": ({"tool_choice": {"type": "file_search"}}, "tool_choice.type", "invalid_value"),
    "a choice without tools": ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    "an unknown format": ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
    "a format without its schema": (
        {"text": {"format": {"type": "json_schema", "name": "x"}}},
        "text.format.schema",
        "missing_required_parameter",
    ),
    "no tokens": ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
    "too hot": ({"temperature": 2.5}, "temperature", "decimal_above_max_value"),
    "too many logprobs": ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    "a reference": ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "invalid_value"),
    "an unknown item": ({"input": [{"type": "web_search_call"}]}, "input[0].type", "invalid_value"),
    "no role": ({"input": [{"content": "x"}]}, "input[0].role", "missing_required_parameter"),
    "an unknown role": ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
    "no content": ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    "a call without a name": ({"input": [{**CALL, "name": ""}]}, "input[0].name", "missing_required_parameter"),
    "a call without an id": ({"input": [{**CALL, "call_id": None}]}, "input[0].call_id", "missing_required_parameter"),
    "an output of no call": ({"input": [OUTPUT]}, "input[0].call_id", "invalid_value"),
    "a call without its output": (
        {"input": [CALL, {**OUTPUT, "output": None}]},
        "input[1].output",
        "missing_required_parameter",
    ),
    "an image in an output": (
        {"input": [CALL, {**OUTPUT, "output": [{"type": "input_image", "image_url": PNG}]}]},
        "input[1].output[0]",
        "invalid_value",
    ),
    "a file": ({"input": user({"type": "input_file", "file_id": "f"})}, "input[0].content[0].type", "invalid_value"),
    "an image in a file": (
        {"input": user({"type": "input_image", "file_id": "f"})},
        "input[0].content[0].image_url",
        "missing_required_parameter",
    ),
    "an image that is nowhere": (
        {"input": user({"type": "input_image", "image_url": "ftp://x"})},
        "input[0].content[0].image_url",
        "invalid_value",
    ),
    "a text without text": (
        {"input": user({"type": "input_text"})},
        "input[0].content[0].text",
        "missing_required_parameter",
    ),
    "a text that is a number": (
        {"input": user({"type": "input_text", "text": 1})},
        "input[0].content[0].text",
        "invalid_type",
    ),
    "reasoning without text": (
        {"input": [{"type": "reasoning", "content": [{"type": "reasoning_text"}]}]},
        "input[0].content[0].text",
        "missing_required_parameter",
    ),
}


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_field(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_responses_request(body(**fields))
    assert (caught.value.param, caught.value.code) == (param, code)


# ---------------------------------------------------------------- answers

ASKED = ResponsesRequest(model=MODEL, messages=HI)
COUNTED = Usage(prompt_tokens=9, completion_tokens=4, cached_tokens=2, reasoning_tokens=1)


def answer(choice: Choice, request: ChatRequest = ASKED, usage: Usage | None = COUNTED) -> tuple[Any, Response]:
    """The body as it is and as OpenAI's SDK sees it, which takes nothing that its types do not allow."""
    text = dump_responses_result(ChatResult(choices=(choice,), usage=usage), request, STAMP)
    return json.loads(text), Response.model_validate_json(text, strict=True)


def test_a_text_is_one_message() -> None:
    wire, response = answer(Choice(text="Hello", finish_reason="stop"))
    assert response.output_text == "Hello"
    assert (wire["id"], wire["object"], wire["created_at"], wire["model"]) == (
        STAMP.id,
        "response",
        STAMP.created,
        MODEL,
    )
    assert (wire["status"], wire["error"], wire["incomplete_details"]) == ("completed", None, None)
    [message] = wire["output"]
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
    }
    assert wire["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 13,
    }


def test_reasoning_text_and_calls_are_items_in_this_order() -> None:
    calls = (CALLED, ToolCall(id=None, name="now", arguments="{}"))
    wire, response = answer(Choice(text="See:", reasoning="Hm.", tool_calls=calls, finish_reason="tool_calls"))
    reasoning, message, *called = wire["output"]
    assert (reasoning["type"], reasoning["content"]) == ("reasoning", [{"type": "reasoning_text", "text": "Hm."}])
    assert message["content"][0]["text"] == "See:"
    assert [(item["type"], item["call_id"], item["name"]) for item in called] == [
        ("function_call", "call_1", "get_weather"),
        ("function_call", STAMP.call_id(1), "now"),
    ]
    assert called[0]["arguments"] == '{"city":"Oslo"}' and response.status == "completed"
    ids = [item["id"] for item in wire["output"]]
    assert len(set(ids)) == 4 and [id[:3] for id in ids] == ["rs_", "msg", "fc_", "fc_"]
    assert wire == answer(Choice(text="See:", reasoning="Hm.", tool_calls=calls, finish_reason="tool_calls"))[0]


ITEMS = {
    "a text of nothing": (Choice(finish_reason="stop"), ["message"]),
    "reasoning alone": (Choice(reasoning="Hm.", finish_reason="length"), ["reasoning"]),
    "a call alone": (Choice(tool_calls=(CALLED,), finish_reason="tool_calls"), ["function_call"]),
}


@pytest.mark.parametrize(("choice", "types"), ITEMS.values(), ids=ITEMS)
def test_there_is_a_text_unless_there_is_something_else(choice: Choice, types: list[str]) -> None:
    wire, _ = answer(choice)
    assert [item["type"] for item in wire["output"]] == types


CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


@pytest.mark.parametrize(("reason", "told"), CUT.items(), ids=CUT)
def test_an_answer_that_was_cut_says_by_what(reason: Any, told: str) -> None:
    wire, response = answer(Choice(text="Hel", reasoning="Hm.", finish_reason=reason))
    assert (wire["status"], wire["incomplete_details"]) == ("incomplete", {"reason": told})
    assert [item["status"] for item in wire["output"]] == ["completed", "incomplete"]
    assert response.output_text == "Hel"


def test_logprobs_have_all_that_their_type_demands() -> None:
    entry = {"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "e", "logprob": -1.5}, "odd"]}
    logprobs = [entry, {"token": "!", "logprob": -0.25, "bytes": [33], "top_logprobs": None}, "odd"]
    wire, _ = answer(Choice(text="é!", logprobs=logprobs, finish_reason="stop"))
    assert wire["output"][0]["content"][0]["logprobs"] == [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [{"token": "e", "logprob": -1.5, "bytes": [101]}],
        },
        {"token": "!", "logprob": -0.25, "bytes": [33], "top_logprobs": []},
    ]


def test_a_usage_says_what_is_known_of_it() -> None:
    wire, _ = answer(Choice(text="x"), usage=Usage(prompt_tokens=1, neurons=0.5))
    assert wire["usage"]["neurons"] == 0.5 and "estimated" not in wire["usage"]
    wire, _ = answer(Choice(text="x"), usage=None)
    assert wire["usage"]["estimated"] is True and wire["usage"]["total_tokens"] == 0


UNSAID: dict[str, Any] = {
    "instructions": None,
    "metadata": {},
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
}
SAID: dict[str, tuple[bytes, dict[str, Any]]] = {
    "nothing": (body(), {}),
    "words": (
        body(instructions="Be brief.", metadata={"k": "v"}),
        {"instructions": "Be brief.", "metadata": {"k": "v"}},
    ),
    "numbers": (
        body(max_output_tokens=64, temperature=0.5, top_p=0.25, top_logprobs=2),
        {"max_output_tokens": 64, "temperature": 0.5, "top_p": 0.25, "top_logprobs": 2},
    ),
    "an effort": (body(reasoning={"effort": "low"}), {"reasoning": {"effort": "low", "summary": None}}),
    "tools": (
        body(
            tools=[WEATHER_WIRE],
            tool_choice={"type": "function", "name": "get_weather"},
            parallel_tool_calls=False,
        ),
        {
            "tools": [WEATHER_WIRE],
            "tool_choice": {"type": "function", "name": "get_weather"},
            "parallel_tool_calls": False,
        },
    ),
    "a choice": (body(tools=[WEATHER_WIRE], tool_choice="none"), {"tools": [WEATHER_WIRE], "tool_choice": "none"}),
    "JSON": (body(text={"format": {"type": "json_object"}}), {"text": {"format": {"type": "json_object"}}}),
    "a schema": (
        body(text={"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}),
        {"text": {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}},
    ),
}


@pytest.mark.parametrize(("wire", "expected"), SAID.values(), ids=SAID)
def test_an_answer_repeats_what_was_asked(wire: bytes, expected: dict[str, Any]) -> None:
    repeated, _ = answer(Choice(text="x", finish_reason="stop"), parse_responses_request(wire))
    assert {name: repeated[name] for name in UNSAID} == {**UNSAID, **expected}


def test_a_request_of_another_dialect_can_be_answered_too() -> None:
    repeated, _ = answer(Choice(text="x"), ChatRequest(model=MODEL, messages=HI))
    assert {name: repeated[name] for name in UNSAID} == UNSAID
