"""A transcript depends on a recording's length and name, wherever a request has a place for a name."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest

from adapters.simulator.wav import Wav, write_wav
from tests.support.emulator import AI, Entrance, emulating, run_headers

pytestmark = pytest.mark.anyio

WHISPER = "@cf/openai/whisper"
TURBO = "@cf/openai/whisper-large-v3-turbo"
NOVA = "@cf/deepgram/nova-3"


def recording(seconds: float = 4.0) -> bytes:
    return write_wav(Wav(1, 1, 8000, 16, bytes(round(16_000 * seconds))))


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(tmp_path_factory.mktemp("state")) as client:
        yield client


def form_of(name: str, audio: bytes) -> tuple[bytes, str]:
    """A form with one file, and its content type."""
    head = f'--b\r\ncontent-disposition: form-data; name="audio"; filename="{name}"\r\ncontent-type: audio/wav\r\n\r\n'
    return head.encode() + audio + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"


async def transcript(client: httpx.AsyncClient, way: str, model: str, name: str, audio: bytes) -> str:
    """What is heard in a recording that is sent in one of the ways."""
    entrance, _, form = way.partition(" ")
    body, kind = form_of(name, audio) if form == "form" else (audio, "audio/wav")
    named = {} if form == "form" or not name else {"content-disposition": f'attachment; filename="{name}"'}
    if entrance in ("S2", "S3"):
        headers = run_headers(model, kind) | named
        path = f"/run?version=3&userInputs={quote('{}')}"
        result = (await Entrance(entrance, client).send("POST", path, body, headers)).json()
    else:
        path = f"{AI}/run/{model}" if entrance == "REST" else f"/v1/local/g/workers-ai/{model}"
        result = (await client.post(path, content=body, headers={"content-type": kind} | named)).json()["result"]
    if model == NOVA:
        result = {"text": result["results"]["channels"][0]["alternatives"][0]["transcript"]}
    text: str = result["text"]
    return text


ENTRANCES = ("REST", "gateway", "S2", "S3")
WAYS = [
    *(
        (f"{entrance} {form}", model)
        for entrance in ENTRANCES
        for form in ("form", "body")
        for model in (WHISPER, NOVA)
    ),
    *((f"{entrance} form", TURBO) for entrance in ENTRANCES),
]


@pytest.mark.parametrize(("way", "model"), WAYS)
async def test_the_name_of_a_recording_counts(client: httpx.AsyncClient, way: str, model: str) -> None:
    audio = recording()
    first = await transcript(client, way, model, "meeting.wav", audio)
    assert first == await transcript(client, way, model, "meeting.wav", audio)
    assert first != await transcript(client, way, model, "call.wav", audio)
    assert len(first.split()) == len((await transcript(client, way, model, "call.wav", audio)).split())
    assert len(first.split()) < len((await transcript(client, way, model, "meeting.wav", recording(9.0))).split())


@pytest.mark.parametrize("model", [WHISPER, NOVA])
async def test_the_same_name_means_the_same_whatever_brings_it(client: httpx.AsyncClient, model: str) -> None:
    ways = [way for way, of in WAYS if of == model]
    assert len({await transcript(client, way, model, "a.wav", recording()) for way in ways}) == 1


async def test_a_recording_without_a_name_is_one_in_json(client: httpx.AsyncClient) -> None:
    audio = recording()
    nameless = await transcript(client, "REST body", WHISPER, "", audio)
    told = await client.post(f"{AI}/run/{WHISPER}", json={"audio": list(audio)})
    assert told.json()["result"]["text"] == nameless
    headers = {"content-type": "audio/wav", "content-disposition": "inline"}
    told = await client.post(f"{AI}/run/{WHISPER}", content=audio, headers=headers)
    assert told.json()["result"]["text"] == nameless != await transcript(client, "REST body", WHISPER, "a.wav", audio)


async def test_a_name_inside_json_is_no_name(client: httpx.AsyncClient) -> None:
    audio = base64.b64encode(recording()).decode()
    told = [
        (await client.post(f"{AI}/run/{TURBO}", json={"audio": audio, **more})).json()["result"]["text"]
        for more in ({}, {"filename": "a.wav"})
    ]
    assert told[0] == told[1]
