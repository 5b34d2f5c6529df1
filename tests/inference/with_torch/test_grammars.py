"""Grammars of answers: what they allow, what they refuse, and what cannot be a grammar."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jsonschema
import pytest

from adapters.canonical import ChatRequest, JsonFormat, NamedTool, Tool
from adapters.errors import InvalidRequest
from adapters.local.serving.calls.deepseek import DEEPSEEK, DEEPSEEK_FENCED
from adapters.local.serving.calls.gemma import GEMMA
from adapters.local.serving.calls.glm import GLM_LINE, GLM_TAGS
from adapters.local.serving.calls.harmony import HARMONY
from adapters.local.serving.calls.hermes import HERMES
from adapters.local.serving.calls.llama import LLAMA
from adapters.local.serving.calls.mistral import MISTRAL_LIST, MISTRAL_NAMED
from adapters.local.serving.calls.phi import PHI
from adapters.local.serving.calls.qwen_tags import QWEN_TAGS
from adapters.local.serving.calls.syntax import CallSyntax
from adapters.local.serving.grammars import GrammarFailed, Grammars
from adapters.local.serving.schemas import ASSERTIONS
from adapters.local.serving.turns import Thought, TurnFormat
from tests.inference.with_torch.vocabularies import KINDS, tokenizer
from tests.inference.with_torch.writing import allowed, follows, text_of, write

END = 2
MORE = 21
"""Numbers that the model has beyond its tokenizer's tokens."""
POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "label": {"type": "string", "maxLength": 3}},
    "required": ["x"],
    "additionalProperties": False,
}
ANY = TurnFormat()
THINKS = Thought("<think>", "</think>")
WITHIN = Thought("[THOUGHT]", "[/THOUGHT]")
"""Text, not tokens."""


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    made = Grammars(tokenizer(), len(tokenizer()) + MORE, frozenset({END, 1}))
    yield made
    made.close()


def asked(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(), **fields)


def wanting(schema: dict[str, Any] | None, **fields: Any) -> ChatRequest:
    return asked(response_format=JsonFormat(schema=schema), **fields)


def tool(name: str = "plot", parameters: dict[str, Any] | None = None, strict: bool | None = None) -> Tool:
    return Tool(name=name, parameters=POINT if parameters is None else parameters, strict=strict)


def outcome(grammars: Grammars, request: ChatRequest, turn: TurnFormat, text: str) -> bool | None:
    grammar = grammars.grammar(request, turn)
    assert grammar is not None
    return follows(grammar.constraint(), tokenizer(), text)


def fault(grammars: Grammars, request: ChatRequest, turn: TurnFormat = ANY) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        grammars.grammar(request, turn)
    return caught.value


# -------------------------------------------------------------------- documents

DOCUMENTS: dict[str, tuple[dict[str, Any] | None, TurnFormat, str, bool | None]] = {
    "an object": (POINT, ANY, '{"x": 1, "label": "a"}', True),
    "without blanks": (POINT, ANY, '{"x":1}', True),
    "cut off": (POINT, ANY, '{"x": 1', None),
    "a property too many": (POINT, ANY, '{"x": 1, "y"', False),
    "a string too long": (POINT, ANY, '{"x": 1, "label": "abcd', False),
    "line breaks": (POINT, ANY, '{\n  "x"', False),
    "text before": (POINT, ANY, 'Here: {"x": 1}', False),
    "text behind": (POINT, ANY, '{"x": 1} is it', True),  # it was complete before
    "any object": (None, ANY, '{"a": [1, {"b": null}]}', True),
    "no object": (None, ANY, "[1]", False),
    "after a thought": (POINT, TurnFormat(thought=THINKS), '<think>\nHm, {"y": 1}?\n</think>\n\n{"x": 1}', True),
    "without a thought": (POINT, TurnFormat(thought=THINKS), '{"x": 1}', True),
    "in a thought that is open": (POINT, TurnFormat(thought=THINKS, thinking=True), 'Hm. {"x": 1}', None),
    "behind it": (POINT, TurnFormat(thought=THINKS, thinking=True), 'Hm.</think>{"x": 1}', True),
    "a thought that is text": (POINT, TurnFormat(thought=WITHIN), '[THOUGHT]Hm[/THOUGHT]\n{"x": 1}', True),
    "a second thought": (POINT, TurnFormat(thought=WITHIN), "[THOUGHT]Hm[/THOUGHT]\n[THOUGHT]", False),
    "harmony": (POINT, TurnFormat(harmony=True), '<|channel|>final<|message|>{"x": 1}', True),
    "harmony after analysis": (
        POINT,
        TurnFormat(harmony=True),
        '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{"x": 1}',
        True,
    ),
}


