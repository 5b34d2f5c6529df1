"""Vectors: as a plain forward pass gives them one text at a time, whoever else asks; and what fails alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import safetensors.torch
import torch
import transformers

from adapters.local.inference.embedding import EmbeddingModel, choose, cut
from adapters.local.inference.encoder import Encoder
from adapters.local.inference.errors import (
    EngineClosed,
    EngineDead,
    InferenceError,
    InputTooLong,
    InvalidJob,
    JobFailed,
    QueueFull,
    UnsupportedModel,
)
from adapters.local.inference.folder import DenseCard, EmbeddingCard, Pooling
from adapters.local.inference.options import ModelOptions
from adapters.local.inference.pooling import load_dense

pytestmark = pytest.mark.anyio
SIZE = 32
LIMIT = 60
_SHAPE = {
    "vocab_size": 101,
    "hidden_size": SIZE,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
TEXTS = [[(7 * i + j * j) % 101 for i in range(length)] for j, length in enumerate([1, 33, 8, 60, 8, 17, 2])]


def bert() -> Any:
    torch.manual_seed(3)
    return transformers.BertModel(transformers.BertConfig(**_SHAPE, max_position_embeddings=LIMIT)).eval()


def qwen() -> Any:
    torch.manual_seed(3)
    config = transformers.Qwen3Config(**_SHAPE, num_key_value_heads=2, head_dim=8, max_position_embeddings=LIMIT)
    return transformers.Qwen3Model(config).eval()


def roberta() -> Any:
    torch.manual_seed(3)
    config = transformers.RobertaConfig(**_SHAPE, max_position_embeddings=LIMIT + 2, pad_token_id=1)
    return transformers.RobertaModel(config).eval()


def by_hand(model: Any, text: Sequence[int], pooling: str) -> Any:
    """One text, without padding and without a mask."""
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([text])).last_hidden_state[0]
    weights = torch.arange(1.0, len(text) + 1)[:, None]
    pooled = {
        "cls": states[0],
        "lasttoken": states[-1],
        "mean": states.mean(0),
        "max": states.max(0).values,
        "mean_sqrt_len_tokens": states.sum(0) / len(text) ** 0.5,
        "weightedmean": (states * weights).sum(0) / weights.sum(),
    }[pooling]
    return pooled / pooled.norm()


@asynccontextmanager
async def running(encoder: Any, **options: Any) -> AsyncIterator[EmbeddingModel]:
    model = EmbeddingModel(encoder, **options)
    model.start()
    try:
        yield model
    finally:
        await anyio.to_thread.run_sync(model.close)


CASES: list[tuple[str, Pooling]] = [
    ("bert", "mean"),
    ("bert", "cls"),
    ("bert", "max"),
    ("bert", "mean_sqrt_len_tokens"),
    ("roberta", "cls"),
    ("qwen", "lasttoken"),
    ("qwen", "weightedmean"),
]
MODELS = {"bert": bert, "qwen": qwen, "roberta": roberta}


@pytest.mark.parametrize(("name", "pooling"), CASES)
async def test_vectors_are_those_of_a_plain_pass_of_each_text_alone(name: str, pooling: Pooling) -> None:
    model = MODELS[name]()
    async with running(Encoder(model, EmbeddingCard(poolings=(pooling,)))) as embedding:
        vectors = await embedding.embed(TEXTS)
    expected = torch.stack([by_hand(model, text, pooling) for text in TEXTS])
    torch.testing.assert_close(torch.tensor(vectors), expected, atol=1e-5, rtol=1e-4)
    assert (embedding.size, embedding.max_tokens, embedding.vocabulary) == (SIZE, LIMIT, 101)


async def test_several_poolings_stand_side_by_side() -> None:
    model = bert()
    async with running(Encoder(model, EmbeddingCard(poolings=("cls", "mean")))) as embedding:
        (vector,) = await embedding.embed(TEXTS[1:2])
    with torch.inference_mode():
        states = model(input_ids=torch.tensor([TEXTS[1]])).last_hidden_state[0]
    both = torch.cat([states[0], states.mean(0)])
    torch.testing.assert_close(torch.tensor(vector), both / both.norm(), atol=1e-5, rtol=1e-4)


def test_a_folder_is_loaded_with_what_comes_after_the_transformer(tmp_path: Path) -> None:
    model = bert()
    model.save_pretrained(tmp_path)
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    steps = [{"path": f"{i}_{kind}" if i else "", "type": f"s.models.{kind}"} for i, kind in enumerate(kinds)]
    (tmp_path / "modules.json").write_text(json.dumps(steps))
    for folder, config in {
        "1_Pooling": {"pooling_mode_cls_token": True},
        "2_Dense": {"in_features": SIZE, "out_features": 5, "bias": True, "activation_function": "torch.nn.Tanh"},
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    linear = torch.nn.Linear(SIZE, 5)
    weights = {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "2_Dense" / "model.safetensors")
    told: list[str] = []
    encoder = Encoder.load(tmp_path, ModelOptions(device="cpu", threads=1), told.append)
    with torch.inference_mode():
        vectors = encoder.encode(TEXTS)
        states = torch.stack([model(input_ids=torch.tensor([text])).last_hidden_state[0, 0] for text in TEXTS])
        expected = torch.nn.functional.normalize(torch.tanh(linear(states)), dim=-1)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)
    assert (encoder.size, EmbeddingModel(encoder).card.poolings) == (5, ("cls",))
    assert told[-1].startswith("loading weights 100% of ")
    assert EmbeddingModel.load(tmp_path, ModelOptions(device="cpu", threads=1)).size == 5


DENSE: dict[str, tuple[DenseCard, str]] = {
    "another activation": (DenseCard("d", SIZE, 5, True, "Softplus"), "an activation Softplus"),
    "no weights": (DenseCard("e", SIZE, 5, True, "Tanh"), "is not there"),
    "other sizes": (DenseCard("d", SIZE, 6, True, "Tanh"), "does not hold what its config.json says"),
}


@pytest.mark.parametrize(("card", "message"), DENSE.values(), ids=DENSE)
def test_a_dense_layer_that_is_not_as_told_is_refused(card: DenseCard, message: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    safetensors.torch.save_file(torch.nn.Linear(SIZE, 5).state_dict(), tmp_path / "d" / "model.safetensors")
    with pytest.raises(UnsupportedModel, match=message):
        load_dense(tmp_path, card, "cpu")


def test_models_that_make_no_vectors_of_texts_are_refused() -> None:
    t5 = transformers.T5Model(transformers.T5Config(vocab_size=50, d_model=32, d_ff=32, num_layers=1, num_heads=2))
    with pytest.raises(UnsupportedModel, match="encoder-decoder"):
        Encoder(t5, EmbeddingCard())
    config = transformers.BloomConfig(vocab_size=50, hidden_size=32, n_layer=1, n_head=2)
    with pytest.raises(UnsupportedModel, match="how long its input may be"):
        Encoder(transformers.BloomModel(config).eval(), EmbeddingCard())
    assert Encoder(bert(), EmbeddingCard(max_tokens=20)).max_tokens == 20


BAD: dict[str, tuple[list[list[int]], int | None, type[Exception], str]] = {
    "no text": ([], None, InvalidJob, "input: there must be a text at least"),
    "an empty text": ([[1], []], None, InvalidJob, "input: a text has at least one token"),
    "too long": (
        [[1] * (LIMIT + 1)],
        None,
        InputTooLong,
        f"input: it has {LIMIT + 1} tokens and the model takes {LIMIT}",
    ),
    "an unknown token": ([[1, 101]], None, InvalidJob, "input: a token is not in 0..100"),
    "no dimensions": ([[1]], 0, InvalidJob, f"dimensions: must be in 1..{SIZE}"),
    "too many dimensions": ([[1]], SIZE + 1, InvalidJob, f"dimensions: must be in 1..{SIZE}"),
}


@pytest.mark.parametrize(("texts", "dimensions", "error", "message"), BAD.values(), ids=BAD)
async def test_what_cannot_be_embedded_is_refused_at_once(
    texts: list[list[int]], dimensions: int | None, error: type[Exception], message: str
) -> None:
    model = EmbeddingModel(Encoder(bert(), EmbeddingCard()))  # nothing has to be computed
    with pytest.raises(error) as caught:
        await model.embed(texts, dimensions)
    assert str(caught.value) == message


async def test_vectors_are_cut_to_unit_length_again() -> None:
    async with running(Encoder(bert(), EmbeddingCard())) as embedding:
        (whole,) = await embedding.embed(TEXTS[:1])
        (part,) = await embedding.embed(TEXTS[:1], 8)
    expected = torch.nn.functional.normalize(torch.tensor(whole)[:8], dim=0)
    torch.testing.assert_close(torch.tensor(part), expected)
    assert cut([0.0, 0.0, 1.0], 2) == [0.0, 0.0]


class Slow:
    """Counts batches, waits for leave before each, and fails as told."""

    def __init__(self, fails: Any = None) -> None:
        self.card = EmbeddingCard()
        self.max_tokens, self.vocabulary, self.size = 100, 1000, 2
        self.batches: list[list[int]] = []
        self.begun, self.leave = threading.Event(), threading.Event()
        self._fails = fails

    def encode(self, texts: Sequence[Sequence[int]]) -> Any:
        self.batches.append([len(text) for text in texts])
        self.begun.set()
        assert self.leave.wait(20)
        if self._fails is not None:
            self._fails(texts)
        return torch.tensor([[float(text[0]), 1.0] for text in texts])


async def in_thread(event: threading.Event) -> None:
    with anyio.fail_after(20):
        assert await anyio.to_thread.run_sync(event.wait, 20)


async def until_waiting(model: EmbeddingModel, texts: int) -> None:
    with anyio.fail_after(20):
        while model.waiting != texts:  # noqa: ASYNC110 - a list rings no bell
            await anyio.sleep(0.001)


async def test_what_has_gathered_meanwhile_is_one_batch_and_what_was_given_up_is_none() -> None:
    slow = Slow()
    answers: dict[int, list[list[float]]] = {}

    async def ask(i: int, texts: list[list[int]]) -> None:
        answers[i] = await model.embed(texts)

    async with running(slow) as model, anyio.create_task_group() as group:
        group.start_soon(ask, 0, [[5]])
        await in_thread(slow.begun)
        group.start_soon(ask, 1, [[6] * 3, [7] * 3])
        group.start_soon(ask, 2, [[8] * 4])
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(ask, 3, [[9] * 3])
            await until_waiting(model, 4)
            impatient.cancel_scope.cancel()
        slow.leave.set()
    assert answers == {0: [[5, 1]], 1: [[6, 1], [7, 1]], 2: [[8, 1]]}
    assert slow.batches == [[1], [3, 3, 4]]
    assert model.waiting == 0


def test_a_batch_is_the_oldest_text_with_those_of_nearest_length_that_fit() -> None:
    class Text:
        def __init__(self, length: int) -> None:
            self.ids = range(length)

    waiting: Any = [Text(length) for length in (10, 90, 9, 11, 50, 10)]
    assert [len(text.ids) for text in choose(waiting, 44)] == [10, 10, 9, 11]
    assert [len(text.ids) for text in choose(waiting, 5)] == [10]
    assert len(choose(waiting, 10_000)) == 6


async def test_a_full_queue_refuses_with_an_estimate_but_takes_a_large_request_when_it_is_empty() -> None:
    slow = Slow()
    async with running(slow, queue_tokens=50) as model, anyio.create_task_group() as group:
        group.start_soon(model.embed, [[1]])
        await in_thread(slow.begun)
        group.start_soon(model.embed, [[2] * 90])
        await until_waiting(model, 1)
        with pytest.raises(QueueFull) as caught:
            await model.embed([[3]])
        assert caught.value.retry_after >= 1
        slow.leave.set()


async def told(model: EmbeddingModel, texts: list[list[int]], answers: dict[int, Any], key: int) -> None:
    """Keeps the vectors, or the error."""
    try:
        answers[key] = await model.embed(texts)
    except InferenceError as exc:
        answers[key] = exc


async def test_a_text_that_fails_fails_its_caller_alone() -> None:
    def fails(texts: Sequence[Sequence[int]]) -> None:
        if any(text[0] == 13 for text in texts):
            raise torch.OutOfMemoryError("no memory for the text 42")

    slow = Slow(fails)
    answers: dict[int, Any] = {}
    async with running(slow) as model:
        async with anyio.create_task_group() as group:
            group.start_soon(model.embed, [[1]])
            await in_thread(slow.begun)
            for key, texts in enumerate([[[5]], [[6], [13], [7]], [[8]]]):
                group.start_soon(told, model, texts, answers, key)
            await until_waiting(model, 5)
            slow.leave.set()
        assert (answers[0], answers[2]) == ([[5, 1]], [[8, 1]])
        assert isinstance(answers[1], JobFailed)
        assert str(answers[1]) == "the text could not be embedded: OutOfMemoryError"
        assert await model.embed([[9]]) == [[9, 1]]


async def test_numbers_that_are_not_finite_fail_their_caller_alone() -> None:
    model = bert()
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[100] = torch.nan
    answers: dict[int, Any] = {}
    async with running(Encoder(model, EmbeddingCard())) as embedding, anyio.create_task_group() as group:
        for key, texts in enumerate([[TEXTS[1]], [[1, 100], [2]]]):
            group.start_soon(told, embedding, texts, answers, key)
    assert isinstance(answers[1], JobFailed)
    torch.testing.assert_close(torch.tensor(answers[0][0]), by_hand(model, TEXTS[1], "mean"), atol=1e-5, rtol=1e-4)


async def test_a_fault_of_the_device_ends_it_for_all(caplog: pytest.LogCaptureFixture) -> None:
    def fails(texts: Sequence[Sequence[int]]) -> None:
        raise torch.AcceleratorError("an illegal memory access")

    slow = Slow(fails)
    answers: dict[int, Any] = {}
    async with running(slow) as model:
        async with anyio.create_task_group() as group:
            group.start_soon(told, model, [[1]], answers, 0)
            await in_thread(slow.begun)
            group.start_soon(told, model, [[2]], answers, 1)
            await until_waiting(model, 1)
            slow.leave.set()
        assert {key: type(answer) for key, answer in answers.items()} == {0: EngineDead, 1: EngineDead}
        assert model.dead
        with pytest.raises(EngineDead):
            await model.embed([[3]])
    assert "the device failed" in caplog.text


async def test_closing_ends_all_callers_and_refuses_new_ones() -> None:
    slow = Slow()
    answers: dict[int, Any] = {}
    model = EmbeddingModel(slow, queue_tokens=1)  # type: ignore[arg-type]  # plays one
    model.start()
    async with anyio.create_task_group() as group:
        group.start_soon(told, model, [[1]], answers, 0)
        await in_thread(slow.begun)
        group.start_soon(told, model, [[2]], answers, 1)
        await until_waiting(model, 1)
        group.start_soon(anyio.to_thread.run_sync, model.close)
        with anyio.fail_after(20):
            while not isinstance(answers.get(2), EngineClosed):  # noqa: ASYNC110 - until then the queue is full
                await told(model, [[3]], answers, 2)
                await anyio.sleep(0.001)
        slow.leave.set()
    assert answers[0] == [[1, 1]]
    assert isinstance(answers[1], EngineClosed)
    assert not model.dead


def test_a_loop_that_is_closed_disturbs_nobody() -> None:
    slow = Slow()
    model = EmbeddingModel(slow)  # type: ignore[arg-type]  # plays one
    model.start()

    async def leave() -> None:
        with anyio.move_on_after(0.01):
            await model.embed([[1], [2]])

    asyncio.run(leave())
    slow.leave.set()
    assert asyncio.run(model.embed([[3]])) == [[3, 1]]
    model.close()
