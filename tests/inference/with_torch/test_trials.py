"""Grammars that are tried in a process of their own, and what becomes of that process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import llguidance
import pytest

from adapters.errors import Fault, RelayError
from adapters.local.serving import trial, trials
from adapters.local.serving.fair_turns import FairTurns
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
    assert tried.fault(grammar({"type": "object"}), "a") == ""
    first = process(tried).pid
    assert "not" in tried.fault(grammar({"not": {}}), "a")
    assert tried.fault(grammar(ENDLESS), "a") == TOO_COMPLEX
    assert tried.fault(grammar({"type": "object"}), "a") == ""
    assert process(tried).pid == first


def test_a_grammar_that_takes_long_is_tried_again_with_more_time_where_no_other_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "QUICK", 0.002)
    made = Trials(tokenizer().backend_tokenizer.to_str(), len(tokenizer()), [2])
    large = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(500)}}
    assert made.fault(grammar(large), "a") == ""
    assert process(made, 1) is not None
    made.close()


def test_quick_grammars_do_not_wait_for_endless_ones(tried: Trials) -> None:
    assert tried.fault(grammar({}), "a") == ""
    with ThreadPoolExecutor(2) as pool:
        endless = [pool.submit(tried.fault, grammar({**ENDLESS, "title": title}), "a") for title in "ab"]
        until(lambda: process(tried, 1) is not None, endless)
        assert tried.fault(grammar({"type": "object"}), "a") == ""
        assert not all(each.done() for each in endless)
        assert [each.result() for each in endless] == [TOO_COMPLEX] * 2


def until(condition: Callable[[], bool], under_way: Iterable[Future[str]] = ()) -> None:
    """Waits for what some threads are about to do; one that is done has not done it."""
    while not condition():
        assert not any(each.done() for each in under_way)


def test_nobody_s_endless_grammars_keep_those_of_others_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all the places taken that one owner can have, another one's come next, and are not refused."""
    for name, value in {"QUICK": 0.3, "THOROUGH": 0.4, "EACH": 3}.items():
        monkeypatch.setattr(trials, name, value)
    made = Trials(tokenizer().backend_tokenizer.to_str(), len(tokenizer()), [2])
    (lane, _) = made._lanes
    assert made.fault(grammar({}), "good") == ""
    hostile = [grammar({**ENDLESS, "title": f"{number}"}) for number in range(4)]
    with ThreadPoolExecutor(len(hostile)) as pool:
        under_way = [pool.submit(made.fault, each, "hostile") for each in hostile]
        until(lambda: lane.turns.waiting == 3, under_way)
        with pytest.raises(RelayError):
            made.fault(grammar({**ENDLESS, "title": "one more"}), "hostile")
        assert made.fault(grammar({"title": "good"}), "good") == ""
        assert lane.turns.waiting >= 1
        assert [each.result() for each in under_way] == [TOO_COMPLEX] * 4
    made.close()


def test_what_has_failed_once_takes_no_place_again(tried: Trials) -> None:
    assert tried.fault(grammar(ENDLESS), "a") == TOO_COMPLEX
    (lane, _) = tried._lanes
    with lane.turns.turn("b"):  # for ever: nothing can be tried
        assert tried.fault(grammar(ENDLESS), "a") == TOO_COMPLEX


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the processes were asked to try with."""
    seconds: list[float] = []

    def noted(process: Any, question: Any) -> bytes:
        seconds.append(question[0])
        return ask(process, question)

    ask = trials._ask
    monkeypatch.setattr(trials, "_ask", noted)
    return seconds


def test_the_same_grammar_is_tried_once_however_many_ask(tried: Trials, asked: list[float]) -> None:
    (lane, _) = tried._lanes
    with ThreadPoolExecutor(4) as pool:
        with lane.turns.turn("b"):
            under_way = [pool.submit(tried.fault, grammar(ENDLESS), "a") for _ in range(4)]
            until(lambda: lane.turns.waiting == 4, under_way)
        assert [each.result() for each in under_way] == [TOO_COMPLEX] * 4
    assert asked == [trials.QUICK, THOROUGH]


def test_who_sends_what_takes_long_again_and_again_is_given_less_time_before_others(
    asked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"QUICK": 0.4, "THOROUGH": 0.3, "SHORTEST": 0.1}.items():
        monkeypatch.setattr(trials, name, value)
    made = Trials(tokenizer().backend_tokenizer.to_str(), len(tokenizer()), [2])
    for number in range(4):
        assert made.fault(grammar({**ENDLESS, "title": f"{number}"}), "a") == TOO_COMPLEX
    assert asked == [0.4, 0.3, 0.2, 0.3, 0.1, 0.3, 0.1, 0.3]
    asked.clear()
    assert made.fault(grammar({"title": "other"}), "b") == ""
    assert [made.fault(grammar({"title": f"{number}"}), "a") for number in range(4)] == [""] * 4
    assert asked == [0.4, 0.1, 0.2, 0.4, 0.4]
    made.close()


def test_when_many_wait_others_are_told_to_come_back(tried: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    (lane, _) = tried._lanes
    monkeypatch.setattr(lane, "turns", FairTurns(each=1, most=9))
    with ThreadPoolExecutor(1) as pool:
        with lane.turns.turn("b"):
            waiting = pool.submit(tried.fault, grammar({"title": "a"}), "a")
            until(lambda: lane.turns.waiting == 1, [waiting])
            with pytest.raises(RelayError) as caught:
                tried.fault(grammar({}), "a")
        assert (caught.value.fault, caught.value.retry_after) == (Fault.RATE_LIMITED, 1)
        assert waiting.result() == ""
    assert tried.fault(grammar({}), "a") == ""


def test_a_process_that_was_ended_while_idle_is_nobody_s_fault(tried: Trials) -> None:
    assert tried.fault(grammar({}), "a") == ""
    process(tried).kill()
    process(tried).wait()
    assert tried.fault(grammar({"type": "object"}), "a") == ""


def test_a_process_that_does_not_answer_is_ended(tried: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried.fault(grammar({}), "a") == ""
    before = time.monotonic()
    monkeypatch.setattr(trials, "PATIENCE", 0.1)
    assert tried.fault(grammar(ENDLESS), "a") == TOO_COMPLEX
    assert time.monotonic() - before < THOROUGH


def test_a_process_that_cannot_begin_takes_nothing() -> None:
    broken = Trials("no tokenizer", 10, [2])
    assert broken.fault(grammar({}), "a") == TOO_COMPLEX
    broken.close()


def test_it_may_be_closed_twice_and_without_ever_having_begun(tried: Trials) -> None:
    tried.close()
    tried.close()
    assert tried.fault(grammar({}), "a") == ""


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