@pytest.mark.parametrize(("schema", "turn", "text", "follows"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_is_the_json_that_was_asked_for(
    grammars: Grammars, schema: dict[str, Any] | None, turn: TurnFormat, text: str, follows: bool | None
) -> None:
    assert outcome(grammars, wanting(schema), turn, text) is follows


def test_an_answer_that_nothing_was_asked_of_is_free(grammars: Grammars) -> None:
    assert grammars.grammar(asked(tools=(tool(),), tool_choice="none"), ANY) is None


@st.composite
def schemas(draw: Any, depth: int = 2) -> dict[str, Any]:
    """Small schemas that something fits."""
    kinds = ["integer", "number", "string", "boolean", "null", "enum"] + ["array", "object", "anyOf"] * (depth > 0)
    kind = draw(st.sampled_from(kinds))
    inner = schemas(depth=depth - 1)
    if kind == "enum":
        return {"enum": draw(st.lists(st.none() | st.integers(-9, 99) | st.text(max_size=4), min_size=1, unique=True))}
    if kind == "anyOf":
        return {"anyOf": draw(st.lists(inner, min_size=1, max_size=3))}
    if kind == "array":
        least = draw(st.integers(0, 2))
        return {"type": "array", "items": draw(inner), "minItems": least, "maxItems": least + draw(st.integers(0, 2))}
    if kind == "object":
        properties = draw(st.dictionaries(st.text("ab_\u00e9 ", min_size=1, max_size=4), inner, max_size=3))
        required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    bounds: dict[str, Any] = {}
    if kind == "integer":
        bounds = draw(st.sampled_from([{}, {"minimum": -3, "maximum": 12}, {"exclusiveMinimum": 0}]))
    if kind == "string":
        bounds = draw(st.sampled_from([{"maxLength": 5}, {"pattern": "^[a-c]{1,3}$"}, {"format": "date"}]))
    return {"type": kind, **bounds}


@hypothesis.given(schema=schemas(), seed=st.integers(0, 2**32))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_is_written_fits_the_schema(grammars: Grammars, schema: dict[str, Any], seed: int) -> None:
    grammar = grammars.grammar(wanting(schema), ANY)
    assert grammar is not None
    text = text_of(tokenizer(), write(grammar.constraint(), tokenizer(), seed=seed))
    jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("byte")])
def test_what_is_written_is_json_whatever_the_tokenizer(kind: str) -> None:
    source = tokenizer(kind)
    made = Grammars(source, len(source), frozenset({END}))
    try:
        grammar = made.grammar(wanting(POINT), ANY)
        assert grammar is not None
        for seed in range(5):
            jsonschema.validate(json.loads(text_of(source, write(grammar.constraint(), source, seed=seed))), POINT)
    finally:
        made.close()


# -------------------------------------------------------------------- masks


def test_an_answer_may_end_with_any_end_token_once_it_is_complete(grammars: Grammars) -> None:
    grammar = grammars.grammar(wanting({"type": "integer"}), ANY)
    assert grammar is not None
    constraint = grammar.constraint()
    assert not {1, END} & allowed(constraint)
    [one] = tokenizer().encode("1", add_special_tokens=False)
    assert constraint.advance(one) is False
    assert {1, END, one} <= allowed(constraint)


