"""What the simulator says: sound that plays, as long as the text takes, in the coding asked for."""

from __future__ import annotations

import base64
import io
import struct
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import Change, Media
from adapters.catalogue import Model, load_snapshot
from adapters.simulator.g711 import alaw, mulaw
from adapters.simulator.speech import changes_to_speech, say, say_in_base64
from adapters.simulator.tones import speak
from adapters.simulator.wav import Wav, read_wav, write_wav
from adapters.wire.native.inputs import MeloSpeechInputs, SpeechInputs
from tests.support.effort import soon

CATALOGUE = load_snapshot()


def model(id: str) -> Model:
    found = CATALOGUE.get(id)
    assert found is not None
    return found


AURA = model("@cf/deepgram/aura-2-en")
MELO = model("@cf/myshell-ai/melotts")
TEXT = "The keeper lights the lamp."


def said(text: str = TEXT, **fields: Any) -> Media:
    media = say(AURA, SpeechInputs(text, **fields)).value
    assert isinstance(media, Media)
    return media


def read(data: bytes) -> Wav:
    found = read_wav(data)
    assert found is not None
    return found


def numbers(samples: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(samples) // 2}h", samples)


# Sound


def test_a_sound_plays() -> None:
    media = said()
    assert media.media_type == "audio/wav"
    with wave.open(io.BytesIO(media.data)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
        samples = sound.readframes(sound.getnframes())
        assert sound.getnframes() == len(numbers(samples))
    assert max(numbers(samples)) > 5000
    assert min(numbers(samples)) < -5000


DURATIONS = {
    "five words": (TEXT, 1.87),
    "150 words": ("words " * 150, 60.0),
    "one letter": ("a", 0.13),
    "a word of another script": ("\u706f\u5854", 0.47),
    "space alone": (" ", 0.07),
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.values(), ids=DURATIONS)
def test_a_sound_is_as_long_as_saying_it_takes(text: str, seconds: float) -> None:
    assert read(said(text).data).seconds == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("text", ["word " * 100_000, "x" * 1_000_000], ids=["words", "one word"])
@pytest.mark.parametrize("rate", [8000, 48_000])
def test_a_sound_lasts_a_minute_at_most_and_is_soon_there(text: str, rate: int) -> None:
    with soon():
        samples = speak(text, rate)
    assert len(samples) == pytest.approx(120 * rate, rel=0.15)
    assert len(samples) <= 120 * rate


@given(st.text(min_size=1, max_size=40), st.integers(8000, 48_000), st.floats(0.25, 4))
def test_any_text_makes_a_sound_that_does_not_click(text: str, rate: int, speed: float) -> None:
    heard = numbers(speak(text, rate, speed=speed))
    assert heard
    steps = [abs(after - before) for before, after in zip((0, *heard), (*heard, 0), strict=True)]
    assert max(steps) < 9000


def test_words_voices_and_speeds_sound_different() -> None:
    sounds = {
        said().data,
        said("The keeper lights the door.").data,
        said(speaker="zeus").data,
        said(voice="apollo").data,
        say(model("@cf/deepgram/aura-1"), SpeechInputs(TEXT)).value.data,
    }
    assert len(sounds) == 5
    assert said() == said()


@pytest.mark.parametrize(("speed", "seconds"), [(0.5, 3.73), (1, 1.87), (2, 0.93), (100, 0.47), (0, 7.47)])
def test_speed_makes_it_shorter_within_reason(speed: float, seconds: float) -> None:
    assert read(said(speed=speed).data).seconds == pytest.approx(seconds, abs=0.02)


# Codings

CODINGS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "nothing asked": ({}, (1, 24_000, 16)),
    "linear": ({"encoding": "linear16"}, (1, 24_000, 16)),
    "linear at a rate": ({"encoding": "linear16", "sample_rate": 16_000}, (1, 16_000, 16)),
    "in a WAV file": ({"encoding": "linear16", "container": "wav"}, (1, 24_000, 16)),
    "mu-law": ({"encoding": "mulaw"}, (7, 8000, 8)),
    "A-law": ({"encoding": "alaw", "container": "wav", "sample_rate": 16_000}, (6, 16_000, 8)),
    "MP3, which we have not": ({"encoding": "mp3", "container": "none"}, (1, 24_000, 16)),
    "no container for the default": ({"container": "none"}, (1, 24_000, 16)),
    "Ogg, which we have not": ({"encoding": "opus", "container": "ogg"}, (1, 24_000, 16)),
}


@pytest.mark.parametrize(("fields", "form"), CODINGS.values(), ids=CODINGS)
def test_a_file_says_how_it_is_coded(fields: dict[str, Any], form: tuple[int, int, int]) -> None:
    media = said(**fields)
    assert media.media_type == "audio/wav"
    found = read(media.data)
    assert (found.format, found.rate, found.bits) == form
    assert found.seconds == pytest.approx(1.87, abs=0.01)


BARE = {
    "linear16": ("audio/l16;rate=24000;channels=1", 16),
    "mulaw": ("audio/mulaw;rate=8000;channels=1", 8),
    "alaw": ("audio/alaw;rate=8000;channels=1", 8),
}


@pytest.mark.parametrize(("encoding", "expected"), BARE.items(), ids=BARE)
def test_bare_samples_are_those_of_the_file(encoding: Any, expected: tuple[str, int]) -> None:
    media_type, bits = expected
    bare, file = said(encoding=encoding, container="none"), read(said(encoding=encoding).data)
    assert bare.media_type == media_type
    assert bare.data == file.samples
    assert file.bits == bits


CHANGES: dict[str, tuple[dict[str, Any], list[Change]]] = {
    "nothing asked": ({}, []),
    "what we have": ({"encoding": "mulaw", "container": "none", "sample_rate": 8000, "speed": 1.5}, []),
    "MP3": ({"encoding": "mp3"}, [Change("encoding", "dropped")]),
    "MP3 without a container": (
        {"encoding": "mp3", "container": "none"},
        [Change("encoding", "dropped"), Change("container", "dropped")],
    ),
    "no container for the default": ({"container": "none"}, [Change("container", "dropped")]),
    "Ogg": ({"encoding": "linear16", "container": "ogg"}, [Change("container", "dropped")]),
    "too fast": ({"speed": 5}, [Change("speed", "clamped")]),
    "a bit rate": ({"bit_rate": 32_000}, [Change("bit_rate", "ignored")]),
}


@pytest.mark.parametrize(("fields", "changes"), CHANGES.values(), ids=CHANGES)
def test_what_cannot_be_had_is_told(fields: dict[str, Any], changes: list[Change]) -> None:
    assert changes_to_speech(AURA, SpeechInputs(TEXT, **fields)) == changes


def test_melotts_answers_with_a_file_in_base64() -> None:
    spoken = say_in_base64(MELO, MeloSpeechInputs(TEXT)).value.audio
    assert read(base64.b64decode(spoken, validate=True)).seconds == pytest.approx(1.87, abs=0.01)
    assert spoken != say_in_base64(MELO, MeloSpeechInputs(TEXT, "fr")).value.audio
    assert spoken == say_in_base64(MELO, MeloSpeechInputs(TEXT, "EN")).value.audio


# G.711, decoded as ITU-T G.711 says


def from_mulaw(byte: int) -> int:
    byte = ~byte & 0xFF
    size = (((byte & 0x0F) << 3) + 132 << (byte >> 4 & 7)) - 132
    return -size if byte & 0x80 else size


def from_alaw(byte: int) -> int:
    byte ^= 0x55
    exponent, size = byte >> 4 & 7, ((byte & 0x0F) << 4) + 8
    size = size if exponent == 0 else size + 256 << exponent - 1
    return size if byte & 0x80 else -size


@pytest.mark.parametrize(("encode", "decode"), [(mulaw, from_mulaw), (alaw, from_alaw)])
def test_every_sample_is_near_what_its_byte_says(encode: Any, decode: Any) -> None:
    samples = range(-32_768, 32_768)
    heard = [decode(byte) for byte in encode(struct.pack("<65536h", *samples))]
    assert heard == sorted(heard)
    # Half a step: steps are a 16th of the size with its bias, or 16 where that is more.
    assert all(
        abs(sample - found) <= max(16, (abs(sample) + 132) / 32 + 1)
        for sample, found in zip(samples, heard, strict=True)
    )
    assert set(heard) == {decode(byte) for byte in range(256)}


# WAV files

FMT = b"fmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 2, 44_100, 176_400, 4, 16)
EXTENSIBLE = (
    b"fmt \x28\0\0\0" + struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 32_000, 4, 32, 22, 32, 4) + b"\x03\0" + bytes(14)
)


