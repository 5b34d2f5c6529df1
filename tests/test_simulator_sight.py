"""What the simulator sees in images: their headers, labels, boxes, sentences."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.catalogue import Model, load_snapshot
from adapters.errors import InvalidRequest
from adapters.simulator.descriptions import describe, moondream
from adapters.simulator.image_size import ImageHeader, read_header
from adapters.simulator.sight import look_at
from adapters.simulator.tokens import count
from adapters.wire.native.blob import Blob
from adapters.wire.native.inputs import DescriptionInputs, ImageInputs, MoondreamInputs
from adapters.wire.native.results import Detection, Label, MoondreamAnswer
from tests.support.image_files import bmp_header, gif_header, jpeg_header, png_header, webp_header

CATALOGUE = load_snapshot()


def model(id: str) -> Model:
    found = CATALOGUE.get(id)
    assert found is not None
    return found


RESNET = model("@cf/microsoft/resnet-50")
DETR = model("@cf/facebook/detr-resnet-50")
LLAVA = model("@cf/llava-hf/llava-1.5-7b-hf")
MOONDREAM = model("@cf/moondream/moondream3.1-9B-A2B")

# Headers

SEGMENT = b"\xff\xe1\x00\x04ab"
HEADERS = {
    "PNG": (png_header(640, 480), ImageHeader("PNG", 640, 480)),
    "GIF": (gif_header(3, 2000), ImageHeader("GIF", 3, 2000)),
    "BMP": (bmp_header(31, 17), ImageHeader("BMP", 31, 17)),
    "BMP from the top": (bmp_header(31, -17), ImageHeader("BMP", 31, 17)),
    "WebP with extras": (
        webp_header(b"VP8X", bytes(4) + b"\x7f\x02\x00\xdf\x01\x00"),
        ImageHeader("WebP", 640, 480),
    ),
    "lossless WebP": (
        webp_header(b"VP8L", b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")),
        ImageHeader("WebP", 640, 480),
    ),
    "lossy WebP": (
        webp_header(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + b"\x80\x42\xe0\x41"),
        ImageHeader("WebP", 640, 480),
    ),
    "JPEG": (jpeg_header(640, 480), ImageHeader("JPEG", 640, 480)),
    "JPEG behind segments": (jpeg_header(640, 480, SEGMENT * 9), ImageHeader("JPEG", 640, 480)),
    "JPEG behind a marker without length": (jpeg_header(640, 480, b"\xff\x01"), ImageHeader("JPEG", 640, 480)),
    "JPEG behind tables": (jpeg_header(640, 480, b"\xff\xc4\x00\x03x"), ImageHeader("JPEG", 640, 480)),
}


@pytest.mark.parametrize(("data", "header"), HEADERS.values(), ids=HEADERS)
def test_a_header_tells_format_and_size(data: bytes, header: ImageHeader) -> None:
    assert read_header(data) == header
    assert read_header(data + bytes(1000)) == header


BROKEN = {
    "nothing": b"",
    "text": b"an image",
    "a PNG that ends": png_header(640, 480)[:20],
    "a PNG without a width": png_header(0, 480),
    "a BMP without a height": bmp_header(31, 0),
    "a WebP of another kind": webp_header(b"WXYZ", bytes(20)),
    "another RIFF file": b"RIFF\0\0\0\0WAVEfmt " + bytes(20),
    "a JPEG that ends": jpeg_header(640, 480)[:8],
    "a JPEG that is no chain of segments": jpeg_header(640, 480, SEGMENT + b"x"),
    "a JPEG with its size nowhere near": jpeg_header(640, 480, SEGMENT * 100),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_header_tells_nothing(data: bytes) -> None:
    assert read_header(data) is None


@given(st.sampled_from([data for data, _ in HEADERS.values()]), st.integers(0, 60), st.binary(max_size=60))
def test_any_bytes_can_be_asked_for_their_header(data: bytes, kept: int, more: bytes) -> None:
    header = read_header(data[:kept] + more)
    assert header is None or (header.width > 0 and header.height > 0)


# Labels and boxes


def labels(data: bytes) -> list[Label]:
    found: list[Label] = look_at(RESNET, ImageInputs(Blob(data))).value
    return found


def detections(data: bytes) -> list[Detection]:
    found: list[Detection] = look_at(DETR, ImageInputs(Blob(data))).value
    return found


@given(st.binary(min_size=1, max_size=40))
def test_an_image_has_five_labels_the_best_first(data: bytes) -> None:
    found = labels(data)
    scores = [label.score for label in found]
    assert len({label.label for label in found}) == 5
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1]
    assert sum(scores) <= 1


@given(st.integers(1, 5000), st.integers(1, 5000), st.binary(max_size=8))
def test_boxes_lie_inside_the_image(width: int, height: int, more: bytes) -> None:
    found = detections(png_header(width, height) + more)
    scores = [detection.score for detection in found]
    assert 1 <= len(found) <= 6
    assert scores == sorted(scores, reverse=True)
    for detection in found:
        box = detection.box
        assert 0 <= box.xmin < box.xmax <= width
        assert 0 <= box.ymin < box.ymax <= height
        assert 0 < detection.score < 1


def test_boxes_are_found_in_what_is_no_image_that_we_know() -> None:
    assert all(detection.box.xmax <= 640 and detection.box.ymax <= 480 for detection in detections(b"?"))


@pytest.mark.parametrize("see", [labels, detections])
def test_every_byte_of_an_image_counts(see: Any) -> None:
    image = png_header(640, 480) + bytes(500)
    assert see(image) == see(bytes(image))
    assert see(image) != see(image[:-1] + b"\x01")


@pytest.mark.parametrize("see", [labels, detections])
def test_an_empty_image_is_refused(see: Any) -> None:
    with pytest.raises(InvalidRequest, match="image is empty") as refused:
        see(b"")
    assert refused.value.param == "image"


# Descriptions


def description(data: bytes = png_header(640, 480), **fields: Any) -> str:
    text: str = describe(LLAVA, DescriptionInputs(Blob(data), **fields)).value.description
    return text


def test_a_description_names_format_and_size() -> None:
    assert "A PNG image of 640 x 480 pixels." in description()
    assert "An image of 3 bytes in a format that is not known here." in description(b"???")


def test_a_description_takes_up_the_prompt() -> None:
    assert '"What is this?"' in description(prompt="What is this?")


def test_a_description_depends_on_image_and_seed() -> None:
    assert len({description(png_header(640, 480) + bytes([byte])) for byte in range(20)}) > 5
    assert len({description(seed=seed) for seed in range(20)}) > 5


@pytest.mark.parametrize("max_tokens", [1, 5, 512])
def test_a_description_keeps_within_its_tokens(max_tokens: int) -> None:
    result = describe(LLAVA, DescriptionInputs(Blob(png_header(1, 1)), prompt="Describe it", max_tokens=max_tokens))
    assert 1 <= count(result.value.description) <= max_tokens
    assert result.usage is not None
    assert result.usage.completion_tokens == count(result.value.description)
    assert result.usage.prompt_tokens > count("Describe it")


def test_an_empty_image_is_not_described() -> None:
    with pytest.raises(InvalidRequest):
        description(b"")


# Moondream

DATA_URI = "data:image/png;base64," + base64.b64encode(png_header(640, 480)).decode()


def seen(**fields: Any) -> MoondreamAnswer:
    answer: MoondreamAnswer = moondream(MOONDREAM, MoondreamInputs(**{"image": DATA_URI, **fields})).value
    return answer


def test_a_query_is_answered_with_a_thought() -> None:
    answer = seen(question="Is it raining?")
    assert answer.answer is not None
    assert "A PNG image of 640 x 480 pixels." in answer.answer
    assert '"Is it raining?"' in answer.answer
    assert answer.reasoning is not None
    assert (answer.caption, answer.points, answer.objects) == (None, None, None)


def test_a_query_is_answered_without_a_thought_where_none_is_wanted() -> None:
    answer = seen(reasoning=False)
    assert answer.reasoning is None
    assert answer.metrics.output_tokens < seen().metrics.output_tokens


def test_a_query_needs_neither_question_nor_image() -> None:
    answer = seen(image=None)
    assert answer.answer is not None
    assert "What's in this image?" in answer.answer
    assert answer.metrics.input_tokens < seen().metrics.input_tokens


def test_captions_come_in_three_lengths() -> None:
    lengths = [len(seen(task="caption", caption_length=name).caption or "") for name in ("short", "normal", "long")]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize("task", ["query", "caption"])
def test_an_answer_keeps_within_its_tokens(task: Any) -> None:
    cut = seen(task=task, max_tokens=4, reasoning=False)
    whole = seen(task=task, reasoning=False)
    assert (cut.finish_reason, whole.finish_reason) == ("length", "stop")
    assert count(cut.answer or cut.caption or "") == cut.metrics.output_tokens == 4


@given(st.text(min_size=1, max_size=10))
def test_points_and_boxes_lie_inside_the_image(target: str) -> None:
    points, objects = seen(task="point", target=target).points, seen(task="detect", target=target).objects
    assert points
    assert objects
    assert all(0 <= value <= 1 for place in (*points, *objects) for value in place.values())
    assert all(place["x_min"] < place["x_max"] and place["y_min"] < place["y_max"] for place in objects)


@pytest.mark.parametrize("task", ["point", "detect"])
def test_no_more_is_found_than_is_wanted(task: Any) -> None:
    for target in "abcdefgh":
        answer = seen(task=task, target=target, max_objects=1)
        assert len(answer.points or answer.objects or ()) == 1


@pytest.mark.parametrize("task", ["point", "detect"])
def test_what_is_found_depends_on_the_target(task: Any) -> None:
    assert seen(task=task, target="cat") != seen(task=task, target="dog")
    assert seen(task=task) == seen(task=task, target="person")


def test_what_took_time_is_told() -> None:
    result = moondream(MOONDREAM, MoondreamInputs(image=DATA_URI))
    metrics = result.value.metrics
    assert result.usage is not None
    assert metrics.input_tokens == result.usage.prompt_tokens
    assert metrics.output_tokens == result.usage.completion_tokens
    assert 0 < metrics.prefill_time_ms < metrics.ttft_ms < metrics.prefill_time_ms + metrics.decode_time_ms


def test_a_remote_image_is_not_fetched() -> None:
    answer = seen(image="https://pictures.example/cat.png")
    assert answer.answer is not None
    assert "at pictures.example, which was not fetched" in answer.answer
    assert answer != seen(image="https://pictures.example/dog.png")


REFUSED = {
    "no image for a caption": {"image": None, "task": "caption"},
    "no base64": {"image": "data:image/png;base64,***"},
    "an empty image": {"image": "DATA:image/png;base64,"},
    "bare base64": {"image": "AAAA"},
    "another scheme": {"image": "file:///etc/passwd"},
    "no host": {"image": "https:///cat.png"},
    "a broken host": {"image": "https://[::1/cat.png"},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_an_image_that_cannot_be_had_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        seen(**fields)
    assert refused.value.param == "image"