def test_each_answer_has_a_state_and_a_mask_of_its_own(grammars: Grammars) -> None:
    grammar = grammars.grammar(wanting(POINT), ANY)
    assert grammar is not None
    one, other = grammar.constraint(), grammar.constraint()
    before = other.mask().copy()
    assert follows(one, tokenizer(), '{"x": 1') is None
    assert (other.mask() == before).all()
    assert one.mask() is one.mask()
    assert len(one.mask()) == (len(tokenizer()) + MORE + 31) // 32


def test_a_model_with_fewer_numbers_than_its_tokenizer_gets_masks_of_its_size() -> None:
    made = Grammars(tokenizer(), 300, frozenset())
    try:
        grammar = made.grammar(wanting(None), ANY)
        assert grammar is not None
        assert len(grammar.constraint().mask()) == 10
        assert follows(grammar.constraint(), tokenizer(), "{}") is True
    finally:
        made.close()


def test_a_token_that_is_not_allowed_fails_the_answer_and_says_nothing_of_it(grammars: Grammars) -> None:
    grammar = grammars.grammar(wanting(POINT), ANY)
    assert grammar is not None
    constraint = grammar.constraint()
    with pytest.raises(GrammarFailed) as caught:
        constraint.advance(tokenizer().encode("x", add_special_tokens=False)[0])
    assert str(caught.value) == ""
    with pytest.raises(GrammarFailed):
        constraint.mask()


