"""What each task takes: `POST /ai/run/{model}` bodies, save text generation's (`chat_inputs`).

What is declared here is checked and shown in the schemas; unknown fields are let through, as Cloudflare does.
Sources: Cloudflare's binding types (cloudflare/workerd, 2026-08), its OpenAPI document (2024-08) and the input
schemas of its model pages (2026-09). Bounds are those pages'.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from adapters.wire.native.blob import Blob

Number = int | float
Text = Annotated[str, msgspec.Meta(min_length=1)]
Texts = Annotated[list[Text], msgspec.Meta(min_length=1, max_length=100)]
Side = Annotated[int, msgspec.Meta(ge=64, le=2048)]
"""Pixels."""


class Context(msgspec.Struct):
    text: Text


Contexts = Annotated[list[Context], msgspec.Meta(min_length=1, max_length=100)]


class EmbeddingInputs(msgspec.Struct):
    text: Text | Texts
    pooling: Literal["mean", "cls"] | None = None


class QueryEmbeddingInputs(msgspec.Struct):
    """qwen3-embedding; one of the first three."""

    text: Text | Texts | None = None
    queries: Text | Texts | None = None
    documents: Text | Texts | None = None
    instruction: str | None = None


class EmbeddingOrScoreInputs(msgspec.Struct):
    """bge-m3: texts, contexts alone (embeddings of them), or a query with contexts (scores)."""

    text: Text | Texts | None = None
    query: Text | None = None
    contexts: Contexts | None = None
    truncate_inputs: bool | None = None


class RerankInputs(msgspec.Struct):
    query: Text
    contexts: Contexts
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None


class TextInputs(msgspec.Struct):
    """Text classification."""

    text: Text


class SummaryInputs(msgspec.Struct):
    input_text: Text
    max_length: Annotated[int, msgspec.Meta(ge=1)] = 1024


class TranslationInputs(msgspec.Struct):
    text: Text
    target_lang: Text
    source_lang: Text = "en"


class IndicTranslationInputs(msgspec.Struct):
    text: Text | Texts
    target_language: Text = "hin_Deva"


class ImageInputs(msgspec.Struct):
    """Image classification and object detection; the image may be the whole body instead."""

    image: Blob


class DescriptionInputs(msgspec.Struct):
    image: Blob
    prompt: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 512
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Number | None = None
    seed: Number | None = None
    raw: bool = False


class MoondreamInputs(msgspec.Struct):
    """`image` is an https address or a data URI, and only a `query` goes without one.

    It streams unless told not to (`query` and `caption`).
    """

    image: Text | None = None
    task: Literal["query", "caption", "point", "detect"] = "query"
    question: str | None = None
    target: str | None = None
    caption_length: Literal["short", "normal", "long"] = "normal"
    max_objects: Annotated[int, msgspec.Meta(ge=1, le=500)] = 150
    reasoning: bool = True
    stream: bool = True
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 8192


class Question(msgspec.Struct):
    """A yes or no (`noul`), a pick from `criteria` by name (`choice`), or a level of `criteria` in order (`score`).

    `instructions` is the question itself, or an object or list that holds it.
    """

    type: Literal["noul", "choice", "score"]
    instructions: Any
    criteria: Any = None


class Embedded(msgspec.Struct):
    """Media beside the state of a decision; the other form is a data URI."""

    content_type: Text
    base64: Text


class DecisionInputs(msgspec.Struct):
    """The Clef models: questions by id about a state."""

    state: Any
    questions: Annotated[dict[str, Question], msgspec.Meta(min_length=1, max_length=64)]
    model: str | None = None
    images: list[str | Embedded] | None = None
    audio: list[str | Embedded] | None = None
    videos: list[str | Embedded] | None = None


class ImagePromptInputs(msgspec.Struct):
    """Models that answer with base64 (`{"image"}`): flux-1, lucid-origin."""

    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    steps: Annotated[int, msgspec.Meta(ge=1, le=50)] | None = None
    num_steps: Annotated[int, msgspec.Meta(ge=1, le=50)] | None = None
    width: Side | None = None
    height: Side | None = None
    seed: int | None = None
    guidance: Number | None = None
    negative_prompt: str | None = None


class FormImageInputs(ImagePromptInputs):
    """flux-2: a multipart form, with up to four images to begin with as its files."""

    input_image_0: Blob | None = None
    input_image_1: Blob | None = None
    input_image_2: Blob | None = None
    input_image_3: Blob | None = None


class DiffusionInputs(msgspec.Struct):
    """The Stable Diffusion family and phoenix, which answer with the image itself."""

    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    negative_prompt: str | None = None
    height: Annotated[int, msgspec.Meta(ge=256, le=2048)] | None = None
    width: Annotated[int, msgspec.Meta(ge=256, le=2048)] | None = None
    num_steps: Annotated[int, msgspec.Meta(ge=1, le=50)] = 20
    guidance: Number = 7.5
    strength: Number = 1
    seed: int | None = None
    image: Blob | None = None
    image_b64: Blob | None = None
    mask: Blob | None = None


class WhisperInputs(msgspec.Struct):
    """The audio may be the whole body instead."""

    audio: Blob
    source_lang: str | None = None
    target_lang: str | None = None


class WhisperTurboInputs(msgspec.Struct):
    """`audio` is base64 text at Cloudflare."""

    audio: Blob
    task: Literal["transcribe", "translate"] = "transcribe"
    language: str | None = None
    vad_filter: bool | None = None
    initial_prompt: str | None = None
    prefix: str | None = None
    beam_size: int | None = None
    condition_on_previous_text: bool | None = None
    no_speech_threshold: Number | None = None
    compression_ratio_threshold: Number | None = None
    log_prob_threshold: Number | None = None
    hallucination_silence_threshold: Number | None = None


class DeepgramInputs(msgspec.Struct):
    """nova-3: the audio is the body, with its own content type; options come in the query, as text."""

    audio: Blob
    language: str | None = None
    detect_language: str | bool | None = None
    punctuate: str | bool | None = None
    smart_format: str | bool | None = None
    diarize: str | bool | None = None


class SpeechInputs(msgspec.Struct):
    """aura. `voice` and `speed` are not in its schema, though Cloudflare's own provider sends them."""

    text: Text
    speaker: str | None = None
    encoding: Literal["linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac"] | None = None
    container: Literal["none", "wav", "ogg"] | None = None
    sample_rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] | None = None
    bit_rate: Annotated[int, msgspec.Meta(ge=1)] | None = None
    voice: str | None = None
    speed: Number | None = None


class MeloSpeechInputs(msgspec.Struct):
    prompt: Text
    lang: str = "en"


class TurnInputs(msgspec.Struct):
    """Voice activity: has the speaker finished?"""

    audio: Blob
    dtype: Literal["uint8", "float32", "float64"] | None = None


Inputs = (
    EmbeddingInputs
    | QueryEmbeddingInputs
    | EmbeddingOrScoreInputs
    | RerankInputs
    | TextInputs
    | SummaryInputs
    | TranslationInputs
    | IndicTranslationInputs
    | ImageInputs
    | DescriptionInputs
    | MoondreamInputs
    | DecisionInputs
    | ImagePromptInputs
    | FormImageInputs
    | DiffusionInputs
    | WhisperInputs
    | WhisperTurboInputs
    | DeepgramInputs
    | SpeechInputs
    | MeloSpeechInputs
    | TurnInputs
)
