"""Sentences about an image, and Moondream's four skills."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec

from adapters.canonical import NativeResult, Usage
from adapters.catalogue import Model
from adapters.errors import InvalidRequest
from adapters.simulator.fingerprint import chance
from adapters.simulator.image_size import read_header
from adapters.simulator.sight import image_bytes, span
from adapters.simulator.text import quote
from adapters.simulator.tokens import count, cut, usage_of
from adapters.wire.native.blob import read_blob
from adapters.wire.native.inputs import DescriptionInputs, MoondreamInputs
from adapters.wire.native.results import Description, MoondreamAnswer, MoondreamMetrics, MoondreamReasoning

_IMAGE_TOKENS = 729
"""What an image costs to read: 27 by 27 patches."""
_QUESTION = "What's in this image?"
_TARGET = "person"
_SCENES = (
    "a harbour at low tide",
    "a kitchen table with two cups",
    "a path between birch trees",
    "a row of parked bicycles",
    "a shelf of old books",
    "a street after rain",
    "a window with a cat in it",
    "hills under a wide sky",
)
_LIGHTS = ("in soft morning light", "in the evening", "on a grey day", "seen from above", "under a clear sky")
_DETAILS = (
    "Nothing in it moves.",
    "The colours are muted, with one bright spot.",
    "There is more shadow on the left than on the right.",
    "The lines lead from the lower edge to the middle.",
)
_READING = 0.05
_WRITING = 8.0
"""Milliseconds a token."""


class _Sight(msgspec.Struct, frozen=True):
    """An image: how it is called in a sentence, and what tells it from others."""

    name: str
    identity: str | bytes


def describe(model: Model, inputs: DescriptionInputs) -> NativeResult:
    """llava and uform. Raises InvalidRequest for an empty image."""
    image = image_bytes(inputs.image)
    seen = chance(model.id, image, inputs.prompt, inputs.seed)
    asked = f' To "{quote(inputs.prompt)}":' if inputs.prompt else ""
    text = f"(simulated) {_kind(image)}.{asked} It could show {seen.choice(_SCENES)} {seen.choice(_LIGHTS)}."
    text = cut(text, inputs.max_tokens)
    usage = usage_of(inputs.prompt, written=text) + Usage(prompt_tokens=_IMAGE_TOKENS)
    return NativeResult(Description(text), usage)


def moondream(model: Model, inputs: MoondreamInputs) -> NativeResult:
    """The whole answer, also where a stream is wanted: what its frames look like is not known.

    Raises InvalidRequest for a missing image (only a `query` does without) and for one that cannot be read.
    """
    sight = _sight(inputs)
    asked = _asked(inputs)
    said = _SKILLS[inputs.task](inputs, sight, chance(model.id, inputs.task, sight.identity, asked))
    read = count(asked) + (_IMAGE_TOKENS if inputs.image else 0)
    written = count(" ".join(_written(said)))
    answer = MoondreamAnswer(metrics=_metrics(read, written), **said)
    return NativeResult(answer, Usage(prompt_tokens=read, completion_tokens=written))


def _asked(inputs: MoondreamInputs) -> str:
    if inputs.task == "caption":
        return inputs.caption_length
    return (inputs.question or _QUESTION) if inputs.task == "query" else (inputs.target or _TARGET)


def _metrics(read: int, written: int) -> MoondreamMetrics:
    return MoondreamMetrics(
        input_tokens=read,
        output_tokens=written,
        prefill_time_ms=round(read * _READING, 3),
        decode_time_ms=round(written * _WRITING, 3),
        ttft_ms=round(read * _READING + _WRITING, 3),
    )


def _written(said: Mapping[str, Any]) -> Iterator[str]:
    if "reasoning" in said:
        yield said["reasoning"].text
    yield said.get("answer") or said.get("caption") or ""
    for place in (*said.get("points", ()), *said.get("objects", ())):
        yield from map(str, place.values())


def _sight(inputs: MoondreamInputs) -> _Sight:
    image = inputs.image
    if image is None:
        if inputs.task != "query":
            raise InvalidRequest(f"image is required for the task {inputs.task}.", param="image")
        return _Sight("No image came with this", "")
    if image[:5].lower() == "data:":
        try:
            data = read_blob("data:" + image[5:])
        except ValueError:
            raise InvalidRequest("image: expected base64 behind the comma of the data URI.", param="image") from None
        return _Sight(_kind(image_bytes(data)), data)
    host = _host(image)
    if not host:
        raise InvalidRequest("image: expected an https address or a base64 data URI.", param="image")
    return _Sight(f"An image at {host}, which was not fetched", image)


def _host(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        return parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:  # brackets that hold no IPv6 address
        return None


def _query(inputs: MoondreamInputs, sight: _Sight, seen: Random) -> dict[str, Any]:
    question = quote(_asked(inputs))
    said = _within(inputs, "answer", f'(simulated) {sight.name}. You asked "{question}": {seen.choice(_SCENES)}.')
    if inputs.reasoning:
        thought = f'The question is "{question}". There is no model behind this, so there is nothing to look at.'
        said["reasoning"] = MoondreamReasoning(thought, [])
    return said


def _caption(inputs: MoondreamInputs, sight: _Sight, seen: Random) -> dict[str, Any]:
    text = f"(simulated) {sight.name}: {seen.choice(_SCENES)}"
    if inputs.caption_length != "short":
        text += f" {seen.choice(_LIGHTS)}"
    details = seen.sample(_DETAILS, 3) if inputs.caption_length == "long" else []
    return _within(inputs, "caption", " ".join([f"{text}.", *details]))


def _within(inputs: MoondreamInputs, field: str, text: str) -> dict[str, Any]:
    """The text in as many tokens as the caller allows; a thought does not count against them."""
    kept = cut(text, inputs.max_tokens)
    return {field: kept, "finish_reason": "stop" if kept == text else "length"}


def _point(inputs: MoondreamInputs, sight: _Sight, seen: Random) -> dict[str, Any]:
    points = [{"x": round(seen.random(), 4), "y": round(seen.random(), 4)} for _ in range(_found(inputs, seen))]
    return {"finish_reason": "stop", "points": points}


def _detect(inputs: MoondreamInputs, sight: _Sight, seen: Random) -> dict[str, Any]:
    return {"finish_reason": "stop", "objects": [_object(seen) for _ in range(_found(inputs, seen))]}


def _object(seen: Random) -> dict[str, float]:
    left, right = span(seen)
    top, bottom = span(seen)
    place = {"x_min": left, "y_min": top, "x_max": right, "y_max": bottom}
    return {edge: round(value, 4) for edge, value in place.items()}


def _found(inputs: MoondreamInputs, seen: Random) -> int:
    return min(seen.randint(1, 4), inputs.max_objects)


def _kind(image: bytes) -> str:
    header = read_header(image)
    if header is None:
        return f"An image of {len(image)} bytes in a format that is not known here"
    return f"A {header.format} image of {header.width} x {header.height} pixels"


_SKILLS: Mapping[str, Callable[[MoondreamInputs, _Sight, Random], dict[str, Any]]] = {
    "query": _query,
    "caption": _caption,
    "point": _point,
    "detect": _detect,
}
