"""Bodies of every native task but text generation: what they mean, and how a wrong one is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import InvalidRequest
from adapters.wire.native.blob import Blob
from adapters.wire.native.forms import FORMS, Form, form_of
from adapters.wire.native.inputs import (
    DecisionInputs,
    DeepgramInputs,
    DiffusionInputs,
    EmbeddingInputs,
    FormImageInputs,
    ImageInputs,
    ImagePromptInputs,
    Inputs,
    MoondreamInputs,
    Question,
    SummaryInputs,
    TextInputs,
    WhisperInputs,
    WhisperTurboInputs,
)
from adapters.wire.native.payload import Payload, read_inputs
from tests.support.native_samples import CASES, PNG, PNG_64, Case

JSON = "application/json"
SECRET = "the-secret-value"


def body_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def inputs_of(form: Form, fields: Any) -> Any:
    """What is read of these fields as JSON."""
    return read_inputs(form, Payload(body_of(fields), JSON)).inputs


def refusal(form: Form, payload: Payload) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_inputs(form, payload)
    assert SECRET not in caught.value.message
    assert SECRET not in (caught.value.param or "")
    return caught.value


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_input_is_taken_as_json_whatever_the_content_type_says(case: Case) -> None:
    read = inputs_of(case.form, case.inputs)
    assert isinstance(read, case.form.inputs)
    assert all(getattr(read, name) == value for name, value in case.inputs.items() if isinstance(value, int))
    for content_type in ("application/json; charset=utf-8", "text/plain", "", "application/x-www-form-urlencoded"):
        assert read_inputs(case.form, Payload(body_of(case.inputs), content_type)).inputs == read


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_field_that_is_missing_is_named(case: Case) -> None:
    for name in case.required:
        rest = {key: value for key, value in case.inputs.items() if key != name}
        error = refusal(case.form, Payload(body_of(rest), JSON))
        assert error.code == "missing_required_parameter"
        assert f"'{name}'" in error.message


@pytest.mark.parametrize("body", [b"", b" \n"])
@pytest.mark.parametrize("content_type", ["", JSON, "image/png"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_empty_body_is_told_what_is_missing(case: Case, content_type: str, body: bytes) -> None:
    if not case.needs_something or (case.form.raw and body and content_type == "image/png"):
        return
    error = refusal(case.form, Payload(body, content_type))
    assert error.code == "missing_required_parameter"
    assert error.param in case.form.inputs.__struct_fields__


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_null_is_absent_for_what_may_be_left_out(case: Case) -> None:
    fields = msgspec.structs.fields(case.form.inputs)
    nulls = {field.name: None for field in fields if not field.required and field.name not in case.inputs}
    assert inputs_of(case.form, {**case.inputs, **nulls}) == inputs_of(case.form, case.inputs)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_unknown_fields_are_let_through_and_told(case: Case) -> None:
    without_effect = {"options": {"rejectIfBusy": True}, "user": "a", "another": None}
    more = {**case.inputs, "new_setting": {"a": [1]}, "x" * 99: 1, **without_effect}
    reading = read_inputs(case.form, Payload(body_of(more), JSON))
    assert reading.inputs == inputs_of(case.form, case.inputs)
    assert reading.unknown == ("new_setting", "x" * 64)


def test_unknown_fields_beside_bytes_and_in_forms_are_told() -> None:
    params = {"language": "en", "utterances": "true", "queueRequest": "true"}
    assert read_inputs(FORMS["deepgram"], Payload(b"ID3", "audio/mpeg", params)).unknown == ("utterances",)
    assert read_inputs(FORMS["image"], multipart(('name="prompt"', b"a"), ('name="seeds"', b"1"))).unknown == ("seeds",)


WRONG: dict[str, tuple[Form, Any, str | None, str]] = {
    "no object": (FORMS["labels"], [1], None, "expected an object, but got an array"),
    "a wrong type": (FORMS["labels"], {"text": 5}, "text", "expected a string, but got an integer"),
    "null for what is needed": (FORMS["labels"], {"text": None}, "text", "expected a string, but got null"),
    "a wrong type inside a list": (FORMS["data_shape"], {"text": ["a", 5]}, "text[1]", "expected a string"),
    "a wrong type inside an object": (
        FORMS["response_scores"],
        {"query": "q", "contexts": [{"text": "a"}, {"text": []}]},
        "contexts[1].text",
        "expected a string",
    ),
    "no text": (FORMS["data_shape"], {"text": ""}, "text", "at least 1 character, but got 0"),
    "too many texts": (FORMS["data_shape"], {"text": ["a"] * 101}, "text", "at most 100 items, but got 101"),
    "too large a number": (FORMS["image"], {"prompt": "a", "steps": 51}, "steps", "an integer from 1 to 50"),
    "more steps than a fast model takes": (
        FORMS["image_in_few_steps"],
        {"prompt": "a", "steps": 9},
        "steps",
        "expected an integer from 1 to 8, but got a larger one",
    ),
    "a wider image than Stable Diffusion makes": (
        FORMS["binary_image"],
        {"prompt": "a", "width": 1025},
        "width",
        "expected an integer from 256 to 1024, but got a larger one",
    ),
    "a higher one": (FORMS["binary_image"], {"prompt": "a", "height": 1032}, "height", "from 256 to 1024"),
    "one that is too small": (
        FORMS["binary_image"],
        {"prompt": "a", "height": 8},
        "height",
        "expected an integer from 256 to 1024, but got a smaller one",
    ),
    "one that is far too large": (FORMS["binary_image"], {"prompt": "a", "height": 4096}, "height", "from 256 to 1024"),
    "more of its steps": (FORMS["binary_image"], {"prompt": "a", "num_steps": 21}, "num_steps", "from 1 to 20"),
    "more of phoenix's steps": (FORMS["binary_jpeg"], {"prompt": "a", "num_steps": 51}, "num_steps", "from 1 to 50"),
    "a wider image than phoenix makes": (FORMS["binary_jpeg"], {"prompt": "a", "width": 2049}, "width", "to 2048"),
    "more image to image than there is": (
        CASES["image to image"].form,
        {"prompt": "a", "image": [1], "width": 1025},
        "width",
        "to 1024",
    ),
    "a broken number": (FORMS["image"], {"prompt": "a", "steps": 2.5}, "steps", "expected an integer"),
    "a number as text": (FORMS["image"], {"prompt": "a", "steps": "4"}, "steps", "expected an integer"),
    "an endless number": (FORMS["image"], {"prompt": "a", "guidance": 10**400}, "guidance", "out of range"),
    "a huge seed": (FORMS["image"], {"prompt": "a", "seed": 2**63}, "seed", "out of range"),
    "a word that is not among those known": (
        FORMS["data_shape"],
        {"text": "a", "pooling": SECRET},
        "pooling",
        "supported values are 'cls' and 'mean', but got another string instead.",
    ),
    "such a word further down": (
        FORMS["clef"],
        {"state": 1, "questions": {"a": {"type": "noul", "instructions": 1}, "b-2": {"type": SECRET}}},
        "questions.b-2.type",
        "supported values are 'choice', 'noul' and 'score', but got another string instead.",
    ),
    "a name that is none": (
        FORMS["clef"],
        {"state": 1, "questions": {"a": {"type": "noul", "instructions": 1}, f"{SECRET}?": {"type": 5}}},
        "questions[1].type",
        "supported values are 'choice', 'noul' and 'score', but got an integer instead.",
    ),
    "a part that is left out": (
        FORMS["clef"],
        {"state": 1, "questions": {"a": {"type": "noul"}}, "images": [{"base64": "a"}]},
        "questions.a.instructions",
        "Missing required parameter: 'questions.a.instructions'.",
    ),
    "neither of two kinds": (
        FORMS["clef"],
        {"state": 1, "questions": {"a": {"type": "noul", "instructions": 1}}, "images": ["a", 5]},
        "images[1]",
        "expected a string or an object, but got an integer instead.",
    ),
    "nothing to ask": (FORMS["clef"], {"state": 1, "questions": {}}, "questions", "at least 1 entry, but got 0"),
    "a number without an upper bound": (
        FORMS["response_scores"],
        {"query": "q", "contexts": [{"text": "a"}], "top_k": 0},
        "top_k",
        "an integer of 1 or more, but got a smaller one",
    ),
    "a word that looks like a complaint": (
        FORMS["turn"],
        {"audio": PNG_64, "dtype": f"x' - at `$.{SECRET}`"},
        "dtype",
        "supported values are",
    ),
    "no base64": (
        FORMS["whisper"],
        {"audio": f"{SECRET}!"},
        "audio",
        "or a list of bytes, but got another string instead.",
    ),
    "no media at all": (FORMS["whisper"], {"audio": {SECRET: 1}}, "audio", "or a list of bytes, but got an object"),
    "no bytes": (FORMS["whisper"], {"audio": [1, 256]}, "audio", "from 0 to 255, and the one at index 1"),
    "an empty list of bytes": (FORMS["whisper"], {"audio": []}, "audio", "no bytes"),
    "empty base64": (FORMS["binary_image"], {"prompt": "a", "image_b64": ""}, "image_b64", "no bytes"),
    "two ways to say what to embed": (
        CASES["query embeddings"].form,
        {"queries": SECRET, "documents": "b"},
        "documents",
        "only one of 'text' or 'queries' or 'documents'",
    ),
    "texts beside contexts": (
        FORMS["data_shape_or_scores"],
        {"text": SECRET, "contexts": [{"text": "a"}]},
        "contexts",
        "only one of",
    ),
    "a query alone": (FORMS["data_shape_or_scores"], {"query": SECRET}, "text", "'text' or 'contexts'"),
    "a mask alone": (FORMS["binary_image"], {"prompt": "a", "mask": [1]}, "image", "'image_b64' beside 'mask'"),
    "an image to change that is missing": (
        CASES["image to image"].form,
        {"prompt": "a"},
        "image",
        "'image' or 'image_b64'",
    ),
    "a caption of nothing": (FORMS["moondream"], {"task": "caption"}, "image", "where 'task' is 'caption'"),
}


@pytest.mark.parametrize(("form", "value", "param", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_input_is_refused_by_name(form: Form, value: Any, param: str | None, words: str) -> None:
    error = refusal(form, Payload(body_of(value), JSON))
    assert error.param == param
    assert words in error.message


READ: dict[str, tuple[Form, bytes, Any]] = {
    "a byte order mark": (FORMS["labels"], b'\xef\xbb\xbf{"text":"a"}', TextInputs("a")),
    "a lone surrogate": (FORMS["data_shape"], b'{"text":"\\ud800"}', EmbeddingInputs("\ufffd")),
    "whole numbers with a point": (
        FORMS["image"],
        b'{"prompt":"a","steps":4.0,"seed":7.0}',
        ImagePromptInputs("a", steps=4, seed=7),
    ),
    "the most that a fast model takes": (
        FORMS["image_in_few_steps"],
        b'{"prompt":"a","steps":8}',
        ImagePromptInputs("a", steps=8),
    ),
    "the most that Stable Diffusion takes": (
        FORMS["binary_image"],
        b'{"prompt":"a","width":1024,"height":1024,"num_steps":20}',
        DiffusionInputs("a", width=1024, height=1024, num_steps=20),
    ),
    "the most that phoenix takes": (
        FORMS["binary_jpeg"],
        b'{"prompt":"a","width":2048,"num_steps":50}',
        DiffusionInputs("a", width=2048, num_steps=50),
    ),
    "a data URI": (
        FORMS["whisper_turbo"],
        body_of({"audio": f"data:audio/mpeg;base64,{PNG_64}"}),
        WhisperTurboInputs(PNG),  # type: ignore[arg-type]  # equal to a Blob of these bytes
    ),
    "a list of bytes and base64": (
        FORMS["binary_image"],
        body_of({"prompt": "a", "image": list(PNG), "mask": PNG_64}),
        DiffusionInputs("a", image=PNG, mask=PNG),  # type: ignore[arg-type]  # as above
    ),
    "nothing but the state": (
        FORMS["clef"],
        b'{"state":null,"questions":{"q":{"type":"noul","instructions":"a"}},"images":null}',
        DecisionInputs(None, {"q": Question("noul", "a")}),
    ),
    "a question without an image": (FORMS["moondream"], b'{"question":"Why?"}', MoondreamInputs(question="Why?")),
    "null where there is a default": (FORMS["summary"], b'{"input_text":"a","max_length":null}', SummaryInputs("a")),
}


@pytest.mark.parametrize(("form", "body", "inputs"), READ.values(), ids=READ)
def test_what_a_body_means(form: Form, body: bytes, inputs: Any) -> None:
    assert read_inputs(form, Payload(body, JSON)).inputs == inputs


# Content type, body, and whether they are the sound itself.
RAW: list[tuple[str, bytes, bool]] = [
    ("audio/mpeg", b"ID3\x04", True),
    ("Audio/WAV; rate=8000", b"RIFF", True),
    ("application/octet-stream", b'{"audio":[1]}', True),
    ("video/mp4", b"ftyp", True),
    ("", b"\xff\xfb\x90", True),
    ("application/x-www-form-urlencoded", b"ID3\x04", True),
    ("", b'\n {"audio":[1]}', False),
    ("", b'\xef\xbb\xbf{"audio":[1]}', False),
    ("text/plain", b'{"audio":[1]}', False),
    ("application/vnd.api+json", b'{"audio":[1]}', False),
]


@pytest.mark.parametrize(("content_type", "body", "raw"), RAW)
def test_a_body_of_bytes_is_the_sound(content_type: str, body: bytes, raw: bool) -> None:
    inputs = read_inputs(FORMS["whisper"], Payload(body, content_type)).inputs
    assert isinstance(inputs, WhisperInputs)
    assert inputs.audio == (body if raw else b"\x01")


def test_what_is_called_json_has_to_be() -> None:
    error = refusal(FORMS["whisper"], Payload(b"ID3", JSON))
    assert (error.param, error.code) == (None, "invalid_json")


def test_bytes_are_nothing_to_a_model_that_takes_none() -> None:
    assert refusal(FORMS["whisper_turbo"], Payload(b"ID3", "audio/mpeg")).code == "invalid_json"


def test_beside_bytes_the_query_holds_the_other_inputs_as_text() -> None:
    params = {"language": "en", "punctuate": "true", "version": "3", "audio": "ignored"}
    inputs = read_inputs(FORMS["deepgram"], Payload(b"ID3", "audio/mpeg", params)).inputs
    assert inputs == DeepgramInputs(b"ID3", language="en", punctuate="true")  # type: ignore[arg-type]  # equal to a Blob
    described = read_inputs(FORMS["description"], Payload(PNG, "image/png", {"max_tokens": "9", "raw": "true"})).inputs
    assert (described.max_tokens, described.raw) == (9, True)  # type: ignore[union-attr]  # of this form


def test_a_bindings_other_inputs_keep_their_types() -> None:
    inputs = read_inputs(FORMS["description"], Payload(PNG, "image/png", {"max_tokens": 9, "prompt": None})).inputs
    assert (inputs.max_tokens, inputs.prompt) == (9, None)  # type: ignore[union-attr]  # of this form


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_a_number_from_text_is_finite(text: str) -> None:
    error = refusal(FORMS["description"], Payload(PNG, "image/png", {"temperature": text}))
    assert error.param == "temperature"


def test_beside_json_the_query_counts_for_nothing() -> None:
    inputs = read_inputs(FORMS["summary"], Payload(b'{"input_text":"a"}', JSON, {"max_length": "9"})).inputs
    assert inputs == SummaryInputs("a")


def multipart(*parts: tuple[str, bytes]) -> Payload:
    """Fields by the rest of their disposition."""
    pieces = [b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data for head, data in parts]
    return Payload(b"\r\n".join(pieces) + b"\r\n--b--", "multipart/form-data; boundary=b", {"width": "128"})


def test_the_fields_of_a_form_are_the_inputs() -> None:
    payload = multipart(
        ('name="prompt"', b"a cat"), ('name="steps"', b"4"), ('name="input_image_0"; filename="a"', PNG)
    )
    assert read_inputs(FORMS["image"], payload).inputs == ImagePromptInputs("a cat", steps=4, width=128)
    image = read_inputs(FORMS["boxes"], multipart(('name="image"; filename="a.png"', PNG))).inputs
    assert image == ImageInputs(PNG)  # type: ignore[arg-type]  # equal to a Blob of these bytes
    text = read_inputs(FORMS["boxes"], multipart(('name="image"', PNG_64.encode()))).inputs
    assert text == image


FLUX_2 = form_of("image", "Text-to-Image", ("multipart",))


def test_a_form_that_is_all_a_model_takes_may_hold_images() -> None:
    assert FLUX_2 is not None
    payload = multipart(('name="prompt"', b"a cat"), ('name="input_image_3"; filename="a.png"', PNG))
    reading = read_inputs(FLUX_2, payload)
    assert reading.inputs == FormImageInputs("a cat", width=128, input_image_3=Blob(PNG))
    assert reading.unknown == ()


@pytest.mark.parametrize("body", [b'{"prompt":"a cat"}', b"", b"{", b'{"multipart":{}}', PNG])
def test_a_model_that_takes_forms_alone_takes_nothing_else(body: bytes) -> None:
    assert FLUX_2 is not None
    for content_type in (JSON, "", "text/plain", "image/png"):
        error = refusal(FLUX_2, Payload(body, content_type))
        assert error.message == "Bad input: Error: required properties at '/' are 'multipart'"


def name_of(inputs: Inputs) -> str:
    assert isinstance(inputs, WhisperInputs)
    return inputs.audio.filename


NAMES: dict[str, tuple[str, str]] = {
    "a header that names it": ('attachment; filename="a b.wav"', "a b.wav"),
    "a name without quotes": ("attachment; filename=a.wav", "a.wav"),
    "a header without a name": ("inline", ""),
    "an empty name": ('attachment; filename=""', ""),
    "no header": ("", ""),
    "no header that makes sense": (";;=;\u20ac", ""),
}


@pytest.mark.parametrize(("disposition", "name"), NAMES.values(), ids=NAMES)
def test_a_body_of_bytes_has_the_name_that_its_header_tells(disposition: str, name: str) -> None:
    payload = Payload(b"RIFF", "audio/wav", disposition=disposition)
    assert name_of(read_inputs(FORMS["whisper"], payload).inputs) == name


def test_a_file_of_a_form_has_the_name_of_its_part() -> None:
    part = multipart(('name="audio"; filename="a.wav"', b"RIFF"))
    assert name_of(read_inputs(FORMS["whisper"], part).inputs) == "a.wav"
    assert name_of(inputs_of(FORMS["whisper"], {"audio": [1]})) == ""


@pytest.mark.parametrize(
    ("parts", "param", "words"),
    [
        ([], "prompt", "Missing required parameter: 'prompt'"),
        ([('name="prompt"; filename="p"', SECRET.encode())], "prompt", "expected a string"),
        ([('name="prompt"', b"a"), ('name="prompt"', b"b")], "prompt", "expected a string, but got an array"),
        ([('name="prompt"', b"a"), ('name="steps"', SECRET.encode())], "steps", "expected an integer"),
        ([('name="prompt"', b"a"), ('name="steps"', b"99")], "steps", "an integer from 1 to 50"),
    ],
)
def test_a_wrong_field_of_a_form_is_named(parts: list[tuple[str, bytes]], param: str, words: str) -> None:
    error = refusal(FORMS["image"], multipart(*(parts or [('name="other"', b"")])))
    assert error.param == param
    assert words in error.message


ALL_FORMS = {name: case.form for name, case in CASES.items()}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(PNG_64)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner))


def objects(form: Form) -> st.SearchStrategy[dict[str, Any]]:
    """Values of any type under the form's own names and others."""
    names = st.sampled_from(form.inputs.__struct_fields__) | st.text(max_size=6)
    return st.dictionaries(names, VALUES, max_size=6)


