"""What is in an image: labels and boxes, which depend on every byte of it."""

from __future__ import annotations

from random import Random

from adapters.canonical import NativeResult
from adapters.catalogue import Model
from adapters.errors import InvalidRequest
from adapters.simulator.fingerprint import chance
from adapters.simulator.image_size import ImageHeader, read_header
from adapters.wire.native.inputs import ImageInputs
from adapters.wire.native.results import Box, Detection, Label

DETECTION_TASK = "Object Detection"

_LABELS = 5
_CLASSES = (
    "ACOUSTIC GUITAR, BACKPACK, BALLOON, BANANA, BARN, BEAGLE, BICYCLE, BOOKCASE, BROCCOLI, CANOE, CELLO, "
    "COFFEE MUG, CONTAINER SHIP, CORN, DAISY, DESK, ESPRESSO, FLAMINGO, FOUNTAIN PEN, GOLDFINCH, GONDOLA, "
    "HARBOR SEAL, HONEYCOMB, HOT-AIR BALLOON, LAKESIDE, LEMON, LIGHTHOUSE, MACAW, MAILBOX, MOUNTAIN BIKE, "
    "MUSHROOM, OTTER, PIER, PINEAPPLE, RED FOX, ROCKING CHAIR, SAMOYED, SNOW LEOPARD, SUSPENSION BRIDGE, "
    "TABBY CAT, TEAPOT, TRACTOR, UMBRELLA, VIOLIN, WATER TOWER, WINDMILL"
).split(", ")
_OBJECTS = (
    "person, bicycle, car, bus, train, boat, bench, bird, cat, dog, horse, backpack, umbrella, kite, bottle, cup, "
    "bowl, apple, orange, chair, couch, potted plant, dining table, laptop, keyboard, book, clock, vase"
).split(", ")
_UNKNOWN = ImageHeader("unrecognised", 640, 480)
"""Stands for bytes that are no image that we know: a test need not have a real one at hand."""


def look_at(model: Model, inputs: ImageInputs) -> NativeResult:
    """Labels, or labels with boxes where the model detects. Raises InvalidRequest for an empty image."""
    seen = chance(model.id, image_bytes(inputs.image))
    if model.task == DETECTION_TASK:
        return NativeResult(_detections(read_header(inputs.image) or _UNKNOWN, seen))
    return NativeResult(_labels(seen))


def image_bytes(image: bytes, param: str = "image") -> bytes:
    """The image. Raises InvalidRequest if there is nothing in it."""
    if not image:
        raise InvalidRequest("The image is empty.", param=param)
    return image


def _labels(seen: Random) -> list[Label]:
    """Best first; what is missing from 1 belongs to the classes that are not shown."""
    left = 1.0
    labels = []
    for name in seen.sample(_CLASSES, _LABELS):
        score = left * seen.uniform(0.5, 0.9)
        labels.append(Label(name, round(score, 6)))
        left -= score
    return labels


def _detections(header: ImageHeader, seen: Random) -> list[Detection]:
    """One to six, best first, each box inside the image and at least a tenth of it wide and high."""
    scores = sorted((round(seen.uniform(0.35, 0.999), 6) for _ in range(seen.randint(1, 6))), reverse=True)
    return [Detection(seen.choice(_OBJECTS), score, _box(header, seen)) for score in scores]


def _box(header: ImageHeader, seen: Random) -> Box:
    left, right = span(seen)
    top, bottom = span(seen)
    width, height = header.width, header.height
    return Box(
        xmin=round(left * width, 2),
        ymin=round(top * height, 2),
        xmax=round(right * width, 2),
        ymax=round(bottom * height, 2),
    )


def span(seen: Random) -> tuple[float, float]:
    """Two places from 0 to 1 with at least a tenth between them."""
    start = seen.uniform(0.0, 0.6)
    return start, start + seen.uniform(0.1, 0.4)