def test_an_answer_whose_masks_take_too_long_fails(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = grammars.grammar(wanting(POINT), ANY)
    assert grammar is not None
    now = iter([0.0, 0.9, 1.0, 1.9, 2.0, 2.1, 3.0, 3.5, 4.0, 4.5])
    monkeypatch.setattr(time, "thread_time", lambda: next(now))
    constraint, other = grammar.constraint(), grammar.constraint()
    constraint.mask()
    constraint.mask()
    constraint.mask()  # 1.9 of 2.03 seconds
    with pytest.raises(GrammarFailed):
        constraint.mask()
    other.mask()


def test_a_grammar_is_compiled_once_for_equal_requests(grammars: Grammars) -> None:
    assert grammars.grammar(wanting(POINT), ANY) is grammars.grammar(wanting(dict(POINT)), ANY)
    assert grammars.grammar(wanting(POINT), ANY) is not grammars.grammar(wanting(None), ANY)


# -------------------------------------------------------------------- calls

CALL = '<tool_call>\n{"name": "plot", "arguments": {"x": 1}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "wait", "arguments": {"any": [1, {}]}}\n</tool_call>'
TWO = (tool(), tool("wait", {}))
LLAMAS = '{"name": "plot", "parameters": {"x": 1}}'
MISTRALS = '[TOOL_CALLS] [{"name": "plot", "arguments": {"x": 1}}]'

REQUIRED: dict[str, Any] = {"tool_choice": "required"}
CALLS: dict[str, tuple[dict[str, Any], TurnFormat, str, bool | None]] = {
    "a call": (REQUIRED, TurnFormat(calls=HERMES), CALL, True),
    "of another tool": (REQUIRED, TurnFormat(calls=HERMES), OTHER, True),
    "two of them": (REQUIRED, TurnFormat(calls=HERMES), f"{CALL}\n{OTHER}", True),
    "text instead": (REQUIRED, TurnFormat(calls=HERMES), "Well", False),
    "a tool there is not": (REQUIRED, TurnFormat(calls=HERMES), CALL.replace("plot", "pull"), False),
    "arguments that do not fit": (REQUIRED, TurnFormat(calls=HERMES), CALL.replace("1", '"1"'), False),
    "arguments that are no object": ({}, TurnFormat(calls=HERMES), OTHER.replace('{"any": [1, {}]}', "1"), False),
    "a call after a thought": (
        REQUIRED,
        TurnFormat(calls=HERMES, thought=THINKS, thinking=True),
        f"Hm.</think>\n\n{CALL}",
        True,
    ),
    "one and no more": ({**REQUIRED, "parallel_tool_calls": False}, TurnFormat(calls=HERMES), f"{CALL}\n<", True),
    "the tool that was named": ({"tool_choice": NamedTool("plot")}, TurnFormat(calls=HERMES), CALL, True),
    "not the one that was named": ({"tool_choice": NamedTool("wait")}, TurnFormat(calls=HERMES), CALL, False),
    "free: text": ({}, TurnFormat(calls=HERMES), 'Well, {"name": 1', True),
    "free: nothing": ({}, TurnFormat(calls=HERMES), "", True),
    "free: a call": ({}, TurnFormat(calls=HERMES), CALL, True),
    "free: a call after text": ({}, TurnFormat(calls=HERMES), f"Well.\n{CALL}", True),
    "free: calls and text": ({}, TurnFormat(calls=HERMES), f"a{CALL}b{OTHER}c", True),
    "free: a call that does not fit": ({}, TurnFormat(calls=HERMES), f"Well.{CALL[:-30]}{{", False),
    "free: a tool there is not": ({}, TurnFormat(calls=HERMES), CALL.replace("plot", "pull"), False),
    "free: a call and another": ({"parallel_tool_calls": False}, TurnFormat(calls=HERMES), f"a{CALL}b{CALL}", False),
    "free: a call and text": ({"parallel_tool_calls": False}, TurnFormat(calls=HERMES), f"a{CALL}b", True),
    "free: a thought and a call": ({}, TurnFormat(calls=HERMES, thought=THINKS), f"<think>Hm</think>{CALL}", True),
    "without a marker: a call": (REQUIRED, TurnFormat(calls=LLAMA), LLAMAS, True),
    "without a marker: two": (REQUIRED, TurnFormat(calls=LLAMA), f"{LLAMAS}; {LLAMAS}", True),
    "free, without a marker: a call": ({}, TurnFormat(calls=LLAMA), LLAMAS, True),
    "free, without a marker: text": ({}, TurnFormat(calls=LLAMA), f"Well. {LLAMAS}", True),
    "free, without a marker: other JSON": ({}, TurnFormat(calls=LLAMA), '{"names": 1}', True),
    "free, without a marker: a wrong call": ({}, TurnFormat(calls=LLAMA), LLAMAS.replace("plot", "pull"), False),
    "free, on a line": ({}, TurnFormat(calls=GLM_LINE), 'plot\n{"x": 1}', True),
    "free, on a line, wrong": ({}, TurnFormat(calls=GLM_LINE), 'plot\n{"y"', False),
    "free, on a line: text": ({}, TurnFormat(calls=GLM_LINE), "plotting is fun", True),
    "free, with a marker that is text: a call": ({}, TurnFormat(calls=MISTRAL_LIST), f"Well.{MISTRALS}", True),
    "free, with a marker that is text: text": ({}, TurnFormat(calls=MISTRAL_LIST), "Well. [TOOL_CALL", True),
    "free, with a marker that is text: wrong": (
        {},
        TurnFormat(calls=MISTRAL_LIST),
        f"Well.{MISTRALS.replace('plot', 'pull')}",
        False,
    ),
    "harmony": (
        REQUIRED,
        TurnFormat(calls=HARMONY, harmony=True),
        '<|channel|>commentary to=functions.plot <|constrain|>json<|message|>{"x": 1}<|call|>',
        True,
    ),
    "free, harmony: text": ({}, TurnFormat(calls=HARMONY, harmony=True), "<|channel|>final<|message|>Well", True),
    "free, harmony: wrong": (
        {},
        TurnFormat(calls=HARMONY, harmony=True),
        "<|channel|>commentary to=functions.x",
        False,
    ),
    "a document or a call: a call": ({"response_format": JsonFormat()}, TurnFormat(calls=HERMES), CALL, True),
    "a document or a call: a document": ({"response_format": JsonFormat()}, TurnFormat(calls=HERMES), "{}", True),
    "a document or a call: text": ({"response_format": JsonFormat()}, TurnFormat(calls=HERMES), "a", False),
    "a forced call beside a document": (
        {**REQUIRED, "response_format": JsonFormat()},
        TurnFormat(calls=HERMES),
        "{}",
        False,
    ),
}


@pytest.mark.parametrize(("fields", "turn", "text", "follows"), CALLS.values(), ids=CALLS)
def test_calls_are_of_tools_that_were_offered_with_arguments_that_fit(
    grammars: Grammars, fields: dict[str, Any], turn: TurnFormat, text: str, follows: bool | None
) -> None:
    assert outcome(grammars, asked(tools=TWO, **fields), turn, text) is follows


# -------------------------------------------------------------------- every family's way of writing

SYNTAXES = [
    DEEPSEEK,
    DEEPSEEK_FENCED,
    GEMMA,
    GLM_LINE,
    GLM_TAGS,
    HARMONY,
    HERMES,
    LLAMA,
    MISTRAL_LIST,
    MISTRAL_NAMED,
    PHI,
    QWEN_TAGS,
]
TRIP: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["km", "mile"]},
        "days": {"type": "integer"},
        "far": {"type": ["boolean", "null"]},
        "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}},
        "by": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"enum": [1, 2.5, None, True]},
        "never": False,
        "box": {"properties": {"w": {"type": "integer"}, "h": {"type": ["integer", "null"]}}, "required": ["w"]},
        "names": {"items": {"type": "string"}},
    },
    "required": ["city", "days", "far"],
    "additionalProperties": False,
    "$defs": {
        "stop": {
            "type": "object",
            "properties": {"at": {"type": "integer"}, "then": {"$ref": "#/$defs/stop"}},
            "required": ["at"],
            "additionalProperties": False,
        }
    },
}
TAILS = ("</parameter>", "</arg_value>", '<|"|>')


