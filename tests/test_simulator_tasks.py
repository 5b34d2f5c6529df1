"""The simulator's tasks together: every form of every model, always the same, and nothing but answers or errors."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, get_args

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Call, Embedder, NativeTask
from adapters.canonical import Change, EmbeddingRequest, Media, NativeResult
from adapters.catalogue import Model, load_snapshot
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.simulator.chat import SIMULATOR_MODEL, Simulator
from adapters.simulator.tasks import TASKS, SimulatedTasks
from adapters.wire.native import inputs as native
from adapters.wire.native.blob import Blob, read_blob
from adapters.wire.native.forms import FORMS, form_of
from tests.support.effort import soon
from tests.support.image_files import bmp_header, gif_header, jpeg_header, png_header, webp_header

pytestmark = pytest.mark.anyio

CATALOGUE = load_snapshot().with_models([SIMULATOR_MODEL])
STRICTLY = SimulatedTasks(lambda: CATALOGUE)
LENIENTLY = SimulatedTasks(lambda: CATALOGUE, allow_retired=True)

IMAGE = base64.b64encode(png_header(320, 200)).decode()
ANOTHER_IMAGE = base64.b64encode(png_header(320, 200) + b"x").decode()
SOUND = base64.b64encode(b"a recording" * 2000).decode()
CONTEXTS = [{"text": "a lighthouse"}, {"text": "a bank"}]

SAMPLES: Mapping[type, tuple[dict[str, Any], dict[str, Any]]] = {
    native.EmbeddingInputs: ({"text": ["a", "b"]}, {"text": ["a", "c"]}),
    native.QueryEmbeddingInputs: ({"queries": "a"}, {"queries": "b"}),
    native.EmbeddingOrScoreInputs: ({"query": "a", "contexts": CONTEXTS}, {"query": "b", "contexts": CONTEXTS}),
    native.RerankInputs: ({"query": "light", "contexts": CONTEXTS}, {"query": "money", "contexts": CONTEXTS}),
    native.TextInputs: ({"text": "fine"}, {"text": "bad"}),
    native.SummaryInputs: ({"input_text": "One. Two."}, {"input_text": "One. Three."}),
    native.TranslationInputs: ({"text": "Hi", "target_lang": "fr"}, {"text": "Hi", "target_lang": "de"}),
    native.IndicTranslationInputs: ({"text": ["Hi"]}, {"text": ["Bye"]}),
    native.ImageInputs: ({"image": IMAGE}, {"image": ANOTHER_IMAGE}),
    native.DescriptionInputs: ({"image": IMAGE, "prompt": "What?"}, {"image": IMAGE, "prompt": "Who?"}),
    native.MoondreamInputs: ({"image": "data:," + IMAGE}, {"image": "https://pictures.example/1.png"}),
    native.DecisionInputs: (
        {"state": "a", "questions": {"q": {"type": "noul", "instructions": "?"}}},
        {"state": "b", "questions": {"q": {"type": "noul", "instructions": "?"}}},
    ),
    native.ImagePromptInputs: ({"prompt": "sea", "width": 64}, {"prompt": "sea", "width": 64, "seed": 2}),
    native.FormImageInputs: (
        {"prompt": "sea", "width": 64, "input_image_0": IMAGE},
        {"prompt": "sea", "width": 64, "input_image_0": ANOTHER_IMAGE},
    ),
    native.DiffusionInputs: ({"prompt": "sea", "width": 256}, {"prompt": "sky", "width": 256}),
    native.WhisperInputs: ({"audio": SOUND}, {"audio": SOUND[4:]}),
    native.WhisperTurboInputs: ({"audio": SOUND}, {"audio": SOUND[4:]}),
    native.DeepgramInputs: ({"audio": SOUND}, {"audio": SOUND[4:]}),
    native.SpeechInputs: ({"text": "Hello there"}, {"text": "Hello you"}),
    native.MeloSpeechInputs: ({"prompt": "Hello there"}, {"prompt": "Hello you"}),
    native.TurnInputs: ({"audio": SOUND}, {"audio": SOUND[4:]}),
}

RUNNABLE = {model.id: model for model in CATALOGUE if form_of(model.native_result, model.task, model.input_kinds)}


def parsed(kind: type, body: Any) -> Any:
    """As the codec parses a JSON body."""
    return msgspec.convert(body, kind, dec_hook=lambda type, value: read_blob(value))


def inputs_of(model: Model, which: int = 0) -> Any:
    form = form_of(model.native_result, model.task, model.input_kinds)
    assert form is not None
    return parsed(form.inputs, SAMPLES[form.inputs][which])


def back(value: Any, result: Any) -> Any:
    """The value after a journey as JSON, read as the form's type; of several types as the one that it has."""
    kind = type(value) if type(value) in get_args(result) else result
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


