"""One input and its results for each native form, as Cloudflare's pages show them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from adapters.wire.native.forms import FORMS, Form, form_of
from adapters.wire.native.results import (
    Alternative,
    Base64Audio,
    Base64Image,
    Box,
    Channel,
    Channels,
    ContextEmbeddings,
    Decisions,
    DecisionUsage,
    DeepgramTranscript,
    DeepgramWord,
    Description,
    Detection,
    Embeddings,
    Label,
    MoondreamAnswer,
    MoondreamMetrics,
    Score,
    Scores,
    Segment,
    Summary,
    Transcript,
    TranscriptionInfo,
    Translation,
    Translations,
    TurboTranscript,
    Turn,
    Word,
)

PNG = b"\x89PNG\r\n\x1a\n"
PNG_64 = base64.b64encode(PNG).decode()
_WORD = Word("Hi", 0.0, 0.5)
_SEGMENT = Segment(0.0, 0.5, "Hi", 0.0, -0.2, 1.1, 0.01, [_WORD])
_METRICS = MoondreamMetrics(740, 4, 21.5, 3.25, 22.0)
_SPOKEN = Alternative("Hi", 0.99, [DeepgramWord("Hi", 0.0, 0.5, 0.99)])


class Case(msgspec.Struct, frozen=True):
    """How the catalogue describes such a model, an input of it and its results; `required` are fields it needs."""

    native_result: str
    task: str
    inputs: dict[str, Any]
    results: tuple[Any, ...] = ()
    required: tuple[str, ...] = ()
    input_kinds: tuple[str, ...] = ()

    @property
    def needs_something(self) -> bool:
        """Moondream answers an input without a field: it says what it sees in nothing."""
        return self.native_result != "moondream"

    @property
    def form(self) -> Form:
        form = form_of(self.native_result, self.task, self.input_kinds)
        assert form is not None
        return form


_EMBEDDINGS = Embeddings([1, 2], [[0.6, 0.8]], "cls")
_LABELS = [Label("POSITIVE", 0.99), Label("NEGATIVE", 0.01)]

CASES: dict[str, Case] = {
    "embeddings": Case("data_shape", "Text Embeddings", {"text": ["a", "b"]}, (_EMBEDDINGS,), ("text",)),
    "query embeddings": Case(
        "data_shape",
        "Text Embeddings",
        {"queries": "a", "instruction": "Find it."},
        (Embeddings([1, 2], [[0.6, 0.8]]),),
        ("queries",),
        ("text", "queries", "documents"),
    ),
    "embeddings or scores": Case(
        "data_shape_or_scores",
        "Text Embeddings",
        {"query": "q", "contexts": [{"text": "a"}], "truncate_inputs": True},
        (_EMBEDDINGS, ContextEmbeddings([[0.6, 0.8]], [1, 2]), Scores([Score(0, 0.74)])),
        ("contexts",),
    ),
    "rerank": Case(
        "response_scores",
        "Text Classification",
        {"query": "q", "contexts": [{"text": "a"}], "top_k": 1},
        (Scores([Score(0, 0.74)]),),
        ("query", "contexts"),
    ),
    "labels": Case("labels", "Text Classification", {"text": "good"}, (_LABELS,), ("text",)),
    "image labels": Case("labels", "Image Classification", {"image": [137, 80]}, (_LABELS,), ("image",)),
    "boxes": Case(
        "boxes", "Object Detection", {"image": PNG_64}, ([Detection("cat", 0.9, Box(1.0, 2.0, 3.0, 4.0))],), ("image",)
    ),
    "summary": Case("summary", "Summarization", {"input_text": "a", "max_length": 9}, (Summary("a"),), ("input_text",)),
    "translation": Case(
        "translated_text",
        "Translation",
        {"text": "a", "target_lang": "fr"},
        (Translation("b"),),
        ("text", "target_lang"),
    ),
    "indic translation": Case("translations", "Translation", {"text": ["a"]}, (Translations(["b"]),), ("text",)),
    "description": Case(
        "description",
        "Image-to-Text",
        {"image": [1], "prompt": "What?", "temperature": 0.5},
        (Description("a cat"),),
        ("image",),
    ),
    "moondream": Case(
        "moondream",
        "Image-to-Text",
        {"task": "point", "image": "https://example.com/a.png", "target": "cat"},
        (
            MoondreamAnswer("stop", _METRICS, answer="a cat"),
            MoondreamAnswer("stop", _METRICS, points=[{"x": 0.5, "y": 0.25}]),
        ),
        ("image",),
    ),
    "decisions": Case(
        "clef",
        "Text Generation",
        {"state": {"a": 1}, "questions": {"q": {"type": "noul", "instructions": "Is it?"}}},
        (Decisions("clef", {"q": {"answer": True}}, DecisionUsage(9, 1)),),
        ("state", "questions"),
    ),
    "image": Case("image", "Text-to-Image", {"prompt": "a cat", "steps": 4}, (Base64Image(PNG_64),), ("prompt",)),
    "fast image": Case(
        "image_in_few_steps", "Text-to-Image", {"prompt": "a cat", "steps": 8}, (Base64Image(PNG_64),), ("prompt",)
    ),
    "binary image": Case("binary_image", "Text-to-Image", {"prompt": "a cat", "width": 512}, (), ("prompt",)),
    "image to image": Case(
        "binary_image",
        "Text-to-Image",
        {"prompt": "a cat", "image_b64": PNG_64},
        (),
        ("prompt", "image_b64"),
        ("json", "image_bytes", "image_base64"),
    ),
    "inpainting": Case(
        "binary_image",
        "Text-to-Image",
        {"prompt": "a cat", "image": [1], "mask": [2]},
        (),
        ("prompt", "image", "mask"),
        ("json", "image_bytes", "image_base64", "mask_bytes"),
    ),
    "jpeg": Case("binary_jpeg", "Text-to-Image", {"prompt": "a cat"}, (), ("prompt",)),
    "whisper": Case(
        "whisper",
        "Automatic Speech Recognition",
        {"audio": [1, 2, 3]},
        (Transcript("Hi", 1, [_WORD], "WEBVTT"),),
        ("audio",),
    ),
    "whisper turbo": Case(
        "whisper_turbo",
        "Automatic Speech Recognition",
        {"audio": PNG_64, "task": "translate"},
        (TurboTranscript("Hi", 1, "WEBVTT", [_SEGMENT], TranscriptionInfo("en", 1.0, 0.5, 0.5)),),
        ("audio",),
    ),
    "deepgram": Case(
        "deepgram",
        "Automatic Speech Recognition",
        {"audio": PNG_64, "punctuate": True, "detect_language": "true"},
        (DeepgramTranscript(Channels([Channel([_SPOKEN])])),),
        ("audio",),
    ),
    "speech": Case("binary_audio", "Text-to-Speech", {"text": "Hi", "encoding": "mp3"}, (), ("text",)),
    "melo speech": Case("audio", "Text-to-Speech", {"prompt": "Hi"}, (Base64Audio(PNG_64),), ("prompt",)),
    "turn": Case(
        "turn", "Voice Activity Detection", {"audio": PNG_64, "dtype": "uint8"}, (Turn(True, 0.97),), ("audio",)
    ),
}

assert {case.form.inputs for case in CASES.values()} >= {form.inputs for form in FORMS.values()}
