"""Pictures that the simulator draws: real files, of the size asked for, that the request decides."""

from __future__ import annotations

import base64
from random import Random
from typing import Any

import pytest

from adapters.canonical import Media
from adapters.catalogue import Model, load_snapshot
from adapters.errors import InvalidRequest
from adapters.simulator.images import changes_to_drawing, diffuse, draw
from adapters.simulator.jpeg import jpeg
from adapters.simulator.picture import Picture, paint
from adapters.simulator.png import png
from adapters.wire.native.blob import Blob
from adapters.wire.native.inputs import DiffusionInputs, FormImageInputs, ImagePromptInputs
from tests.support.effort import soon
from tests.support.image_files import Pixels, decode_jpeg, decode_png, png_header

CATALOGUE = load_snapshot()


def model(id: str) -> Model:
    found = CATALOGUE.get(id)
    assert found is not None
    return found


FLUX = model("@cf/black-forest-labs/flux-1-schnell")
XL = model("@cf/stabilityai/stable-diffusion-xl-base-1.0")
IMG2IMG = model("@cf/runwayml/stable-diffusion-v1-5-img2img")
PHOENIX = model("@cf/leonardo/phoenix-1.0")

SIZES = [(1, 1), (7, 9), (8, 8), (64, 512), (300, 200), (1024, 1024)]


def drawn(**fields: Any) -> Pixels:
    image = draw(FLUX, ImagePromptInputs(**{"prompt": "a lighthouse", **fields})).value.image
    return decode_png(base64.b64decode(image, validate=True))


def diffused(model: Model = XL, **fields: Any) -> Media:
    media = diffuse(model, DiffusionInputs(**{"prompt": "a lighthouse", **fields})).value
    assert isinstance(media, Media)
    return media


# Files


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_png_shows_the_picture_pixel_by_pixel(width: int, height: int) -> None:
    picture = paint(width, height, Random(3))
    pixels = decode_png(png(picture))
    assert (pixels.width, pixels.height) == (width, height)
    for y in {0, height // 2, height - 1}:
        expected = _row(picture, y)
        assert [pixels.at(x, y) for x in range(width)] == expected


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_jpeg_shows_the_middle_of_every_block(width: int, height: int) -> None:
    picture = paint(width, height, Random(3))
    blocks = decode_jpeg(jpeg(picture))
    assert (blocks.width, blocks.height) == (width, height)
    colours = iter(blocks.colours)
    for y in range(0, height, 8):
        row = _row(picture, min(y + 4, height - 1))
        for x in range(0, width, 8):
            assert next(colours) == pytest.approx(row[min(x + 4, width - 1)], abs=2.5)


def _row(picture: Picture, y: int) -> list[tuple[int, int, int]]:
    row = [(0, 0, 0)] * picture.width
    for start, end, colour in picture.row(y):
        for x in range(start, end):
            row[x] = colour
    return row


@pytest.mark.parametrize("encode", [png, jpeg])
def test_the_largest_picture_is_small_and_soon_there(encode: Any) -> None:
    with soon():
        data = encode(paint(2048, 2048, Random(1)))
    assert len(data) < 300_000


def test_a_picture_has_sky_and_hills_that_differ() -> None:
    pixels = drawn()
    assert len({pixels.at(512, y) for y in range(1024)}) > 10


# What is asked for

ASKED: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "nothing": ({}, (1024, 1024)),
    "both sides": ({"width": 320, "height": 256}, (320, 256)),
    "one side": ({"height": 512}, (1024, 512)),
}


@pytest.mark.parametrize(("fields", "size"), ASKED.values(), ids=ASKED)
def test_an_image_in_json_has_the_size_asked_for(fields: dict[str, Any], size: tuple[int, int]) -> None:
    pixels = drawn(**fields)
    assert (pixels.width, pixels.height) == size


