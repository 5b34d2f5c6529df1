"""What each kind of engine is sent, and what has to be changed for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.canonical import ChatRequest, ImagePart, JsonFormat, Message, NamedTool, TextPart, Tool, ToolCall
from adapters.errors import InvalidRequest
from adapters.profiles import PROFILES
from adapters.wire.openai_engine_request import dump_engine_request, offered

HI = Message(role="user", content="Hi")
SYSTEM = Message(role="system", content="Be brief.")
WEATHER = Tool(name="get_weather", description="It", parameters={"type": "object"}, strict=True)
TIME = Tool(name="get_time", parameters={"type": "object", "properties": {}})
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
EVERYTHING = [name for name in PROFILES if name not in ("chatglm.cpp", "transformers-serve")]


def asking(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="theirs", messages=messages or (HI,), **fields)


def dumped(
    profile: str, request: ChatRequest, stream: bool = False, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    sent = dump_engine_request(request, PROFILES[profile].form, model="own", stream=stream, **options)
    body = json.loads(sent.body)
    assert body.get("max_tokens") == sent.limit
    return body, list(map(str, sent.changes))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_plain_request_goes_out_with_the_engines_name_for_the_model(profile: str) -> None:
    body, changes = dumped(profile, asking(max_tokens=9))
    limit = body.pop("max_tokens")
    assert body == {"model": "own", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert limit == 9 and changes == []


@pytest.mark.parametrize("profile", PROFILES)
def test_usage_is_asked_for_in_streams_where_it_is_known(profile: str) -> None:
    body, changes = dumped(profile, asking(), stream=True)
    wanted = {"include_usage": True} if profile in EVERYTHING else None
    assert body["stream"] is True and body.get("stream_options") == wanted and changes == []


SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "seed": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.4,
    "repetition_penalty": 1.1,
    "logit_bias": {"5": 1.0},
    "logprobs": True,
    "top_logprobs": 2,
    "chat_template_kwargs": {"thinking": False},
}
DROPPED: dict[str, list[str]] = {
    "relay": [],
    "vllm": [],
    "sglang": [],
    "llama-server": [],
    "ollama": ["top_k", "min_p", "repetition_penalty", "logit_bias", "chat_template_kwargs"],
    "chatglm.cpp": [name for name in SAMPLING if name not in ("temperature", "top_p")],
    "transformers-serve": [
        *("top_k", "min_p", "presence_penalty", "repetition_penalty", "logit_bias", "chat_template_kwargs"),
        *("logprobs", "top_logprobs"),
    ],
    "openai": ["top_k", "min_p", "repetition_penalty", "chat_template_kwargs"],
}


@pytest.mark.parametrize("profile", PROFILES)
def test_sampling_fields_go_where_they_are_known_and_are_listed_where_not(profile: str) -> None:
    body, changes = dumped(profile, asking(**SAMPLING))
    dropped = DROPPED[profile]
    own = {"repetition_penalty": "repeat_penalty"} if profile == "llama-server" else {}
    expected = {own.get(name, name): value for name, value in SAMPLING.items() if name not in dropped}
    assert {
        name: value for name, value in body.items() if name not in ("model", "messages", "stream", "max_tokens")
    } == (expected)
    assert {change for change in changes if change.endswith("dropped")} == {f"{name}=dropped" for name in dropped}


@pytest.mark.parametrize("profile", PROFILES)
def test_values_that_ask_for_nothing_are_never_a_change(profile: str) -> None:
    neutral = {"top_p": 1, "min_p": 0, "frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1}
    _, changes = dumped(profile, asking(**neutral, logprobs=False, top_logprobs=0))
    assert changes == []


@pytest.mark.parametrize("profile", PROFILES)
def test_what_nobody_honours_is_listed(profile: str) -> None:
    _, changes = dumped(profile, asking(lora="x", unsupported=("verbosity",), unknown=("foo",)))
    assert changes == ["verbosity=dropped", "foo=ignored", "lora=dropped"]


# The profile, what was asked, what is sent, and the changes.
FIELDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[str]]] = {
    "vLLM refuses a top_p of 0": ("vllm", {"top_p": 0}, {"top_p": 0.001}, ["top_p=clamped"]),
    "SGLang too": ("sglang", {"top_p": 0}, {"top_p": 0.001}, ["top_p=clamped"]),
    "a temperature of Workers AI's own range": (
        "chatglm.cpp",
        {"temperature": 5},
        {"temperature": 2},
        ["temperature=clamped"],
    ),
    "any other temperature stays": ("vllm", {"temperature": 5}, {"temperature": 5}, []),
    "llama-server's seeds have 32 bits": ("llama-server", {"seed": 2**32 + 4}, {"seed": 5}, ["seed=clamped"]),
    "and one of these means: at random": ("llama-server", {"seed": 2**32 - 1}, {"seed": 0}, ["seed=clamped"]),
    "a negative one too": ("llama-server", {"seed": -1}, {"seed": 2**32 - 2}, ["seed=clamped"]),
    "the largest seed": ("llama-server", {"seed": 2**32 - 2}, {"seed": 2**32 - 2}, []),
    "a seed of 0 that is dropped": ("chatglm.cpp", {"seed": 0}, {}, ["seed=dropped"]),
    "transformers serve takes one penalty for another": (
        "transformers-serve",
        {"frequency_penalty": 0.5},
        {"frequency_penalty": 0.5},
        ["frequency_penalty=emulated"],
    ),
    "of which a negative one would be nonsense": (
        "transformers-serve",
        {"frequency_penalty": -1},
        {"frequency_penalty": 0},
        ["frequency_penalty=emulated", "frequency_penalty=clamped"],
    ),
    "an effort that is known": ("vllm", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, []),
    "the nearest effort": (
        "vllm",
        {"reasoning_effort": "xhigh"},
        {"reasoning_effort": "high"},
        ["reasoning_effort=clamped"],
    ),
    "an effort that nobody knows": ("vllm", {"reasoning_effort": "odd"}, {"reasoning_effort": "odd"}, []),
    "any effort": ("openai", {"reasoning_effort": "minimal"}, {"reasoning_effort": "minimal"}, []),
    "an effort for the template": (
        "llama-server",
        {"reasoning_effort": "low", "chat_template_kwargs": {"a": 1}},
        {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "low", "a": 1}},
        [],
    ),
    "log probabilities": ("vllm", {"logprobs": True}, {"logprobs": True}, []),
    "log probabilities without alternatives": (
        "vllm",
        {"logprobs": True, "top_logprobs": 0},
        {"logprobs": True, "top_logprobs": 0},
        [],
    ),
    "of which llama-server would tell nothing": (
        "llama-server",
        {"logprobs": True, "top_logprobs": 0},
        {"logprobs": True, "top_logprobs": 1},
        [],
    ),
    "and without a number 20 of each": (
        "llama-server",
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 1},
        [],
    ),
    "alternatives of nothing": ("llama-server", {"top_logprobs": 0}, {}, []),
    "no effort at all": ("chatglm.cpp", {"reasoning_effort": "low"}, {}, ["reasoning_effort=dropped"]),
    "stop": ("transformers-serve", {"stop": ("END",)}, {"stop": ["END"]}, []),
    "stop where the relay cuts": ("chatglm.cpp", {"stop": ("END",)}, {}, ["stop=emulated"]),
    "a JSON object": ("sglang", {"response_format": JsonFormat()}, {"response_format": {"type": "json_object"}}, []),
    "a schema": (
        "ollama",
        {"response_format": JsonFormat(name="x", schema=SCHEMA, strict=True)},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}},
        [],
    ),
}


@pytest.mark.parametrize(("profile", "asked", "sent", "changes"), FIELDS.values(), ids=FIELDS)
def test_a_field_is_put_into_the_engines_terms(
    profile: str, asked: dict[str, Any], sent: dict[str, Any], changes: list[str]
) -> None:
    body, listed = dumped(profile, asking(**asked))
    for name in ("model", "messages", "stream", "max_tokens"):
        body.pop(name, None)
    assert (body, listed) == (sent, changes)


@pytest.mark.parametrize(
    ("stream", "tools", "kept"), [(True, (TIME,), False), (False, (TIME,), True), (True, (), True)]
)
def test_llama_server_tells_no_probabilities_in_a_stream_with_tools(
    stream: bool, tools: tuple[Tool, ...], kept: bool
) -> None:
    body, changes = dumped("llama-server", asking(tools=tools, logprobs=True, top_logprobs=2), stream)
    assert ("logprobs" in body) is ("top_logprobs" in body) is kept
    assert changes == ([] if kept else ["logprobs=dropped", "top_logprobs=dropped"])
    assert "logprobs" in dumped("vllm", asking(tools=tools, logprobs=True), stream)[0]


# ---------------------------------------------------------------- the length of an answer

# max_tokens, the prompt's estimate, the context window; what chatglm.cpp is sent, and the changes.
LENGTHS: dict[str, tuple[int | None, int, int | None, int, list[str]]] = {
    "the limit is that of prompt and answer together": (100, 50, None, 150, []),
    "capped at its MAX_LENGTH": (4090, 50, None, 4096, ["max_tokens=clamped"]),
    "which the operator may name": (100, 50, 120, 120, ["max_tokens=clamped"]),
    "a prompt that will be cut": (100, 2000, None, 612, ["messages=clamped"]),
    "a prompt that just fits": (100, 512, None, 612, []),
    "a prompt one token longer": (100, 513, None, 612, ["messages=clamped"]),
    "no limit: as long as it can": (None, 50, None, 4096, []),
}


@pytest.mark.parametrize(("wanted", "prompt", "window", "sent", "changes"), LENGTHS.values(), ids=LENGTHS)
def test_chatglm_cpp_is_told_the_length_of_prompt_and_answer(
    wanted: int | None, prompt: int, window: int | None, sent: int, changes: list[str]
) -> None:
    request = asking(max_tokens=wanted)
    body, listed = dumped("chatglm.cpp", request, prompt_tokens=prompt, context_window=window)
    assert (body["max_tokens"], listed) == (sent, changes)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "chatglm.cpp"])
def test_other_engines_are_told_that_of_the_answer(profile: str) -> None:
    assert dumped(profile, asking(max_tokens=100), prompt_tokens=5000)[0]["max_tokens"] == 100
    assert "max_tokens" not in dumped(profile, asking())[0]


# ---------------------------------------------------------------- tools

CHOICES: dict[str, tuple[str, Any, Any, list[str], list[str]]] = {
    "auto": ("vllm", "auto", "auto", ["get_weather", "get_time"], []),
    "required": ("sglang", "required", "required", ["get_weather", "get_time"], []),
    "none": ("vllm", "none", "none", ["get_weather", "get_time"], []),
    "nothing said": ("vllm", None, None, ["get_weather", "get_time"], []),
    "named": (
        "openai",
        NamedTool("get_time"),
        {"type": "function", "function": {"name": "get_time"}},
        ["get_weather", "get_time"],
        [],
    ),
    "named, for llama-server, which takes an object for auto": (
        "llama-server",
        NamedTool("get_time"),
        "required",
        ["get_time"],
        ["tool_choice=emulated"],
    ),
    "auto, where it is the only choice": ("ollama", "auto", None, ["get_weather", "get_time"], []),
    "required, which nobody hears": ("ollama", "required", None, ["get_weather", "get_time"], ["tool_choice=dropped"]),
    "named, which nobody hears": ("chatglm.cpp", NamedTool("get_time"), None, ["get_time"], ["tool_choice=dropped"]),
    "none, by not telling of the tools": ("chatglm.cpp", "none", None, [], ["tool_choice=emulated"]),
}


@pytest.mark.parametrize(("profile", "choice", "sent", "names", "changes"), CHOICES.values(), ids=CHOICES)
def test_a_choice_of_tools_is_put_into_the_engines_terms(
    profile: str, choice: Any, sent: Any, names: list[str], changes: list[str]
) -> None:
    body, listed = dumped(profile, asking(tools=(WEATHER, TIME), tool_choice=choice))
    assert body.get("tool_choice") == sent
    assert [tool["function"]["name"] for tool in body.get("tools", [])] == names
    assert listed == changes


def test_a_choice_without_tools_is_nothing() -> None:
    assert dumped("vllm", asking(tool_choice="none", parallel_tool_calls=False)) == dumped("vllm", asking())


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("profile", ["vllm", "ollama"])
def test_one_call_at_a_time_is_kept_by_the_relay_where_the_engine_does_not(profile: str, wanted: bool) -> None:
    body, changes = dumped(profile, asking(tools=(TIME,), parallel_tool_calls=wanted))
    assert body.get("parallel_tool_calls") == (wanted if profile == "vllm" else None)
    assert changes == (["parallel_tool_calls=emulated"] if profile == "ollama" and not wanted else [])


def test_calls_are_looked_for_in_the_text_only_where_they_can_be_there() -> None:
    with_tools = asking(tools=(TIME,))
    assert offered(with_tools, PROFILES["chatglm.cpp"].form) == (TIME,)
    assert offered(with_tools, PROFILES["vllm"].form) == ()
    assert offered(msgspec.structs.replace(with_tools, tool_choice="none"), PROFILES["chatglm.cpp"].form) == ()


# ---------------------------------------------------------------- turns

CALLED = Message(
    role="assistant",
    content="Wait.",
    tool_calls=(ToolCall("c1", "get_weather", '{"city":"Oslo"}'), ToolCall(None, "get_time", "{}")),
)
CALLED_SILENTLY = msgspec.structs.replace(CALLED, content="", tool_calls=CALLED.tool_calls[:1])
RESULT = Message(role="tool", content="Rain", tool_call_id="c1")
LOST = Message(role="tool", content="Noon", tool_call_id="c9")


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "chatglm.cpp"])
def test_turns_with_tools_go_out_in_openais_form(profile: str) -> None:
    body, changes = dumped(profile, asking(HI, CALLED, RESULT))
    _, assistant, tool = body["messages"]
    assert [call["id"] for call in assistant["tool_calls"]] == ["c1", "call_1"]
    assert assistant["content"] == "Wait."
    assert tool == {"role": "tool", "content": "Rain", "tool_call_id": "c1"}
    assert changes == []


def test_chatglm_cpp_is_told_of_calls_and_results_in_words() -> None:
    body, changes = dumped("chatglm.cpp", asking(HI, CALLED_SILENTLY, RESULT, LOST))
    assert body["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "get_weather\n```python\ntool_call(city='Oslo')\n```"},
        {"role": "user", "content": "Result of get_weather:\nRain\n\nResult of the function:\nNoon"},
    ]
    assert changes == ["messages[].tool_calls=emulated"]
    words = dumped("chatglm.cpp", asking(HI, CALLED, RESULT))[0]["messages"][1]["content"]
    assert words.startswith("Wait.\nget_weather\n```") and "\nget_time\n```python\ntool_call()\n```" in words


def test_chatglm_cpps_turns_alternate() -> None:
    again = Message(role="assistant", content="Yes?")
    body, changes = dumped("chatglm.cpp", asking(SYSTEM, HI, HI, again, again, HI))
    assert [turn["role"] for turn in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][1]["content"] == "Hi\n\nHi"
    assert changes == []


IMAGE = ImagePart("data:image/png;base64,AA==")
SEEING = Message(role="user", content=(IMAGE, TextPart("What "), TextPart("is it?")))


def test_chatglm_cpp_takes_one_text_and_one_image_in_this_order() -> None:
    body, _ = dumped("chatglm.cpp", asking(HI, SEEING))
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": IMAGE.url}},
    ]
    with pytest.raises(InvalidRequest) as caught:
        dumped("chatglm.cpp", asking(HI, Message(role="user", content=(IMAGE, IMAGE))))
    assert caught.value.param == "messages[1].content"
    with_result = asking(SEEING, CALLED, msgspec.structs.replace(RESULT, content=(TextPart("Rain"),)))
    assert dumped("chatglm.cpp", with_result)[0]["messages"][2]["content"] == "Result of get_weather:\nRain"


@pytest.mark.parametrize("profile", EVERYTHING)
def test_other_engines_take_parts_as_they_are(profile: str) -> None:
    body, _ = dumped(profile, asking(SEEING))
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "text", "text"]


@pytest.mark.parametrize(
    ("profile", "key"),
    [("vllm", "reasoning"), ("sglang", "reasoning_content"), ("llama-server", "reasoning_content"), ("openai", None)],
)
def test_earlier_reasoning_has_the_engines_key(profile: str, key: str | None) -> None:
    body, changes = dumped(profile, asking(HI, Message(role="assistant", content="Yes", reasoning="Hm."), HI))
    turn = {"role": "assistant", "content": "Yes"} | ({key: "Hm."} if key else {})
    assert body["messages"][1] == turn
    assert changes == ([] if key else ["messages[].reasoning=dropped"])


@pytest.mark.parametrize("profile", PROFILES)
def test_names_of_turns_are_kept_where_they_are_known(profile: str) -> None:
    body, changes = dumped(profile, asking(Message(role="user", content="Hi", name="ann")))
    kept = profile not in ("chatglm.cpp", "ollama")
    assert ("name" in body["messages"][0]) is kept
    assert changes == ([] if kept else ["messages[].name=dropped"])


@pytest.mark.parametrize("profile", ["chatglm.cpp", "transformers-serve"])
@pytest.mark.parametrize("wanted", [JsonFormat(), JsonFormat(schema=SCHEMA)], ids=["any object", "a schema"])
def test_a_wanted_form_is_put_into_the_systems_words(profile: str, wanted: JsonFormat) -> None:
    body, changes = dumped(profile, asking(SYSTEM, HI, response_format=wanted))
    words = body["messages"][0]["content"]
    assert words.startswith("Be brief.\n\nAnswer with one JSON object") and len(body["messages"]) == 2
    assert ('"properties"' in words) is (wanted.schema is not None)
    assert changes == ["response_format=emulated"] and "response_format" not in body
    body, _ = dumped(profile, asking(HI, response_format=wanted))
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]


# ---------------------------------------------------------------- the table

PAGE = (Path(__file__).parent.parent / "docs" / "engines.md").read_text()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_profile_is_documented_as_it_is(profile: Any) -> None:
    (row,) = re.findall(rf"^\| `{re.escape(profile.name)}` \|.*$", PAGE, re.M)
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells[0] == f"`{profile.ready}`"
    assert cells[1] == str(profile.max_concurrency)
    assert cells[2] == ("yes" if profile.embeddings else "no")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_field_that_is_dropped_is_documented(profile: str) -> None:
    section = PAGE.partition(f"### {profile}\n")[2].partition("\n### ")[0]
    for name in DROPPED[profile]:
        assert f"`{name}`" in section