@settings(max_examples=40)
@given(st.data())
@pytest.mark.parametrize("name", ALL_FORMS)
def test_any_json_is_an_input_or_a_refusal(name: str, data: st.DataObject) -> None:
    form = ALL_FORMS[name]
    value = data.draw(objects(form) | VALUES)
    try:
        assert isinstance(inputs_of(form, value), form.inputs)
    except InvalidRequest as refused:
        assert len(refused.message) < 400


@settings(max_examples=40)
@given(
    body=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()),
    content_type=st.sampled_from(["", JSON, "audio/mpeg", "multipart/form-data; boundary=b", "a/b; c=d"]) | st.text(),
    params=st.dictionaries(st.sampled_from(["language", "raw", "max_tokens", "steps", "seed"]), st.text(max_size=6)),
)
@pytest.mark.parametrize("name", ALL_FORMS)
def test_any_bytes_are_an_input_or_a_refusal(name: str, body: bytes, content_type: str, params: dict[str, str]) -> None:
    form = ALL_FORMS[name]
    try:
        assert isinstance(read_inputs(form, Payload(body, content_type, params)).inputs, form.inputs)
    except InvalidRequest as refused:
        assert len(refused.message) < 400


def test_what_nests_without_end_is_refused() -> None:
    body = b'{"state":' + b"[" * 200_000 + b"]" * 200_000 + b',"questions":{}}'
    assert refusal(FORMS["clef"], Payload(body, JSON)).code == "invalid_json"


def test_a_large_image_is_taken_whole() -> None:
    data = bytes(range(256)) * 4096
    inputs = read_inputs(FORMS["boxes"], Payload(body_of({"image": base64.b64encode(data).decode()}), JSON)).inputs
    assert inputs == ImageInputs(data)  # type: ignore[arg-type]  # equal to a Blob of these bytes