@pytest.mark.parametrize(("fields", "size"), ASKED.values(), ids=ASKED)
def test_a_bare_image_has_the_size_asked_for(fields: dict[str, Any], size: tuple[int, int]) -> None:
    media = diffused(**fields)
    assert media.media_type == "image/png"
    pixels = decode_png(media.data)
    assert (pixels.width, pixels.height) == size


SOURCES = {
    "a small image": (png_header(200, 100), {}, (200, 100)),
    "the largest image": (png_header(2048, 100), {}, (2048, 100)),
    "a large image": (png_header(8192, 4096), {}, (2048, 1024)),
    "a line": (png_header(100_000, 1), {}, (2048, 1)),
    "no image that we know": (b"svg", {}, (1024, 1024)),
    "a size of its own": (png_header(200, 100), {"width": 256, "height": 256}, (256, 256)),
    "one side of its own": (png_header(200, 100), {"width": 256}, (256, 100)),
}


@pytest.mark.parametrize("field", ["image", "image_b64"])
@pytest.mark.parametrize(("source", "fields", "size"), SOURCES.values(), ids=SOURCES)
def test_an_image_made_of_another_keeps_its_size(
    field: str, source: bytes, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    pixels = decode_png(diffused(IMG2IMG, **fields, **{field: Blob(source)}).data)
    assert (pixels.width, pixels.height) == size


def test_phoenix_answers_with_a_jpeg() -> None:
    media = diffused(PHOENIX, width=512, height=256)
    assert media.media_type == "image/jpeg"
    blocks = decode_jpeg(media.data)
    assert (blocks.width, blocks.height) == (512, 256)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        diffused(IMG2IMG, image=Blob())
    assert refused.value.param == "image"


# What decides the picture

SMALL: dict[str, Any] = {"width": 256, "height": 256}
OTHERS: dict[str, dict[str, Any]] = {
    "another prompt": {"prompt": "a lighthouse at night"},
    "a seed": {"seed": 7},
    "another seed": {"seed": 8},
    "a negative prompt": {"negative_prompt": "people"},
    "more steps": {"num_steps": 9},
    "another source": {"image": Blob(png_header(64, 64))},
    "a mask": {"mask": Blob(b"mask")},
    "more guidance": {"guidance": 9.5},
}


def test_every_field_but_the_size_decides_the_picture() -> None:
    pictures = {diffused(**SMALL).data, *(diffused(**SMALL, **fields).data for fields in OTHERS.values())}
    assert len(pictures) == 1 + len(OTHERS)


FIXED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "the steps that there are": ("flux-2-klein-4b", {"steps": 4}, []),
    "no word about them": ("flux-2-klein-9b", {}, []),
    "others": ("flux-2-klein-9b", {"steps": 9}, ["steps=clamped"]),
    "others by the other name": ("flux-2-klein-4b", {"num_steps": 5}, ["num_steps=clamped"]),
    "a model that takes any": ("flux-2-dev", {"steps": 9}, []),
}


@pytest.mark.parametrize(("name", "fields", "changes"), FIXED.values(), ids=FIXED)
def test_klein_takes_four_steps_whatever_is_asked_for(name: str, fields: dict[str, Any], changes: list[str]) -> None:
    klein = model(f"@cf/black-forest-labs/{name}")
    asked, plain = FormImageInputs("sea", width=64, height=64, **fields), FormImageInputs("sea", width=64, height=64)
    assert [str(change) for change in changes_to_drawing(klein, asked)] == changes
    alike = draw(klein, asked) == draw(klein, plain)
    assert alike is (name != "flux-2-dev")


def test_models_draw_differently() -> None:
    assert diffused(XL, **SMALL).data != diffused(IMG2IMG, **SMALL).data


def test_the_same_picture_comes_in_any_size() -> None:
    small, large = drawn(width=128, height=128), drawn(width=512, height=512)
    assert small.at(2, 2) == large.at(8, 8)
    assert small.at(64, 120) == large.at(256, 480)


def test_the_same_request_gets_the_same_picture() -> None:
    assert diffused(seed=1, **SMALL) == diffused(seed=1, **SMALL)