def turn_of(syntax: CallSyntax, source: Any, tools: tuple[Tool, ...]) -> TurnFormat:
    kept = {id for id, token in source.added_tokens_decoder.items() if token.content in syntax.markers}
    return TurnFormat(calls=syntax, tools=tools, harmony=syntax is HARMONY, marker_ids=frozenset(kept))


def called(turn: TurnFormat, text: str) -> list[tuple[str, str]]:
    """Names and arguments of the calls in a text."""
    parser = turn.parser()
    names: list[str] = []
    arguments: list[str] = []
    for delta in [*parser.feed(text), *parser.end()]:
        for piece in delta.tool_calls:
            if piece.name:
                names.append(piece.name)
                arguments.append("")
            arguments[piece.index] += piece.arguments
    return list(zip(names, arguments, strict=True))


@pytest.mark.parametrize(
    ("syntax", "as_tokens"),
    # Harmony's markers are tokens: in a string their text would end the call.
    [(syntax, as_tokens) for syntax in SYNTAXES for as_tokens in (True, False) if as_tokens or syntax is not HARMONY],
    ids=lambda value: value.name if isinstance(value, CallSyntax) else "tokens" if value else "text",
)
def test_forced_calls_are_read_as_calls_with_arguments_that_fit(syntax: CallSyntax, as_tokens: bool) -> None:
    source = tokenizer(special=syntax.markers if as_tokens else ("<unused>",))
    tools = (tool("travel", TRIP), tool("wait", {}))
    turn = turn_of(syntax, source, tools)
    made = Grammars(source, len(source), frozenset({END}))
    try:
        grammar = made.grammar(asked(tools=tools, tool_choice="required"), turn)
        assert grammar is not None
        seen = set()
        for seed in range(12):
            ids = write(grammar.constraint(), source, seed=seed, phrases=syntax.markers + TAILS)
            text = text_of(source, ids, turn.marker_ids)
            calls = called(turn, text)
            assert calls
            for name, arguments in calls:
                seen.add(name)
                jsonschema.validate(json.loads(arguments), TRIP if name == "travel" else {"type": "object"})
        assert seen == {"travel", "wait"}
    finally:
        made.close()


# -------------------------------------------------------------------- what cannot be enforced

UNENFORCEABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a keyword that is not supported": ({"not": {"const": "secret"}}, "'not' cannot be enforced"),
    "several of them": ({"uniqueItems": True, "contains": {}}, "cannot be enforced"),
    "an unknown format": ({"type": "string", "format": "secret"}, "'format'"),
    "options that may overlap": ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, "'oneOf'"),
    "nothing that fits": ({"type": "integer", "minimum": 3, "maximum": 1}, "no value"),
    "look-ahead": ({"type": "string", "pattern": "(?=secret)"}, "'pattern'"),
    "a reference to nothing": ({"$ref": "#/$defs/secret"}, "'$ref'"),
    "a reference to elsewhere": ({"$ref": "http://127.0.0.1/secret"}, "'$ref'"),
    "a reference to itself": ({"allOf": [{"$ref": "#"}, {"type": "object"}]}, "'$ref'"),
    "an unknown type": ({"type": "secret"}, "'type'"),
    "no schema at all": ({"properties": ["secret"]}, "cannot be enforced"),
    "a multiple that is no number": ({"type": "number", "multipleOf": 0}, "'multipleOf'"),
    "a string of many repetitions": ({"type": "string", "pattern": "^(secret{1000}){1000}$"}, "too complex"),
    "an intersection that is not found in time": (
        {"allOf": [{"type": "string", "pattern": f"a{{{count}}}.*b"} for count in range(2, 40)]},
        "too complex",
    ),
    "many values": ({"enum": [f"secret {number}" for number in range(40_000)]}, "larger than"),
}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(("schema", "reason"), UNENFORCEABLE.values(), ids=UNENFORCEABLE)
def test_a_schema_that_cannot_be_enforced_is_refused_with_a_reason_that_quotes_nothing(
    grammars: Grammars, schema: dict[str, Any], reason: str
) -> None:
    refusal = fault(grammars, wanting(schema))
    assert reason in refusal.message
    assert "secret" not in refusal.message
    assert refusal.param == "response_format.json_schema.schema"
    assert fault(grammars, wanting(schema)).message == refusal.message


@pytest.mark.parametrize("depth", [100, 10_000])
def test_a_schema_that_is_nested_too_deeply_is_refused(grammars: Grammars, depth: int) -> None:
    assert "deeper than" in fault(grammars, wanting(nested(depth))).message


HARMLESS: dict[str, dict[str, Any]] = {
    "deep": nested(99),
    "long enumerations": {"enum": [f"value {number}" for number in range(5000)]},
    "many properties": {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(1000)}},
    "long strings": {"type": "string", "maxLength": 100_000},
    "long arrays": {"type": "array", "items": {"type": "integer"}, "maxItems": 100_000},
    "long patterns": {"type": "string", "pattern": "^" + ".*a" * 100 + "$"},
    "a tree": {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
    "what only describes": {"title": "T", "description": "D", "default": 1, "examples": [2], "x-own": {}, "$id": "u:x"},
}


@pytest.mark.parametrize("schema", HARMLESS.values(), ids=HARMLESS)
def test_a_schema_that_is_only_large_is_taken(grammars: Grammars, schema: dict[str, Any]) -> None:
    grammar = grammars.grammar(wanting(schema), ANY)
    assert grammar is not None
    assert allowed(grammar.constraint())


def test_a_schema_has_no_say_in_how_it_is_compiled(grammars: Grammars) -> None:
    assert "'not'" in fault(grammars, wanting({"not": {}, "x-guidance": {"lenient": True}})).message


LOOSE = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"not": {}}}, "required": ["x"]}
BROKEN = {"type": "object", "properties": {"x": {"$ref": "#/nowhere"}}}


@pytest.mark.parametrize("fields", [{"tool_choice": "required"}, {"tool_choice": NamedTool("second")}])
def test_a_forced_tool_whose_parameters_cannot_be_enforced_is_refused(
    grammars: Grammars, fields: dict[str, Any]
) -> None:
    refusal = fault(grammars, asked(tools=(tool(), tool("second", LOOSE)), **fields), TurnFormat(calls=HERMES))
    assert refusal.param == "tools[1].function.parameters"
    assert "'not' cannot be enforced" in refusal.message


