"""Each field of a chat request changes what the engine is asked or says, is refused by name, or told as a change."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import msgspec
import pytest

from adapters.canonical import (
    ChatRequest,
    ImagePart,
    JsonFormat,
    Message,
    NamedTool,
    TextPart,
    Tool,
    ToolCall,
)
from adapters.errors import RelayError
from adapters.local.inference.request import Finish, Step, Token
from adapters.local.serving.chat import ChatService, gathered
from adapters.local.serving.drafts import Drafts
from tests.inference.with_torch.test_prompts import CHATML, PLAIN
from tests.inference.with_torch.vocabularies import tokenizer
from tests.serving.played import PlayedEngine

pytestmark = pytest.mark.anyio

SAID = "one two three"
ASKED = ChatRequest(model="m", messages=(Message(role="user", content="Hi"),), max_tokens=50)
TOOLS = (Tool(name="now", parameters={"type": "object"}), Tool(name="then", parameters={"type": "object"}))
THOUGHT = (Message(role="assistant", content="a", reasoning="b"), Message(role="user", content="Hi"))


class Way(NamedTuple):
    """A value, and the request that it is put into."""

    value: Any
    beside: dict[str, Any] = {}


CHANGES_THE_ANSWER: dict[str, list[Way]] = {
    "messages": [Way((Message(role="user", content="Ho"),)), Way((Message(role="user", content="Hi", name="Ann"),))],
    "max_tokens": [Way(7)],
    "temperature": [Way(0.5)],
    "top_p": [Way(0.5)],
    "top_k": [Way(5)],
    "min_p": [Way(0.5)],
    "seed": [Way(5), Way(-5)],
    "frequency_penalty": [Way(1.0)],
    "presence_penalty": [Way(1.0)],
    "repetition_penalty": [Way(1.5)],
    "stop": [Way((" two",))],
    "n": [Way(2)],
    "tools": [Way(TOOLS), Way((Tool(name="now", parameters={}, strict=True),), {"tools": TOOLS[:1]})],
    "tool_choice": [Way(choice, {"tools": TOOLS}) for choice in ("none", "required", NamedTool("now"))],
    "parallel_tool_calls": [Way(False, {"tools": TOOLS})],
    "response_format": [Way(JsonFormat()), Way(JsonFormat(schema={"type": "object"}), {"tools": TOOLS})],
    "logprobs": [Way(True)],
    "top_logprobs": [Way(3, {"logprobs": True})],
    "logit_bias": [Way({"5": 3.0})],
    "reasoning_effort": [Way("none")],
    "chat_template_kwargs": [Way({"enable_thinking": True})],
}
REFUSED: dict[str, list[tuple[Any, str]]] = {
    "lora": [("l", "lora")],
    "messages": [((Message(role="user", content=(TextPart("a"), ImagePart("data:,"))),), "messages[0].content[1]")],
    "logit_bias": [({"999999": 1.0}, "logit_bias")],
    "chat_template_kwargs": [({"messages": []}, "chat_template_kwargs")],
}
TOLD: dict[str, list[tuple[Any, str]]] = {
    "reasoning_effort": [("high", "reasoning_effort=dropped"), ("none", "reasoning_effort=dropped")],
    "chat_template_kwargs": [({"enable_thinking": False}, "chat_template_kwargs.enable_thinking=ignored")],
    "messages": [
        ((Message(role="user", content="Hi", name="Ann"),), "messages[].name=dropped"),
        ((*ASKED.messages, *THOUGHT), "messages[].reasoning=dropped"),
    ],
    "max_tokens": [(10_000, "max_tokens=clamped")],
    "unsupported": [(("verbosity",), "verbosity=dropped")],
    "unknown": [(("frobnicate",), "frobnicate=ignored")],
}
"""Of a model whose template shows nothing but what the turns say."""
ELSEWHERE = {
    "model": "app.Model checks it",
    "stream": "how it is sent; played in tests/serving/test_app.py",
    "include_usage": "how it is sent; played in tests/serving/test_app.py",
    "legacy_functions": "how calls are written for the client",
    "affinity": "the relay chooses by it",
    "reject_if_busy": "the relay in front keeps count; tests/test_openai_compatible.py",
    "max_tokens_by_relay": "who has set the limit",
}


@pytest.fixture(scope="module")
def drafts() -> Iterator[dict[str, Drafts]]:
    made = {}
    for name, template in {"rich": CHATML, "plain": PLAIN}.items():
        backend = deepcopy(tokenizer("byte-level", ("<tool_call>", "</tool_call>")))
        backend.chat_template = template
        made[name] = Drafts(backend, vocabulary=len(backend), stop_ids=frozenset())
    yield made
    for each in made.values():
        each.close()


def test_no_field_is_forgotten() -> None:
    assert {*CHANGES_THE_ANSWER, *REFUSED, *TOLD, *ELSEWHERE} == set(ChatRequest.__struct_fields__)


async def seen(writer: Drafts, request: ChatRequest) -> tuple[Any, set[str]]:
    """What the engine was asked and what the client hears; and what it is told as changed."""
    ids = tokenizer("byte-level", ("<tool_call>", "</tool_call>"))(SAID)["input_ids"]
    said = [Step(Token(id, -1.0, ((id, -1.0),))) for id in ids]
    engine = PlayedEngine(*[[*said, Step(None, Finish("length", 7, 0, len(ids)))]] * request.n)
    engine.context = 1000
    service = ChatService(engine, writer, defaults={}, stop_ids=frozenset())
    answers, changes = await service.begin(request)
    asked = [(*job.job.prompt_ids, job.job.max_tokens, job.job.sampling, job.job.logprobs) for job in engine.jobs]
    return (asked, grammar_of(writer, request), await gathered(answers)), set(map(str, changes))


@pytest.mark.parametrize(
    ("field", "way"), [(field, way) for field, ways in CHANGES_THE_ANSWER.items() for way in ways], ids=str
)
async def test_a_field_makes_a_difference(drafts: dict[str, Drafts], field: str, way: Way) -> None:
    without = msgspec.structs.replace(ASKED, **way.beside)
    with_it = msgspec.structs.replace(without, **{field: way.value})
    (before, _), (after, changes) = await seen(drafts["rich"], without), await seen(drafts["rich"], with_it)
    assert before != after
    assert changes == set()


def grammar_of(writer: Drafts, request: ChatRequest) -> int:
    """The compiled grammar, of which equal ones are one."""
    turn = writer._prompts.render(request).turn
    return id(writer._grammars.grammar(request, turn))


@pytest.mark.parametrize(
    ("field", "value", "param"), [(field, *row) for field, rows in REFUSED.items() for row in rows], ids=str
)
async def test_what_cannot_be_done_is_refused(drafts: dict[str, Drafts], field: str, value: Any, param: str) -> None:
    with pytest.raises(RelayError) as caught:
        await seen(drafts["rich"], msgspec.structs.replace(ASKED, **{field: value}))
    assert caught.value.param == param and caught.value.fault.value.status == 400


@pytest.mark.parametrize(
    ("field", "value", "told"), [(field, *row) for field, rows in TOLD.items() for row in rows], ids=str
)
async def test_what_makes_no_difference_is_told(drafts: dict[str, Drafts], field: str, value: Any, told: str) -> None:
    _, changes = await seen(drafts["plain"], msgspec.structs.replace(ASKED, **{field: value}))
    assert changes == {told}


async def test_calls_of_earlier_turns_reach_the_model(drafts: dict[str, Drafts]) -> None:
    call = Message(role="assistant", tool_calls=(ToolCall("1", "now", '{"a": 1}'),))
    result = Message(role="tool", content="noon", tool_call_id="1")
    turns = (*ASKED.messages, call, result)
    (with_call, changes) = await seen(drafts["rich"], msgspec.structs.replace(ASKED, messages=turns))
    without, _ = await seen(drafts["rich"], ASKED)
    assert with_call != without and changes == set()
