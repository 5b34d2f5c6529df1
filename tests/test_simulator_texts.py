"""What the simulator makes of texts: feelings, summaries, translations and decisions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.catalogue import Model, load_snapshot
from adapters.errors import InvalidRequest
from adapters.simulator.decisions import decide
from adapters.simulator.sentiment import classify_text
from adapters.simulator.summaries import summarize
from adapters.simulator.tokens import count
from adapters.simulator.translations import translate, translate_to_indic
from adapters.wire.native.inputs import (
    DecisionInputs,
    Embedded,
    IndicTranslationInputs,
    Question,
    SummaryInputs,
    TextInputs,
    TranslationInputs,
)
from adapters.wire.native.results import Decisions, Label

CATALOGUE = load_snapshot()


def model(id: str) -> Model:
    found = CATALOGUE.get(id)
    assert found is not None
    return found


DISTILBERT = model("@cf/huggingface/distilbert-sst-2-int8")
BART = model("@cf/facebook/bart-large-cnn")
CLEF = model("@cf/cloudflare/clef")

# Classification


def labels(text: str) -> list[Label]:
    found: list[Label] = classify_text(DISTILBERT, TextInputs(text)).value
    return found


FEELINGS = {
    "praise": ("This pizza is great!", "POSITIVE"),
    "blame": ("What a terrible, boring film.", "NEGATIVE"),
    "blame in capitals": ("TERRIBLE", "NEGATIVE"),
    "more praise than blame": ("Slow to start, but wonderful acting and a lovely end", "POSITIVE"),
    "praise that is denied": ("This is not good", "NEGATIVE"),
    "praise that is denied from afar": ("I would never call it a good film", "POSITIVE"),
    "praise that is denied in short": ("I don't like it", "NEGATIVE"),
    "praise that is denied with another apostrophe": ("I don\u2019t like it", "NEGATIVE"),
    "blame that is denied": ("It wasn't bad, and never boring", "POSITIVE"),
}


@pytest.mark.parametrize(("text", "label"), FEELINGS.values(), ids=FEELINGS)
def test_words_decide_the_feeling(text: str, label: str) -> None:
    best, other = labels(text)
    assert best.label == label
    assert best.score > 0.6
    assert {best.label, other.label} == {"POSITIVE", "NEGATIVE"}


@given(st.text(max_size=100))
def test_the_two_scores_are_one_in_order(text: str) -> None:
    best, other = labels(text)
    assert best.score >= other.score > 0
    assert best.score + other.score == pytest.approx(1.0)


def test_texts_that_say_neither_still_differ() -> None:
    assert len({labels(f"Chapter {number}")[0].score for number in range(10)}) > 5


# Summaries

STORY = (
    "The lighthouse of Harbour Island was built in 1890. It stands on the northern cliff. "
    "A keeper named Ada lit the lamp of the lighthouse every evening for forty years. Tea was served at four. "
    "When the lamp of the lighthouse became electric, Ada stayed on the island as its last keeper. "
    "Somewhere a dog barked. The weather was mixed."
)


def summary(text: str = STORY, **fields: Any) -> str:
    found: str = summarize(BART, SummaryInputs(text, **fields)).value.summary
    return found


def test_a_summary_has_the_first_sentence_and_those_that_say_most() -> None:
    assert summary() == (
        "The lighthouse of Harbour Island was built in 1890. "
        "A keeper named Ada lit the lamp of the lighthouse every evening for forty years. "
        "When the lamp of the lighthouse became electric, Ada stayed on the island as its last keeper."
    )


SHORT = {
    "one sentence": ("Nothing happened.", "Nothing happened."),
    "no sentence": ("nothing", "nothing"),
    "space alone": (" \n ", ""),
    "lines": ("First\n\n  Second \nThird", "First Second Third"),
    "another script": ("\u4e00\u3002\u4e8c\uff01", "\u4e00\u3002 \u4e8c\uff01"),
}


@pytest.mark.parametrize(("text", "expected"), SHORT.values(), ids=SHORT)
def test_a_short_text_is_its_own_summary(text: str, expected: str) -> None:
    assert summary(text) == expected


@given(st.text(alphabet="ab .\n!\u3002", min_size=1, max_size=200), st.integers(1, 60))
def test_a_summary_keeps_within_its_tokens(text: str, max_length: int) -> None:
    assert count(summary(text, max_length=max_length)) <= max_length


def test_a_summary_takes_the_sentences_that_fit() -> None:
    assert summary(max_length=16) == "The lighthouse of Harbour Island was built in 1890."


def test_a_sentence_too_long_for_its_summary_is_cut() -> None:
    assert summary("lighthouse keeper " * 10_000, max_length=3) == "lighthouse keeper"


def test_a_long_text_is_soon_summarized() -> None:
    result = summarize(BART, SummaryInputs(STORY * 5000))
    assert result.usage is not None
    assert result.usage.prompt_tokens > 100_000
    assert result.usage.completion_tokens == count(result.value.summary)


# Translations


def test_a_translation_says_which_language_it_should_be_in() -> None:
    result = translate(model("@cf/meta/m2m100-1.2b"), TranslationInputs("Good morning", "fr"))
    assert result.value.translated_text == "[fr] Good morning"
    assert result.usage is not None
    assert result.usage.completion_tokens == count("[fr] Good morning")


@pytest.mark.parametrize(("text", "marked"), [("Hi", ["[hin_Deva] Hi"]), (["Hi", "Bye"], ["[tam] Hi", "[tam] Bye"])])
def test_translations_are_a_list(text: Any, marked: list[str]) -> None:
    language = {"target_language": "tam"} if isinstance(text, list) else {}
    value = translate_to_indic(model("@cf/ai4bharat/indictrans2-en-indic-1B"), IndicTranslationInputs(text, **language))
    assert value.value.translations == marked


# Decisions

STATE = {"ticket": "I want my money back: the kettle arrived broken", "stars": 1}
TOPICS = {"refund": "wants the money back", "praise": "says thank you", "other": None}
LEVELS = ["calm", {"text": "annoyed"}, ["furious", "threatens to sue"]]


def decided(state: Any = STATE, **questions: Question) -> Decisions:
    found: Decisions = decide(CLEF, DecisionInputs(state, questions)).value
    return found


def test_a_yes_or_no_is_a_probability() -> None:
    answer = decided(q=Question("noul", "Did the kettle arrive broken?")).answers["q"]
    assert answer.keys() == {"type", "noul"}
    assert answer["type"] == "noul"
    assert 0.5 < answer["noul"] < 1


def test_what_yes_and_no_mean_counts() -> None:
    told = {"true": "the writer is happy", "false": "I want my money back: the kettle arrived broken"}
    assert decided(q=Question("noul", "Is it fine?", told)).answers["q"]["noul"] < 0.5


def test_a_choice_is_the_likeliest_option() -> None:
    answer = decided(q=Question("choice", "What is it about?", TOPICS)).answers["q"]
    assert answer.keys() == {"type", "choice", "probabilities", "confidence"}
    assert answer["choice"] == "refund"
    assert answer["probabilities"].keys() == TOPICS.keys()
    assert answer["probabilities"]["refund"] == max(answer["probabilities"].values())
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-9)
    assert 0 < answer["confidence"] < 1


def test_a_score_is_the_mean_level() -> None:
    answer = decided(q=Question("score", {"question": "How angry?"}, LEVELS)).answers["q"]
    assert answer.keys() == {"type", "score", "legend", "probabilities", "confidence"}
    assert answer["legend"] == {"0": LEVELS[0], "1": LEVELS[1], "2": LEVELS[2]}
    mean = sum(int(level) * share for level, share in answer["probabilities"].items())
    assert answer["score"] == pytest.approx(mean, abs=1e-4)


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=30, unique=True))
def test_probabilities_are_shares_of_one(state: str, options: list[str]) -> None:
    answer = decided(state, q=Question("choice", "Which?", dict.fromkeys(options))).answers["q"]
    shares = answer["probabilities"].values()
    assert all(0 <= share <= 1 for share in shares)
    assert math.fsum(shares) == pytest.approx(1.0, abs=1e-9)
    assert all(round(share, 4) == share for share in shares)
    assert 0 <= answer["confidence"] <= 1


def test_many_options_are_weighed() -> None:
    answer = decided("x", q=Question("choice", "Which?", {str(option): None for option in range(255)})).answers["q"]
    assert math.fsum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-9)
    assert min(answer["probabilities"].values()) >= 0


def test_answers_depend_on_state_question_and_media() -> None:
    plain = Question("noul", "Is it?")
    odds = {
        decided("a lighthouse", q=plain).answers["q"]["noul"],
        decided("a bank", q=plain).answers["q"]["noul"],
        decided("a lighthouse", q=Question("noul", "Was it?")).answers["q"]["noul"],
        decide(CLEF, DecisionInputs("a lighthouse", {"q": plain}, images=["data:,x"])).value.answers["q"]["noul"],
    }
    assert len(odds) == 4


def test_every_question_is_answered_under_its_id() -> None:
    value = decided(a=Question("noul", "?"), b=Question("score", "?", LEVELS))
    assert list(value.answers) == ["a", "b"]
    assert value.usage.output_tokens == 2


def test_the_model_is_told_as_the_caller_named_it() -> None:
    questions = {"q": Question("noul", "?")}
    assert decide(CLEF, DecisionInputs("x", questions, model=" clef-flash ")).value.model == "clef-flash"
    assert decide(CLEF, DecisionInputs("x", questions)).value.model == "clef"


def test_media_cost_tokens() -> None:
    questions = {"q": Question("noul", "?")}
    media: list[str | Embedded] = [Embedded("image/png", "AAAA"), "data:image/png;base64,AAAA"]
    plain = decide(CLEF, DecisionInputs("x", questions)).value.usage
    rich = decide(CLEF, DecisionInputs("x", questions, images=media, audio=media, videos=media)).value.usage
    assert rich.input_tokens == plain.input_tokens + 6 * 256


NESTED: Any = []
for _ in range(100_000):
    NESTED = [NESTED]

UNFIT: dict[str, tuple[Any, Question, str]] = {
    "a choice without options": ("x", Question("choice", "?"), "questions.q.criteria"),
    "a choice of a list": ("x", Question("choice", "?", ["a", "b"]), "questions.q.criteria"),
    "a choice of one": ("x", Question("choice", "?", {"a": None}), "questions.q.criteria"),
    "a choice of too many": ("x", Question("choice", "?", {str(n): n for n in range(256)}), "questions.q.criteria"),
    "a score without levels": ("x", Question("score", "?"), "questions.q.criteria"),
    "a score of one level": ("x", Question("score", "?", ["a"]), "questions.q.criteria"),
    "a score of too many levels": ("x", Question("score", "?", ["a"] * 11), "questions.q.criteria"),
    "a state that nests too deeply": (NESTED, Question("noul", "?"), "state"),
    "instructions that nest too deeply": ("x", Question("noul", NESTED), "questions.q.instructions"),
    "criteria that nest too deeply": ("x", Question("score", "?", ["a", NESTED]), "questions.q.criteria"),
}


@pytest.mark.parametrize(("state", "question", "param"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_decided_is_refused(state: Any, question: Question, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decided(state, q=question)
    assert refused.value.param == param
