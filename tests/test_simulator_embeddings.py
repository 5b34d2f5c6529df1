"""The simulator's vectors and scores: near for near texts, of the model's own length, soon there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Call
from adapters.canonical import Change, EmbeddingRequest, EmbeddingResult
from adapters.catalogue import Model, load_snapshot
from adapters.errors import InvalidRequest, RelayError
from adapters.simulator.embeddings import embeddings, embeddings_or_scores, query_embeddings
from adapters.simulator.features import features, overlap
from adapters.simulator.ranking import ranked, rerank
from adapters.simulator.tasks import SimulatedTasks
from adapters.wire.native import inputs as native
from adapters.wire.native.results import ContextEmbeddings, Embeddings, Scores
from tests.support.effort import soon

pytestmark = pytest.mark.anyio

CATALOGUE = load_snapshot()
TASKS = SimulatedTasks(lambda: CATALOGUE)
BASE = "@cf/baai/bge-base-en-v1.5"
M3 = "@cf/baai/bge-m3"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"
EMBEDDERS = [model for model in CATALOGUE if model.task == "Text Embeddings"]


def model(id: str) -> Model:
    found = CATALOGUE.get(id)
    assert found is not None
    return found


async def embed(*texts: str, call: Call | None = None, **fields: Any) -> EmbeddingResult:
    request = EmbeddingRequest(**{"model": BASE, "texts": texts, **fields})
    return await TASKS.embed(request, call or Call("test"))


async def vectors(*texts: str, **fields: Any) -> list[list[float]]:
    return (await embed(*texts, **fields)).vectors


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


# Vectors


@pytest.mark.parametrize("model", EMBEDDERS, ids=lambda model: model.short_name)
async def test_vectors_are_as_long_as_the_models_own_and_of_unit_length(model: Model) -> None:
    found = await vectors("a lighthouse", "", "!?", "\u706f\u5854", model=model.id)
    assert {len(vector) for vector in found} == {model.output_dimensions}
    assert [math.hypot(*vector) for vector in found] == pytest.approx([1.0] * 4, abs=1e-5)


async def test_a_model_whose_length_is_not_known_has_one_nevertheless() -> None:
    own = Model(id="@cf/own/embedder", task="Text Embeddings", status="listed")
    tasks = SimulatedTasks(lambda: CATALOGUE.with_models([own]))
    result = await tasks.embed(EmbeddingRequest(model=own.id, texts=("Hi",)), Call("test"))
    assert len(result.vectors[0]) == 768


NEAR = {
    "the same words in another order": (
        "How do I reset my password?",
        "My password: how do I reset it?",
        "The weather in Oslo is cold today.",
    ),
    "other forms of the words": (
        "planting trees in gardens",
        "The gardener planted a tree",
        "The bank raised its interest rates",
    ),
    "another case": ("HELLO WORLD", "hello world", "goodbye moon"),
    "little beside common words": (
        "the cat is on the mat",
        "a cat on a mat",
        "the bill is in the mail",
    ),
    "words without spaces between them": (
        "\u5982\u4f55\u91cd\u7f6e\u6211\u7684\u5bc6\u7801\uff1f",
        "\u6211\u5fd8\u4e86\u5bc6\u7801\uff0c\u600e\u4e48\u91cd\u7f6e\uff1f",
        "\u5965\u65af\u9646\u4eca\u5929\u5929\u6c14\u5f88\u51b7",
    ),
    "full-width letters": ("\uff28\uff45\uff4c\uff4c\uff4f there", "hello there", "good night"),
}


@pytest.mark.parametrize(("text", "near", "far"), NEAR.values(), ids=NEAR)
async def test_texts_that_share_words_are_nearer_than_others(text: str, near: str, far: str) -> None:
    found = await vectors(text, near, far)
    assert cosine(found[0], found[1]) > 0.2
    assert cosine(found[0], found[1]) > cosine(found[0], found[2]) + 0.2


async def test_the_same_text_has_the_same_vector_whatever_is_beside_it() -> None:
    (alone,) = await vectors("a lighthouse")
    others = [f"text {number}" for number in range(100)]
    assert (await vectors(*others, "a lighthouse"))[-1] == alone


@given(st.lists(st.text(max_size=30), min_size=2, max_size=6, unique=True))
async def test_different_texts_have_different_vectors(texts: list[str]) -> None:
    found = await vectors(*texts)
    assert len({tuple(vector) for vector in found}) == len(texts)


async def test_a_difference_behind_what_is_read_still_counts() -> None:
    long = "lighthouse " * 10_000
    one, other = await vectors(long + "a", long + "b")
    assert one != other
    assert cosine(one, other) > 0.95


async def test_models_and_kinds_of_pooling_have_spaces_of_their_own() -> None:
    (mean,) = await vectors("a lighthouse")
    assert (await vectors("a lighthouse", pooling="mean")) == [mean]
    for other in (
        await vectors("a lighthouse", pooling="cls"),
        await vectors("a lighthouse", model="@cf/google/embeddinggemma-300m"),
    ):
        assert abs(cosine(mean, other[0])) < 0.4


@pytest.mark.parametrize("dimensions", [1, 2, 100, 768])
async def test_vectors_are_cut_and_made_of_unit_length_again(dimensions: int) -> None:
    (whole,) = await vectors("a lighthouse")
    (cut,) = await vectors("a lighthouse", dimensions=dimensions)
    assert len(cut) == dimensions
    assert math.hypot(*cut) == pytest.approx(1.0, abs=1e-5)
    assert cosine(cut, whole[:dimensions]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("dimensions", [0, -1, 769, 10**9])
async def test_a_length_that_the_model_does_not_have_is_refused(dimensions: int) -> None:
    call = Call("test")
    with pytest.raises(InvalidRequest, match="from 1 to 768") as refused:
        await embed("Hi", dimensions=dimensions, call=call)
    assert refused.value.param == "dimensions"
    assert call.upstream is None


async def test_a_hundred_texts_are_soon_there() -> None:
    words = Random(1)
    texts = ["".join(words.choices("etaoinshrdlu    ", k=500)) for _ in range(100)]
    with soon():
        await vectors(*texts, model="@cf/baai/bge-large-en-v1.5")


async def test_what_was_read_is_counted() -> None:
    result = await embed("a lighthouse", "the sea")
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (5, 0)


async def test_no_texts_have_no_vectors() -> None:
    assert (await embed()).vectors == []


POOLING = {"mean": (BASE, "mean"), "the first token": (M3, "cls"), "not told": (QWEN, None)}


@pytest.mark.parametrize(("id", "pooling"), POOLING.values(), ids=POOLING)
async def test_the_kind_of_pooling_is_told_where_cloudflare_tells_it(id: str, pooling: str | None) -> None:
    assert (await embed("Hi", model=id)).pooling == pooling


async def test_an_instruction_moves_the_vectors_of_queries_alone() -> None:
    plain = await vectors("a lighthouse", model=QWEN)
    asked = await vectors("a lighthouse", model=QWEN, query=True, instruction="Find towers")
    assert plain != asked
    assert 0.8 < cosine(plain[0], asked[0]) < 0.999
    assert await vectors("a lighthouse", model=QWEN, instruction="Find towers") == plain
    assert await vectors("a lighthouse", query=True, instruction="Find towers") == await vectors("a lighthouse")


CHANGES: dict[str, tuple[dict[str, Any], tuple[Change, ...]]] = {
    "nothing": ({}, ()),
    "pooling that it has": ({"pooling": "cls"}, ()),
    "pooling that it always has": ({"model": M3, "pooling": "cls"}, ()),
    "pooling that it has not": ({"model": M3, "pooling": "mean"}, (Change("pooling", "dropped"),)),
    "an instruction for queries": ({"model": QWEN, "query": True, "instruction": "Find"}, ()),
    "an instruction for documents": ({"model": QWEN, "instruction": "Find"}, (Change("instruction", "dropped"),)),
    "an instruction that it does not take": (
        {"query": True, "instruction": "Find"},
        (Change("instruction", "dropped"),),
    ),
    "unknown fields": ({"unknown": ("colour",)}, (Change("colour", "ignored"),)),
}


@pytest.mark.parametrize(("fields", "changes"), CHANGES.values(), ids=CHANGES)
async def test_what_cannot_be_had_is_told(fields: dict[str, Any], changes: tuple[Change, ...]) -> None:
    call = Call("test")
    await embed("Hi", call=call, **fields)
    assert (call.upstream, call.changes) == ("simulator", changes)


async def test_strict_mode_refuses_what_cannot_be_had() -> None:
    with pytest.raises(InvalidRequest, match="pooling=dropped"):
        await embed("Hi", model=M3, pooling="mean", call=Call("test", strict=True))


MISFITS = {
    "a chat model": "@cf/meta/llama-3.2-1b-instruct",
    "a reranker": "@cf/baai/bge-reranker-base",
    "nothing known": "@cf/nobody/nothing",
}


@pytest.mark.parametrize("id", MISFITS.values(), ids=MISFITS)
async def test_other_models_make_no_embeddings(id: str) -> None:
    with pytest.raises(RelayError) as refused:
        await embed("Hi", model=id)
    assert refused.value.param == "model"


# Native forms


async def test_native_vectors_are_those_of_the_request_for_embeddings() -> None:
    result = embeddings(model(BASE), native.EmbeddingInputs(["a lighthouse", "the sea"], pooling="cls"))
    same = await embed("a lighthouse", "the sea", pooling="cls")
    assert result.value == Embeddings([2, 768], same.vectors, "cls")
    assert result.usage == same.usage


async def test_one_text_is_a_list_of_one() -> None:
    assert embeddings(model(BASE), native.EmbeddingInputs("Hi")).value == Embeddings(
        [1, 768], await vectors("Hi"), "mean"
    )


QUERIES: dict[str, tuple[native.QueryEmbeddingInputs, dict[str, Any]]] = {
    "a text": (native.QueryEmbeddingInputs(text="Hi", instruction="Find"), {}),
    "documents": (native.QueryEmbeddingInputs(documents=["Hi"], instruction="Find"), {}),
    "queries": (
        native.QueryEmbeddingInputs(queries=["Hi"], instruction="Find"),
        {"query": True, "instruction": "Find"},
    ),
}


@pytest.mark.parametrize(("inputs", "fields"), QUERIES.values(), ids=QUERIES)
async def test_queries_and_documents_are_told_apart(
    inputs: native.QueryEmbeddingInputs, fields: dict[str, Any]
) -> None:
    value = query_embeddings(model(QWEN), inputs).value
    assert value == Embeddings([1, 1024], await vectors("Hi", model=QWEN, **fields), None)


CONTEXTS = [native.Context("a lighthouse by the sea"), native.Context("a bank")]


async def test_contexts_alone_have_vectors() -> None:
    value = embeddings_or_scores(model(M3), native.EmbeddingOrScoreInputs(contexts=CONTEXTS)).value
    texts = [context.text for context in CONTEXTS]
    assert value == ContextEmbeddings(await vectors(*texts, model=M3), [2, 1024], "cls")
    plain = embeddings_or_scores(model(M3), native.EmbeddingOrScoreInputs(text=texts)).value
    assert plain == Embeddings(value.shape, value.response, "cls")


def test_contexts_with_a_query_have_scores() -> None:
    inputs = native.EmbeddingOrScoreInputs(query="the sea", contexts=CONTEXTS)
    result = embeddings_or_scores(model(M3), inputs)
    assert result.value == ranked("the sea", [context.text for context in CONTEXTS])
    assert result.usage is not None
    assert result.usage.prompt_tokens > 2


LACKING: dict[str, tuple[Any, Any, str]] = {
    "qwen without texts": (query_embeddings, native.QueryEmbeddingInputs(instruction="Find"), "text"),
    "bge-m3 without texts": (embeddings_or_scores, native.EmbeddingOrScoreInputs(), "text"),
    "bge-m3 with a query alone": (embeddings_or_scores, native.EmbeddingOrScoreInputs(query="Hi"), "contexts"),
}


@pytest.mark.parametrize(("answer", "inputs", "param"), LACKING.values(), ids=LACKING)
def test_inputs_without_texts_are_refused(answer: Any, inputs: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        answer(model(M3), inputs)
    assert refused.value.param == param


# Scores


def test_the_best_context_comes_first() -> None:
    contexts = [
        "Interest rates went up again",
        "A keeper lives in the lighthouse",
        "Lighthouse keepers light the lamp at dusk",
    ]
    scores = ranked("When do lighthouse keepers light the lamp?", contexts).response
    assert [score.id for score in scores] == [2, 1, 0]
    assert scores[0].score > 0.9
    assert scores[2].score < 0.1


@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_scores_lie_between_0_and_1_in_order(query: str, contexts: list[str]) -> None:
    scores = ranked(query, contexts).response
    assert sorted(score.id for score in scores) == list(range(len(contexts)))
    assert all(0 < score.score < 1 for score in scores)
    assert all(better.score >= worse.score for better, worse in pairwise(scores))


def test_contexts_that_fit_equally_badly_differ() -> None:
    scores = ranked("lighthouse", ["a bank", "a train", "a cello"]).response
    assert len({score.score for score in scores}) == 3


@pytest.mark.parametrize(("top_k", "left"), [(None, 2), (1, 1), (2, 2), (9, 2)])
def test_only_the_best_are_told_where_that_is_wanted(top_k: int | None, left: int) -> None:
    inputs = native.RerankInputs("the sea", CONTEXTS, top_k)
    value = rerank(model("@cf/baai/bge-reranker-base"), inputs).value
    assert value == Scores(ranked("the sea", [context.text for context in CONTEXTS]).response[:left])


@given(st.text(max_size=50), st.text(max_size=50))
def test_likeness_is_a_share(one: str, other: str) -> None:
    assert all(0 <= share <= 1 for share in overlap(features(one), features(other)))


def test_a_text_is_like_itself() -> None:
    assert overlap(features("the sea"), features("the sea")) == pytest.approx((1.0, 1.0))