async def test_the_simulator_is_an_embedder_and_a_native_task() -> None:
    embedder: Embedder = STRICTLY
    task: NativeTask = STRICTLY
    assert embedder.name == task.name == "simulator"


def test_every_form_has_a_task_and_a_model_or_is_chosen_by_what_the_model_is() -> None:
    by_model = {native.QueryEmbeddingInputs, native.FormImageInputs}
    assert {form.inputs for form in FORMS.values()} | by_model == set(TASKS) == set(SAMPLES)
    assert set(get_args(native.Inputs)) == set(TASKS)


@pytest.mark.parametrize("model", RUNNABLE.values(), ids=RUNNABLE)
async def test_every_model_answers_in_its_form(model: Model) -> None:
    form = form_of(model.native_result, model.task, model.input_kinds)
    assert form is not None
    call = Call("test", strict=True)
    result = await LENIENTLY.run(model, inputs_of(model), call)
    assert (call.upstream, call.changes) == ("simulator", ())
    if form.result is None:
        assert isinstance(result.value, Media)
        assert result.value.media_type.split("/")[0] == form.media_types[0].split("/")[0]
        assert len(result.value.data) > 100
    else:
        assert back(result.value, form.result) == result.value


@pytest.mark.parametrize("model", RUNNABLE.values(), ids=RUNNABLE)
async def test_the_same_inputs_get_the_same_answer_and_others_another(model: Model) -> None:
    first = await LENIENTLY.run(model, inputs_of(model), Call("test"))
    assert await LENIENTLY.run(model, inputs_of(model), Call("test")) == first
    assert (await LENIENTLY.run(model, inputs_of(model, 1), Call("test"))).value != first.value


UNCOUNTED = {
    native.ImageInputs,
    native.ImagePromptInputs,
    native.FormImageInputs,
    native.DiffusionInputs,
    native.WhisperInputs,
    native.WhisperTurboInputs,
    native.DeepgramInputs,
    native.SpeechInputs,
    native.MeloSpeechInputs,
    native.TurnInputs,
}


@pytest.mark.parametrize("model", RUNNABLE.values(), ids=RUNNABLE)
async def test_tokens_are_counted_where_a_model_has_any(model: Model) -> None:
    inputs = inputs_of(model)
    usage = (await LENIENTLY.run(model, inputs, Call("test"))).usage
    if type(inputs) in UNCOUNTED:
        assert usage is None
    else:
        assert usage is not None
        assert usage.prompt_tokens > 0


async def test_a_model_of_which_only_the_task_is_known_answers_by_it() -> None:
    own = Model(id="@cf/own/detector", task="Object Detection", status="listed")
    result = await STRICTLY.run(own, parsed(native.ImageInputs, {"image": IMAGE}), Call("test"))
    assert all(detection.box.xmax <= 320 for detection in result.value)


# Who is answered for

RETIRED = [model for model in RUNNABLE.values() if model.is_retired]


@pytest.mark.parametrize("model", RETIRED, ids=lambda model: model.short_name)
async def test_a_retired_model_fails_as_it_does_at_cloudflare(model: Model) -> None:
    call = Call("test")
    with pytest.raises(RelayError) as refused:
        await STRICTLY.run(model, inputs_of(model), call)
    assert refused.value.fault is Fault.MODEL_NOT_FOUND
    assert refused.value.upstream_code == 5028
    assert refused.value.message.startswith(f"Model has been deprecated: {model.id} was deprecated")
    assert call.upstream is None