def test_a_strict_tool_is_enforced_though_nothing_forces_a_call(grammars: Grammars) -> None:
    strict = asked(tools=(tool("first", LOOSE, strict=True),))
    assert fault(grammars, strict, TurnFormat(calls=HERMES)).param == "tools[0].function.parameters"


NOTATIONS: dict[str, tuple[CallSyntax, Any, str]] = {
    "tags: a pattern": (QWEN_TAGS, {"type": "string", "pattern": "a"}, "'pattern' cannot be enforced in the way"),
    "tags: strings and others": (GLM_TAGS, {"type": ["string", "integer"]}, "'type' of strings and others"),
    "tags: what no notation has": (GLM_TAGS, {"not": {}}, "'not' cannot be enforced"),
    "gemma: a pattern": (GEMMA, {"type": "string", "pattern": "a"}, "'pattern' cannot be enforced in the way"),
    "gemma: several keywords": (GEMMA, {"anyOf": [{}], "type": "string"}, "'type' cannot be enforced in the way"),
    "gemma: a value with parts": (GEMMA, {"enum": [{"a": 1}]}, "an object or an array in an 'enum'"),
    "gemma: a name with marks": (GEMMA, {"properties": {"a{": {}}}, "a property whose name"),
    "gemma: a reference into a list": (
        GEMMA,
        {"anyOf": [{"type": "null"}, {"$ref": "#/properties/x/anyOf/0"}]},
        "'$ref'",
    ),
}


@pytest.mark.parametrize(("syntax", "parameter", "reason"), NOTATIONS.values(), ids=NOTATIONS)
def test_what_a_notation_of_calls_cannot_express_is_refused_or_passed_over(
    grammars: Grammars, syntax: CallSyntax, parameter: Any, reason: str
) -> None:
    parameters = {"type": "object", "properties": {"x": parameter}, "required": ["x"]}
    forced = {"tool_choice": "required"}
    refusal = fault(grammars, asked(tools=(tool("plot", parameters),), **forced), TurnFormat(calls=syntax))
    assert reason in refusal.message
    assert refusal.param == "tools[0].function.parameters"
    loose = (tool("plot", parameters, strict=False),)
    assert grammars.grammar(asked(tools=loose, **forced), TurnFormat(calls=syntax)) is not None


@st.composite
def nonsense(draw: Any, depth: int = 3) -> Any:
    """What may be sent in place of a schema."""
    inner = nonsense(depth - 1) if depth else st.none()
    plain = st.none() | st.booleans() | st.integers(-1, 9) | st.sampled_from(["string", "a", "", "#", "#/$defs/a"])
    keywords = st.sampled_from(sorted(ASSERTIONS | {"$defs", "$id", "a"}))
    return draw(plain | st.lists(inner, max_size=3) | st.dictionaries(keywords, inner, max_size=4))


