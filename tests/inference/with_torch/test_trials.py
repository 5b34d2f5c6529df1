"""Grammars that are tried in a process of their own, and what becomes of that process."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llguidance
import pytest

from adapters.errors import Fault, RelayError
from adapters.local.serving import trial, trials
from adapters.local.serving.schemas import TOO_COMPLEX
from adapters.local.serving.trials import THOROUGH, Trials
from tests.inference.with_torch.vocabularies import tokenizer

ENDLESS = {"allOf": [{"type": "string", "pattern": f"a{{{count}}}.*b"} for count in range(2, 40)]}


def grammar(schema: Any) -> str:
    return str(llguidance.LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False}))


@pytest.fixture
def tried() -> Iterator[Trials]:
    made = Trials(tokenizer().backend_tokenizer.to_str(), len(tokenizer()), [2])
    yield made
    made.close()


def process(made: Trials, lane: int = 0) -> Any:
    return made._lanes[lane]._process


def test_one_process_tries_all_grammars_and_outlives_those_that_never_end(tried: Trials) -> None:
    assert tried.fault(grammar({"type": "object"})) == ""
    first = process(tried).pid
    assert "not" in tried.fault(grammar({"not": {}}))
    assert tried.fault(grammar(ENDLESS)) == TOO_COMPLEX
    assert tried.fault(grammar({"type": "object"})) == ""
    assert process(tried).pid == first


def test_a_grammar_that_takes_long_is_tried_again_with_more_time_where_no_other_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "QUICK", 0.002)
    made = Trials(tokenizer().backend_tokenizer.to_str(), len(tokenizer()), [2])
    large = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(500)}}
    assert made.fault(grammar(large)) == ""
    assert process(made, 1) is not None
    made.close()


def test_quick_grammars_do_not_wait_for_endless_ones(tried: Trials) -> None:
    assert tried.fault(grammar({})) == ""
    with ThreadPoolExecutor(2) as pool:
        endless = [pool.submit(tried.fault, grammar({**ENDLESS, "title": title})) for title in "ab"]
        while tried._lanes[1]._present == 0:
            assert not endless[0].done()
        before = time.monotonic()
        assert tried.fault(grammar({"type": "object"})) == ""
        assert time.monotonic() - before < 2 * THOROUGH  # a few times QUICK; one by one the others take 5 s
        assert not all(each.done() for each in endless)
        assert [each.result() for each in endless] == [TOO_COMPLEX] * 2


def test_when_many_wait_others_are_told_to_come_back(tried: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "WAITING", 1)
    (lane, _) = tried._lanes
    with ThreadPoolExecutor(2) as pool, lane._lock:
        waiting = [pool.submit(tried.fault, grammar({"title": title})) for title in "ab"]
        while lane._present < 2:
            assert not any(each.done() for each in waiting)
        with pytest.raises(RelayError) as caught:
            tried.fault(grammar({}))
        assert (caught.value.fault, caught.value.retry_after) == (Fault.RATE_LIMITED, 1)
        assert lane._present == 2
        lane._lock.release()
        assert [each.result() for each in waiting] == ["", ""]
        lane._lock.acquire()
    assert tried.fault(grammar({})) == ""


def test_a_process_that_was_ended_while_idle_is_nobody_s_fault(tried: Trials) -> None:
    assert tried.fault(grammar({})) == ""
    process(tried).kill()
    process(tried).wait()
    assert tried.fault(grammar({})) == ""


def test_a_process_that_does_not_answer_is_ended(tried: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried.fault(grammar({})) == ""
    before = time.monotonic()
    monkeypatch.setattr(trials, "PATIENCE", 0.1)
    assert tried.fault(grammar(ENDLESS)) == TOO_COMPLEX
    assert time.monotonic() - before < THOROUGH


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