async def test_a_retired_embedder_fails_unless_it_is_allowed() -> None:
    old = Model(id="@cf/own/old-embedder", task="Text Embeddings", status="retired", retired_on="2026-01-01")
    catalogue = CATALOGUE.with_models([old])
    request = EmbeddingRequest(model=old.id, texts=("Hi",))
    with pytest.raises(RelayError, match="was deprecated on 2026-01-01") as refused:
        await SimulatedTasks(lambda: catalogue).embed(request, Call("test"))
    assert refused.value.upstream_code == 5028
    allowed = SimulatedTasks(lambda: catalogue, allow_retired=True)
    assert len((await allowed.embed(request, Call("test"))).vectors) == 1


MISFITS = {
    "a chat model": ("@cf/meta/llama-3.2-1b-instruct", native.TextInputs("Hi")),
    "the simulator's chat": (SIMULATOR_MODEL.id, native.TextInputs("Hi")),
    "a model of web sockets": ("@cf/deepgram/flux", native.DeepgramInputs(Blob(b"x"))),
    "another model's inputs": ("@cf/baai/bge-m3", native.EmbeddingInputs("Hi")),
    "no inputs": ("@cf/baai/bge-m3", None),
}


@pytest.mark.parametrize(("id", "inputs"), MISFITS.values(), ids=MISFITS)
async def test_inputs_that_do_not_fit_the_model_are_refused(id: str, inputs: Any) -> None:
    call = Call("test")
    with pytest.raises(InvalidRequest) as refused:
        await STRICTLY.run(CATALOGUE.resolve(id), inputs, call)
    assert refused.value.param == "model"
    assert call.upstream is None


async def test_the_simulator_chats_under_its_own_name_alone() -> None:
    assert SIMULATOR_MODEL.is_chat
    assert SIMULATOR_MODEL.id not in RUNNABLE
    assert Simulator(CATALOGUE).name == STRICTLY.name


async def test_what_a_task_cannot_give_is_told_and_refused_in_strict_mode() -> None:
    model = RUNNABLE["@cf/deepgram/aura-1"]
    inputs = parsed(native.SpeechInputs, {"text": "Hi", "encoding": "mp3"})
    call = Call("test")
    await STRICTLY.run(model, inputs, call)
    assert call.changes == (Change("encoding", "dropped"),)
    with pytest.raises(InvalidRequest, match="encoding=dropped"):
        await STRICTLY.run(model, inputs, Call("test", strict=True))


# Whatever comes

