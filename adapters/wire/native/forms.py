"""The table of native forms: what a model of the catalogue takes and gives, by its `native_result`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.wire.native import inputs, results
from adapters.wire.native.rules import Bounds

_STABLE_DIFFUSION: Mapping[str, Bounds] = {"height": (256, 1024), "width": (256, 1024), "num_steps": (1, 20)}
"""Of its family; phoenix, which takes the same fields, goes further."""


class Form(msgspec.Struct, frozen=True):
    """`raw` names the field that a body of bytes stands for; `media_types` are those of a binary answer.

    `needs` are groups of fields of which this model needs one each, though the struct leaves them open; `bounds` are
    its ranges, both ends included, where they are narrower than the struct's; `multipart` says that it takes the fields
    as a multipart form alone.
    """

    inputs: type[inputs.Inputs]
    result: Any = None
    raw: str | None = None
    media_types: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()
    bounds: Mapping[str, Bounds] = {}
    multipart: bool = False


FORMS: Mapping[str, Form] = {
    "data_shape": Form(inputs.EmbeddingInputs, results.Embeddings),
    "data_shape_or_scores": Form(
        inputs.EmbeddingOrScoreInputs, results.Embeddings | results.ContextEmbeddings | results.Scores
    ),
    "response_scores": Form(inputs.RerankInputs, results.Scores),
    "labels": Form(inputs.TextInputs, list[results.Label]),
    "image_labels": Form(inputs.ImageInputs, list[results.Label], raw="image"),
    "boxes": Form(inputs.ImageInputs, list[results.Detection], raw="image"),
    "summary": Form(inputs.SummaryInputs, results.Summary),
    "translated_text": Form(inputs.TranslationInputs, results.Translation),
    "translations": Form(inputs.IndicTranslationInputs, results.Translations),
    "description": Form(inputs.DescriptionInputs, results.Description, raw="image"),
    "moondream": Form(inputs.MoondreamInputs, results.MoondreamAnswer),
    "clef": Form(inputs.DecisionInputs, results.Decisions),
    "image": Form(inputs.ImagePromptInputs, results.Base64Image),
    "image_in_few_steps": Form(inputs.ImagePromptInputs, results.Base64Image, bounds={"steps": (1, 8)}),
    "binary_image": Form(inputs.DiffusionInputs, media_types=("image/png",), bounds=_STABLE_DIFFUSION),
    "binary_jpeg": Form(inputs.DiffusionInputs, media_types=("image/jpeg",)),
    "whisper": Form(inputs.WhisperInputs, results.Transcript, raw="audio"),
    "whisper_turbo": Form(inputs.WhisperTurboInputs, results.TurboTranscript),
    "deepgram": Form(inputs.DeepgramInputs, results.DeepgramTranscript, raw="audio"),
    "binary_audio": Form(inputs.SpeechInputs, media_types=("audio/mpeg",)),
    "audio": Form(inputs.MeloSpeechInputs, results.Base64Audio),
    "turn": Form(inputs.TurnInputs, results.Turn, raw="audio"),
}


def form_of(native_result: str | None, task: str, input_kinds: tuple[str, ...] = ()) -> Form | None:
    """The form of a model that is no chat model; `None` for one whose form is not known.

    A model that the account lists and the snapshot does not know is taken by its task.
    """
    if native_result == "labels" and task == "Image Classification":
        return FORMS["image_labels"]
    if native_result == "data_shape" and "queries" in input_kinds:
        return Form(inputs.QueryEmbeddingInputs, results.Embeddings)
    if native_result == "binary_image" and "image_bytes" in input_kinds:
        mask = (("mask",),) if "mask_bytes" in input_kinds else ()
        return msgspec.structs.replace(FORMS["binary_image"], needs=(("image", "image_b64"), *mask))
    if native_result == "image" and input_kinds == ("multipart",):
        return Form(inputs.FormImageInputs, results.Base64Image, multipart=True)
    return FORMS.get(native_result or _BY_TASK.get(task, ""))


_BY_TASK: Mapping[str, str] = {
    "Text Embeddings": "data_shape",
    "Text Classification": "labels",
    "Image Classification": "image_labels",
    "Object Detection": "boxes",
    "Summarization": "summary",
    "Translation": "translated_text",
    "Image-to-Text": "description",
    "Text-to-Image": "binary_image",
    "Automatic Speech Recognition": "whisper",
    "Text-to-Speech": "binary_audio",
    "Voice Activity Detection": "turn",
}
