"""The simulator for every task that is no chat: which function answers which inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio.to_thread
import msgspec

from adapters.base import Call
from adapters.canonical import Change, EmbeddingRequest, EmbeddingResult, NativeResult
from adapters.catalogue import Catalogue, Model
from adapters.errors import InvalidRequest
from adapters.simulator import (
    decisions,
    descriptions,
    embeddings,
    images,
    ranking,
    sentiment,
    sight,
    speech,
    summaries,
    transcripts,
    translations,
    turns,
)
from adapters.simulator.limits import fitted
from adapters.simulator.offer import current, known
from adapters.simulator.tokens import usage_of
from adapters.wire.native import inputs as native
from adapters.wire.native.forms import form_of

EMBEDDING_TASK = "Text Embeddings"

_BATCH = 64
"""Texts between two looks at whether somebody still waits for their vectors."""


def _unchanged(model: Model, inputs: Any) -> list[Change]:
    return []


class Task(msgspec.Struct, frozen=True):
    """Both functions take the model and its inputs; `changes` names what of them cannot be had."""

    answer: Callable[[Model, Any], NativeResult]
    changes: Callable[[Model, Any], list[Change]] = _unchanged


TASKS: Mapping[type, Task] = {
    native.EmbeddingInputs: Task(embeddings.embeddings),
    native.QueryEmbeddingInputs: Task(embeddings.query_embeddings),
    native.EmbeddingOrScoreInputs: Task(embeddings.embeddings_or_scores),
    native.RerankInputs: Task(ranking.rerank),
    native.TextInputs: Task(sentiment.classify_text),
    native.SummaryInputs: Task(summaries.summarize),
    native.TranslationInputs: Task(translations.translate),
    native.IndicTranslationInputs: Task(translations.translate_to_indic),
    native.ImageInputs: Task(sight.look_at),
    native.DescriptionInputs: Task(descriptions.describe),
    native.MoondreamInputs: Task(descriptions.moondream),
    native.DecisionInputs: Task(decisions.decide),
    native.ImagePromptInputs: Task(images.draw),
    native.FormImageInputs: Task(images.draw, images.changes_to_drawing),
    native.DiffusionInputs: Task(images.diffuse),
    native.WhisperInputs: Task(transcripts.transcribe),
    native.WhisperTurboInputs: Task(transcripts.transcribe_in_segments),
    native.DeepgramInputs: Task(transcripts.transcribe_for_deepgram, transcripts.changes_for_deepgram),
    native.SpeechInputs: Task(speech.say, speech.changes_to_speech),
    native.MeloSpeechInputs: Task(speech.say_in_base64),
    native.TurnInputs: Task(turns.turn),
}


class SimulatedTasks:
    """An embedder and a native task for every model of the catalogue that is no chat model.

    The same inputs get the same answer. Retired models fail as they do at Cloudflare unless `allow_retired`.
    Answers are made in a worker thread, for some take tens of milliseconds.
    """

    name = "simulator"

    def __init__(self, catalogue: Callable[[], Catalogue], *, allow_retired: bool = False) -> None:
        self._catalogue = catalogue
        self._allow_retired = allow_retired

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        model = self._current(known(request.model, self._catalogue()))
        if model.task != EMBEDDING_TASK:
            raise InvalidRequest(f"The model {model.id} makes no embeddings (its task is {model.task}).", param="model")
        pooling = embeddings.pooling_of(model, request.pooling)
        instruction = request.instruction if request.query and embeddings.tells_queries(model) else None
        space = embeddings.Space(model, pooling, request.dimensions, instruction)
        call.accept(self.name, embeddings.changes_to_embedding(request, model))
        fit = partial(fitted, request.texts, model, truncate=request.truncate, param="input")
        texts = await anyio.to_thread.run_sync(fit)
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            vectors += await anyio.to_thread.run_sync(space.vectors, batch)
        return EmbeddingResult(vectors=vectors, pooling=pooling, usage=usage_of(instruction, *texts))

    async def run(self, model: Model, inputs: Any, call: Call) -> NativeResult:
        model = self._current(model)
        form = form_of(model.native_result, model.task, model.input_kinds)
        if form is None or type(inputs) is not form.inputs:
            raise InvalidRequest(f"The model {model.id} cannot be run with these inputs.", param="model")
        task = TASKS[form.inputs]
        call.accept(self.name, task.changes(model, inputs))
        return await anyio.to_thread.run_sync(task.answer, model, inputs)

    def _current(self, model: Model) -> Model:
        return model if self._allow_retired else current(model, self._catalogue())