TEXT = st.text(min_size=1, max_size=200)
TEXTS = TEXT | st.lists(TEXT, min_size=1, max_size=8)
HEADERS = [
    png_header(90_000, 3),
    gif_header(5, 5),
    bmp_header(-4, 9),
    jpeg_header(9, 9),
    webp_header(b"VP8 ", bytes(10)),
]
BLOB = (
    st.binary(max_size=200)
    | st.builds(bytes.__add__, st.sampled_from(HEADERS), st.binary(max_size=9))
    | st.builds(lambda more: b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0" + more, st.binary(max_size=60))
).map(lambda data: base64.b64encode(data).decode())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.integers(1, 2**70)
LISTED = st.lists(st.fixed_dictionaries({"text": TEXT}), min_size=1, max_size=5)
SIDE = st.integers(256, 2048)
SWITCH = st.booleans() | st.sampled_from(["true", "false", "", "1", "no"])
QUESTION = st.fixed_dictionaries(
    {"type": st.sampled_from(["noul", "choice", "score"]), "instructions": JSON},
    optional={
        "criteria": JSON | st.lists(JSON, min_size=2, max_size=10) | st.dictionaries(TEXT, JSON, min_size=2, max_size=5)
    },
)
MEDIA = st.lists(TEXT | st.fixed_dictionaries({"content_type": TEXT, "base64": TEXT}), max_size=2)


def fields(needed: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(needed, optional=optional)


BODIES: Mapping[type, st.SearchStrategy[dict[str, Any]]] = {
    native.EmbeddingInputs: fields({"text": TEXTS}, pooling=st.sampled_from(["mean", "cls"])),
    native.QueryEmbeddingInputs: fields({}, text=TEXTS, queries=TEXTS, documents=TEXTS, instruction=TEXT),
    native.EmbeddingOrScoreInputs: fields({}, text=TEXTS, query=TEXT, contexts=LISTED, truncate_inputs=st.booleans()),
    native.RerankInputs: fields({"query": TEXT, "contexts": LISTED}, top_k=COUNT),
    native.TextInputs: fields({"text": TEXT}),
    native.SummaryInputs: fields({"input_text": TEXT}, max_length=COUNT),
    native.TranslationInputs: fields({"text": TEXT, "target_lang": TEXT}, source_lang=TEXT),
    native.IndicTranslationInputs: fields({"text": TEXTS}, target_language=TEXT),
    native.ImageInputs: fields({"image": BLOB}),
    native.DescriptionInputs: fields({"image": BLOB}, prompt=TEXT, max_tokens=COUNT, seed=NUMBER, raw=st.booleans()),
    native.MoondreamInputs: fields(
        {},
        image=BLOB.map("data:image/png;base64,".__add__) | TEXT | TEXT.map("https://".__add__),
        task=st.sampled_from(["query", "caption", "point", "detect"]),
        question=TEXT,
        target=TEXT,
        caption_length=st.sampled_from(["short", "normal", "long"]),
        max_objects=st.integers(1, 500),
        reasoning=st.booleans(),
        max_tokens=COUNT,
    ),
    native.DecisionInputs: fields(
        {"state": JSON, "questions": st.dictionaries(TEXT, QUESTION, min_size=1, max_size=3)},
        model=TEXT,
        images=MEDIA,
        audio=MEDIA,
        videos=MEDIA,
    ),
    native.ImagePromptInputs: fields(
        {"prompt": TEXT}, width=st.integers(64, 2048), height=st.integers(64, 2048), seed=st.integers(), guidance=NUMBER
    ),
    native.FormImageInputs: fields(
        {"prompt": TEXT}, width=st.integers(64, 2048), seed=st.integers(), input_image_0=BLOB, input_image_3=BLOB
    ),
    native.DiffusionInputs: fields(
        {"prompt": TEXT},
        width=SIDE,
        height=SIDE,
        seed=st.integers(),
        guidance=NUMBER,
        image=BLOB,
        image_b64=BLOB,
        mask=BLOB,
        negative_prompt=TEXT,
    ),
    native.WhisperInputs: fields({"audio": BLOB}, source_lang=TEXT),
    native.WhisperTurboInputs: fields(
        {"audio": BLOB},
        task=st.sampled_from(["transcribe", "translate"]),
        language=TEXT,
        vad_filter=st.booleans(),
        initial_prompt=TEXT,
        prefix=TEXT,
    ),
    native.DeepgramInputs: fields({"audio": BLOB}, punctuate=SWITCH, diarize=SWITCH, smart_format=SWITCH),
    native.SpeechInputs: fields(
        {"text": TEXT},
        speaker=TEXT,
        encoding=st.sampled_from(["linear16", "flac", "mulaw", "alaw", "mp3", "opus", "aac"]),
        container=st.sampled_from(["none", "wav", "ogg"]),
        sample_rate=st.integers(8000, 48_000),
        bit_rate=COUNT,
        speed=NUMBER,
    ),
    native.MeloSpeechInputs: fields({"prompt": TEXT}, lang=TEXT),
    native.TurnInputs: fields({"audio": BLOB}, dtype=st.sampled_from(["uint8", "float32", "float64"])),
}


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_whatever_comes_gets_an_answer_or_an_error_that_names_the_field(kind: type, data: st.DataObject) -> None:
    body = data.draw(BODIES[kind])
    inputs = parsed(kind, body)
    model = data.draw(st.sampled_from([model for model in RUNNABLE.values() if type(inputs_of(model)) is kind]))
    try:
        # In a loop of its own: a draw within a task would end the task, not the example.
        with soon():
            result = anyio.run(LENIENTLY.run, model, inputs, Call("test"))
    except InvalidRequest as refused:
        assert refused.param is not None
        assert refused.param.partition(".")[0] in {field.name for field in msgspec.structs.fields(kind)}
    else:
        assert _size(result) < 10_000_000


def _size(result: NativeResult) -> int:
    return len(result.value.data if isinstance(result.value, Media) else msgspec.json.encode(result.value))
