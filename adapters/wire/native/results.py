"""What each task gives: the `result` of `POST /ai/run/{model}`, save text generation's (`chat_answer`).

Sources as in `inputs`. Binary answers (`Media`) have no JSON form.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Embeddings(msgspec.Struct, omit_defaults=True):
    """`shape` is [texts, dimensions]."""

    shape: list[int]
    data: list[list[float]]
    pooling: str | None = None


class ContextEmbeddings(msgspec.Struct):
    """bge-m3 for contexts without a query."""

    response: list[list[float]]
    shape: list[int]
    pooling: str | None = None


class Score(msgspec.Struct):
    """`id` is the index of the context."""

    id: int
    score: float


class Scores(msgspec.Struct):
    response: list[Score]


class Label(msgspec.Struct):
    label: str
    score: float


class Box(msgspec.Struct):
    """Pixels."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class Detection(msgspec.Struct):
    label: str
    score: float
    box: Box


class Summary(msgspec.Struct):
    summary: str


class Translation(msgspec.Struct):
    translated_text: str


class Translations(msgspec.Struct):
    translations: list[str]


class Description(msgspec.Struct):
    description: str


class MoondreamMetrics(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    prefill_time_ms: float
    decode_time_ms: float
    ttft_ms: float


class MoondreamReasoning(msgspec.Struct):
    text: str
    grounding: list[dict[str, Any]]


class MoondreamAnswer(msgspec.Struct, omit_defaults=True):
    """`points` are {x, y} and `objects` {x_min, y_min, x_max, y_max}, all from 0 to 1."""

    finish_reason: str
    metrics: MoondreamMetrics
    answer: str | None = None
    caption: str | None = None
    points: list[dict[str, float]] | None = None
    objects: list[dict[str, float]] | None = None
    reasoning: MoondreamReasoning | None = None


class DecisionUsage(msgspec.Struct):
    input_tokens: int
    output_tokens: int


class Decisions(msgspec.Struct):
    model: str
    answers: dict[str, dict[str, Any]]
    usage: DecisionUsage


class Base64Image(msgspec.Struct):
    image: str


class Base64Audio(msgspec.Struct):
    audio: str


class Word(msgspec.Struct):
    """Seconds."""

    word: str
    start: float
    end: float


class Transcript(msgspec.Struct):
    text: str
    word_count: int
    words: list[Word]
    vtt: str


class Segment(msgspec.Struct):
    start: float
    end: float
    text: str
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[Word]


class TranscriptionInfo(msgspec.Struct):
    language: str
    language_probability: float
    duration: float
    duration_after_vad: float


class TurboTranscript(msgspec.Struct):
    text: str
    word_count: int
    vtt: str
    segments: list[Segment]
    transcription_info: TranscriptionInfo


class DeepgramWord(msgspec.Struct):
    word: str
    start: float
    end: float
    confidence: float


class Alternative(msgspec.Struct):
    transcript: str
    confidence: float
    words: list[DeepgramWord]


class Channel(msgspec.Struct):
    alternatives: list[Alternative]


class Channels(msgspec.Struct):
    channels: list[Channel]


class DeepgramTranscript(msgspec.Struct):
    results: Channels


class Turn(msgspec.Struct):
    is_complete: bool
    probability: float