def riff(*chunks: bytes) -> bytes:
    return b"RIFF\0\0\0\0WAVE" + b"".join(chunks)


def chunk(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(body) if size is None else size) + body


READABLE = {
    "plain": (riff(FMT, chunk(b"data", b"12345678")), Wav(1, 2, 44_100, 16, b"12345678")),
    "with a note before": (riff(chunk(b"LIST", b"note"), FMT, chunk(b"data", b"1234")), Wav(1, 2, 44_100, 16, b"1234")),
    "with an odd note before": (
        riff(chunk(b"LIST", b"odd") + b"\0", FMT, chunk(b"data", b"1234")),
        Wav(1, 2, 44_100, 16, b"1234"),
    ),
    "of no stated length": (riff(FMT, chunk(b"data", b"1234", 0xFFFFFFFF)), Wav(1, 2, 44_100, 16, b"1234")),
    "without samples": (riff(FMT, chunk(b"data", b"")), Wav(1, 2, 44_100, 16, b"")),
    "extensible": (riff(EXTENSIBLE, chunk(b"data", b"1234")), Wav(3, 1, 8000, 32, b"1234")),
}


@pytest.mark.parametrize(("data", "expected"), READABLE.values(), ids=READABLE)
def test_a_file_tells_its_samples(data: bytes, expected: Wav) -> None:
    assert read_wav(data) == expected


