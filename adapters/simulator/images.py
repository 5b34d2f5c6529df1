"""Text to image, and image to image: a picture that the prompt, the seed and the source decide."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec

from adapters.canonical import Change, Media, NativeResult
from adapters.catalogue import Model
from adapters.simulator.fingerprint import chance
from adapters.simulator.image_size import read_header
from adapters.simulator.jpeg import jpeg
from adapters.simulator.picture import Picture, paint
from adapters.simulator.png import png
from adapters.simulator.sight import image_bytes
from adapters.wire.native.inputs import DiffusionInputs, ImagePromptInputs
from adapters.wire.native.results import Base64Image

_SIDE = 1024
_LARGEST = 2048
"""Pixels."""


_STEPS: Mapping[str, int] = {"flux-2-klein-4b": 4, "flux-2-klein-9b": 4}
"""Of models that always take as many, whatever is asked for; by their short names."""


def changes_to_drawing(model: Model, inputs: ImagePromptInputs) -> list[Change]:
    fixed = _STEPS.get(model.short_name)
    asked = {"steps": inputs.steps, "num_steps": inputs.num_steps}
    return [Change(name, "clamped") for name, steps in asked.items() if fixed and steps not in (None, fixed)]


def draw(model: Model, inputs: ImagePromptInputs) -> NativeResult:
    """The models that answer with base64: a PNG of the size asked for."""
    if model.short_name in _STEPS:
        inputs = msgspec.structs.replace(inputs, steps=None, num_steps=None)
    drawn = _painted(model, inputs, inputs.width or _SIDE, inputs.height or _SIDE)
    return NativeResult(Base64Image(base64.b64encode(png(drawn)).decode()))


def diffuse(model: Model, inputs: DiffusionInputs) -> NativeResult:
    """The models that answer with the image itself. Raises InvalidRequest for an empty source."""
    width, height = _source_size(inputs)
    drawn = _painted(model, inputs, inputs.width or width, inputs.height or height)
    if model.native_result == "binary_jpeg":
        return NativeResult(Media(jpeg(drawn), "image/jpeg"))
    return NativeResult(Media(png(drawn), "image/png"))


def _painted(model: Model, inputs: ImagePromptInputs | DiffusionInputs, width: int, height: int) -> Picture:
    """All that was asked for counts, the size aside: the same picture comes in any size."""
    asked = [value for name, value in msgspec.structs.asdict(inputs).items() if name not in ("width", "height")]
    return paint(width, height, chance(model.id, *asked))


def _source_size(inputs: DiffusionInputs) -> tuple[int, int]:
    """That of the image to begin with, made smaller if it is larger than an answer may be."""
    image = inputs.image if inputs.image is not None else inputs.image_b64
    header = None if image is None else read_header(image_bytes(image))
    if header is None:
        return _SIDE, _SIDE
    scale = min(1.0, _LARGEST / max(header.width, header.height))
    return max(1, round(header.width * scale)), max(1, round(header.height * scale))
