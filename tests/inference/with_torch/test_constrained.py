"""Grammars in the engine: random models write what was asked for, beside rows that are free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import hypothesis
import jsonschema
import pytest
import torch
import transformers

from adapters.canonical import ChatRequest, JsonFormat, Tool
from adapters.local.inference.errors import JobFailed
from adapters.local.inference.request import Job, Sampling, siblings
from adapters.local.serving.calls.hermes import HERMES
from adapters.local.serving.grammars import Grammar, Grammars
from adapters.local.serving.turns import Thought, TurnFormat
from tests.inference.with_torch.test_grammars import schemas
from tests.inference.with_torch.tiny import SHAPE, ids_of, read, running
from tests.inference.with_torch.vocabularies import tokenizer
from tests.inference.with_torch.writing import text_of

pytestmark = pytest.mark.anyio

SOURCE = tokenizer()
VOCABULARY = len(SOURCE) + 21
END = 2
PROMPT = SOURCE.encode("the quick brown fox", add_special_tokens=False)
FREE = Job(prompt_ids=PROMPT, max_tokens=60, sampling=Sampling(temperature=1.2, seed=5))
FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "size": {"type": "integer", "minimum": 0, "maximum": 999},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "size", "tags"],
    "additionalProperties": False,
}


@cache
def model() -> Any:
    torch.manual_seed(11)
    config = transformers.LlamaConfig(**{**SHAPE, "vocab_size": VOCABULARY, "max_position_embeddings": 1024})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    made = Grammars(SOURCE, VOCABULARY, frozenset({END}))
    yield made
    made.close()


def grammar(grammars: Grammars, turn: TurnFormat, **fields: Any) -> Grammar:
    made = grammars.grammar(ChatRequest(model="m", messages=(), **fields), turn)
    assert made is not None
    return made


def constrained(made: Grammar, seed: int) -> Job:
    return Job(
        prompt_ids=PROMPT,
        max_tokens=900,
        sampling=Sampling(temperature=1.5, seed=seed),
        stop_ids=frozenset({END}),
        constraint=made.constraint(),
    )


async def test_random_models_write_json_that_fits_and_free_rows_do_not_notice(grammars: Grammars) -> None:
    made = grammar(grammars, TurnFormat(), response_format=JsonFormat(schema=FORM))
    async with running(model(), rows=8) as engine:
        alone = await ids_of(engine, FREE)
        streams = [engine.submit(job) for seed in range(6) for job in (constrained(made, seed), FREE)]
        answers = [await read(stream) for stream in streams]
    texts = set()
    for tokens, finish in answers[::2]:
        assert finish.reason == "stop"
        texts.add(text := text_of(SOURCE, [token.id for token in tokens]))
        jsonschema.validate(json.loads(text), FORM)
    assert len(texts) > 1
    assert [[token.id for token in tokens] for tokens, _ in answers[1::2]] == [alone] * 6


async def test_a_seeded_answer_under_a_grammar_is_the_same_alone_and_among_siblings(grammars: Grammars) -> None:
    made = grammar(grammars, TurnFormat(), response_format=JsonFormat(schema=FORM))
    async with running(model(), rows=4) as engine:
        alone = [await ids_of(engine, constrained(made, seed)) for seed in (3, 4)]
        job = constrained(made, 3)
        streams = engine.submit_all(siblings(job, 2, [made.constraint(), made.constraint()]))
        together = [[token.id for token in (await read(stream))[0]] for stream in streams]
    assert together == alone


async def test_forced_calls_are_calls_after_a_thought_of_any_length(grammars: Grammars) -> None:
    tools = (Tool(name="order", parameters=FORM),)
    turn = TurnFormat(calls=HERMES, tools=tools, thought=Thought("<think>", "</think>"), thinking=True)
    made = grammar(grammars, turn, tools=tools, tool_choice="required", parallel_tool_calls=False)
    [close] = SOURCE.encode("</think>", add_special_tokens=False)
    thoughts = set()
    async with running(model(), rows=4, context=1024) as engine:
        for seed in range(4):
            job = constrained(made, seed)
            job = replace(job, sampling=replace(job.sampling, logit_bias={close: 3.0}))
            tokens, finish = await read(engine.submit(job))
            assert finish.reason == "stop"
            parser = turn.parser()
            deltas = [*parser.feed(text_of(SOURCE, [token.id for token in tokens])), *parser.end()]
            thoughts.add("".join(delta.reasoning for delta in deltas))
            assert [piece.name for delta in deltas for piece in delta.tool_calls if piece.name] == ["order"]
            arguments = "".join(piece.arguments for delta in deltas for piece in delta.tool_calls)
            jsonschema.validate(json.loads(arguments), FORM)
    assert len(thoughts) > 1


async def test_an_answer_may_end_with_the_end_token_where_it_could_go_on(grammars: Grammars) -> None:
    made = grammar(grammars, TurnFormat(), response_format=JsonFormat(schema={"type": "integer"}))
    job = constrained(made, 1)
    async with running(model()) as engine:
        tokens, finish = await read(engine.submit(replace(job, sampling=replace(job.sampling, logit_bias={END: 50.0}))))
    assert finish.reason == "stop"
    assert tokens[-1].id == END
    assert str(int(text_of(SOURCE, [token.id for token in tokens])))


async def test_a_grammar_that_fails_fails_its_own_answer_alone(grammars: Grammars) -> None:
    made = grammar(grammars, TurnFormat(), response_format=JsonFormat(schema=FORM))
    failing = constrained(made, 1)
    assert failing.constraint is not None
    with pytest.raises(Exception, match="^$"):
        failing.constraint.advance(END + 10)
    async with running(model()) as engine:
        alone = await ids_of(engine, FREE)
        streams = [engine.submit(job) for job in (failing, FREE)]
        (_, failed), (tokens, _) = [await read(stream) for stream in streams]
    assert isinstance(failed.error, JobFailed)
    assert str(failed.error) == "the constraint failed: GrammarFailed"
    assert [token.id for token in tokens] == alone


@hypothesis.given(schema=schemas())
@hypothesis.settings(max_examples=25, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
async def test_whatever_the_schema_random_models_keep_to_it(grammars: Grammars, schema: dict[str, Any]) -> None:
    made = grammar(grammars, TurnFormat(), response_format=JsonFormat(schema=schema))
    async with running(model(), context=1024) as engine:
        streams = [engine.submit(constrained(made, seed)) for seed in range(3)]
        answers = [await read(stream) for stream in streams]
    for tokens, finish in answers:
        assert finish.reason in ("stop", "length")
        if finish.reason == "stop":
            jsonschema.validate(json.loads(text_of(SOURCE, [token.id for token in tokens])), schema)
    assert any(finish.reason == "stop" for _, finish in answers)