UNREADABLE = {
    "nothing": b"",
    "an MP3": b"ID3\x04" + bytes(100),
    "another RIFF file": b"RIFF\0\0\0\0WEBPVP8 " + bytes(100),
    "no chunks": riff(),
    "no samples": riff(FMT),
    "samples before their form": riff(chunk(b"data", b"1234"), FMT),
    "a form that ends": riff(chunk(b"fmt ", b"\x01\0\x01\0"), chunk(b"data", b"1234")),
    "no channels": riff(FMT.replace(b"\x01\0\x02\0", b"\x01\0\0\0"), chunk(b"data", b"1234")),
    "samples nowhere near": riff(FMT, chunk(b"LIST", b"") * 100, chunk(b"data", b"1234")),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_such_file_tells_nothing(data: bytes) -> None:
    assert read_wav(data) is None


@pytest.mark.parametrize("wav", [Wav(1, 1, 8000, 16, b"1234"), Wav(7, 1, 8000, 8, b"123"), Wav(1, 2, 48_000, 16, b"")])
def test_a_file_that_was_written_can_be_read(wav: Wav) -> None:
    data = write_wav(wav)
    assert read_wav(data) == wav
    assert len(data) == 8 + int.from_bytes(data[4:8], "little")
    assert len(data) % 2 == 0


@given(st.sampled_from([data for data, _ in READABLE.values()]), st.integers(0, 60), st.binary(max_size=60))
def test_any_bytes_can_be_read(data: bytes, kept: int, more: bytes) -> None:
    found = read_wav(data[:kept] + more)
    assert found is None or found.seconds >= 0