@pytest.mark.parametrize("syntax", [HERMES, QWEN_TAGS, GEMMA], ids=lambda syntax: syntax.name)
@hypothesis.given(parameters=nonsense().filter(lambda value: isinstance(value, dict)), strict=st.booleans())
@hypothesis.settings(max_examples=50, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_as_a_schema_is_followed_or_refused(
    grammars: Grammars, syntax: CallSyntax, parameters: Any, strict: bool
) -> None:
    request = asked(tools=(tool("plot", parameters, strict=strict),), tool_choice="required")
    try:
        grammar = grammars.grammar(request, TurnFormat(calls=syntax))
    except InvalidRequest as exc:
        assert strict
        assert exc.param == "tools[0].function.parameters"
    else:
        assert grammar is not None
        assert allowed(grammar.constraint())


@pytest.mark.parametrize("fields", [{}, {"tool_choice": "required"}], ids=["free", "forced"])
@pytest.mark.parametrize(
    ("parameters", "arguments", "follows"),
    [
        (LOOSE, '{"x": 1, "y": 2}', True),
        (LOOSE, '{"x": "1"', False),
        (BROKEN, '{"x": "1"}', True),
        (BROKEN, "1", False),
    ],
    ids=["fits", "does not fit what can be enforced", "a schema of no use", "no object"],
)
def test_a_tool_that_is_not_strict_is_followed_as_far_as_possible(
    grammars: Grammars, fields: dict[str, Any], parameters: dict[str, Any], arguments: str, follows: bool
) -> None:
    tools = (tool("plot", parameters, strict=False),)
    text = CALL.replace('{"x": 1}', arguments)
    assert outcome(grammars, asked(tools=tools, **fields), TurnFormat(calls=HERMES), text) is follows


NAMES = {
    "a quote": ('a"b', False),
    "a line break": ("a\nb", False),
    "a blank": ("a b", False),
    "a marker": ("<tool_call>", False),
    "very long": ("a" * 129, False),
    "as servers of tools have them": ("mcp:files/read-all.v2", True),
    "letters of any language": ("wetter_für_日", True),
}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("name", "is_fine"), NAMES.values(), ids=NAMES)
def test_a_tool_whose_name_would_not_be_read_again_is_refused(
    grammars: Grammars, syntax: CallSyntax, name: str, is_fine: bool
) -> None:
    turn = TurnFormat(calls=syntax, tools=(tool("fine", {}), tool(name, {})), harmony=syntax is HARMONY)
    request = asked(tools=turn.tools, tool_choice="required")
    if not is_fine:
        assert fault(grammars, request, turn).param == "tools[1].function.name"
        return
    written = syntax.opening + syntax.head + name + syntax.middle + "{}" + syntax.tail + syntax.closing
    if syntax.arguments == "tags":
        written = written.replace("{}", "")
    parser = turn.parser()
    (call, *_) = [piece for delta in (*parser.feed(written), *parser.end()) for piece in delta.tool_calls]
    assert call.name == name


UNWRITABLE = {
    "a key with a tag's end": (QWEN_TAGS, {"a>b": {}}),
    "a key of blanks": (GLM_TAGS, {" ": {}}),
    "a key with a blank at its end": (GLM_TAGS, {"a ": {}}),
    "a word with a tag": (QWEN_TAGS, {"a": {"type": "string", "enum": ["x</parameter>y"]}}),
    "a word with a quote": (GEMMA, {"a": {"enum": ['x<|"|>y']}}),
}


@pytest.mark.parametrize(("syntax", "properties"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_schema_with_what_ends_a_key_or_a_value_is_refused(
    grammars: Grammars, syntax: CallSyntax, properties: dict[str, Any]
) -> None:
    parameters = {"type": "object", "properties": properties}
    turn = TurnFormat(calls=syntax)
    refusal = fault(grammars, asked(tools=(tool("f", parameters, strict=True),)), turn)
    assert refusal.param == "tools[0].function.parameters"
    assert grammars.grammar(asked(tools=(tool("f", parameters),)), turn) is not None, "not strict, it is passed over"


def test_a_tool_that_is_named_and_not_there_is_refused(grammars: Grammars) -> None:
    request = asked(tools=(tool(),), tool_choice=NamedTool("other"))
    assert fault(grammars, request, TurnFormat(calls=HERMES)).param == "tool_choice"


def test_tools_that_are_fine_alone_can_be_too_much_together(grammars: Grammars) -> None:
    large = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(500)}}
    tools = tuple(tool(f"tool{number}", {**large, "title": str(number)}) for number in range(40))
    refusal = fault(grammars, asked(tools=tools, tool_choice="required"), TurnFormat(calls=HERMES))
    assert refusal.param == "tools"
    assert "too complex" in refusal.message


def test_a_tokenizer_that_grammars_are_not_made_for_is_refused_only_where_one_is_needed() -> None:
    source = tokenizer("word pieces")
    made = Grammars(source, len(source), frozenset({END}))
    assert made.grammar(asked(), ANY) is None
    assert fault(made, wanting(None)).param == "response_format"
    assert fault(made, asked(tools=(tool(),)), TurnFormat(calls=HERMES)).code == "unsupported_parameter"
    made.close()
