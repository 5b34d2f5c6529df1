"""Grammars that are tried in a process of their own, and what becomes of that process."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import llguidance
import pytest

from adapters.local.serving import trial, trials
from adapters.local.serving.schemas import TOO_COMPLEX
from adapters.local.serving.trials import Trials
from tests.inference.with_torch.vocabularies import tokenizer

ENDLESS = {"allOf": [{"type": "string", "pattern": f"a{{{count}}}.*b"} for count in range(2, 40)]}


def grammar(schema: Any) -> str:
    return str(llguidance.LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False}))


@pytest.fixture
def tried() -> Iterator[Trials]:
    made = Trials(tokenizer().backend_tokenizer.to_str(), len(tokenizer()), [2])
    yield made
    made.close()


def pid(made: Trials) -> int:
    assert made._process is not None
    return made._process.pid


def test_one_process_tries_all_grammars_until_one_of_them_is_its_end(tried: Trials) -> None:
    assert tried.fault(grammar({"type": "object"})) == ""
    first = pid(tried)
    assert "not" in tried.fault(grammar({"not": {}}))
    assert pid(tried) == first
    assert tried.fault(grammar(ENDLESS)) == TOO_COMPLEX
    assert tried.fault(grammar({"type": "object"})) == ""
    assert pid(tried) != first


def test_a_process_that_was_ended_while_idle_is_nobody_s_fault(tried: Trials) -> None:
    assert tried.fault(grammar({})) == ""
    assert tried._process is not None
    tried._process.kill()
    tried._process.wait()
    assert tried.fault(grammar({})) == ""


def test_a_process_that_does_not_answer_is_ended(tried: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried.fault(grammar({})) == ""
    before = time.monotonic()
    monkeypatch.setattr(trials, "PATIENCE", 0.1)
    assert tried.fault(grammar(ENDLESS)) == TOO_COMPLEX
    assert time.monotonic() - before < trial.SECONDS


def test_a_process_that_cannot_begin_takes_nothing() -> None:
    broken = Trials("no tokenizer", 10, [2])
    assert broken.fault(grammar({})) == TOO_COMPLEX
    broken.close()


def test_it_may_be_closed_twice_and_without_ever_having_begun(tried: Trials) -> None:
    tried.close()
    tried.close()
    assert tried.fault(grammar({})) == ""


@pytest.fixture(scope="module")
def compiler() -> Any:
    return llguidance.LLTokenizer(tokenizer().backend_tokenizer.to_str(), n_vocab=len(tokenizer()), eos_token=[2])


FAULTS = {
    "none": ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, ""),
    "one of the compiler's": ({"not": {}}, "Unimplemented"),
    "nothing can be written": ({"$ref": "#"}, "NoExtension"),
    "a limit on the way": ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "Too many"),
}


@pytest.mark.parametrize(("schema", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_when_compiling_or_on_the_way(compiler: Any, schema: Any, message: str) -> None:
    found = trial.fault(compiler, grammar(schema))
    assert message in found
    assert bool(message) == bool(found)


def test_a_mask_that_takes_too_long_is_a_fault(compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SLOWEST_MASK", -1.0)
    assert trial.fault(compiler, grammar({})) == trial.SLOW


@pytest.mark.parametrize(("mask", "tokens"), [(0b1, {0}), (0b1000, {3}), (0b1010, {1, 3}), (0b1111, {0, 1, 2, 3})])
def test_any_allowed_token_may_be_tried_and_no_other(mask: int, tokens: set[int]) -> None:
    chance = random.Random(1)
    assert {trial._any(mask, 4, chance) for _ in range(100)} == tokens
