"""Text to speech as real sound: 16-bit WAV, or the telephone codings where those are asked for.

Cloudflare's own default is MP3, and melotts answers with nothing else. There is no MP3, AAC, Opus or FLAC encoder
here: who asks for one of these gets WAV, marked `audio/wav`, and a listed change; who asks for nothing gets WAV.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

import msgspec

from adapters.canonical import Change, Media, NativeResult
from adapters.catalogue import Model
from adapters.simulator.g711 import alaw, mulaw
from adapters.simulator.tones import speak
from adapters.simulator.wav import ALAW, MULAW, PCM, Wav, write_wav
from adapters.wire.native.inputs import MeloSpeechInputs, SpeechInputs
from adapters.wire.native.results import Base64Audio


class _Coding(msgspec.Struct, frozen=True):
    """`media_type` is that of the samples without a container; `rate` the one that nobody need ask for."""

    format: int
    bits: int
    rate: int
    media_type: str
    encode: Callable[[bytes], bytes]


_LINEAR = _Coding(PCM, 16, 24_000, "audio/l16;rate={rate};channels=1", bytes)
_CODINGS: Mapping[str, _Coding] = {
    "linear16": _LINEAR,
    "mulaw": _Coding(MULAW, 8, 8000, "audio/mulaw;rate={rate};channels=1", mulaw),
    "alaw": _Coding(ALAW, 8, 8000, "audio/alaw;rate={rate};channels=1", alaw),
}
_SPEEDS = (0.25, 4.0)


def say(model: Model, inputs: SpeechInputs) -> NativeResult:
    """aura: the container `none` gives bare samples, if the encoding is one that we have."""
    coding = _CODINGS.get(inputs.encoding or "", _LINEAR)
    rate = inputs.sample_rate or coding.rate
    voice = f"{model.id} {inputs.speaker or inputs.voice}"
    spoken = coding.encode(speak(inputs.text, rate, voice=voice, speed=_speed(inputs)))
    if inputs.container == "none" and inputs.encoding in _CODINGS:
        return NativeResult(Media(spoken, coding.media_type.format(rate=rate)))
    return NativeResult(Media(write_wav(Wav(coding.format, 1, rate, coding.bits, spoken)), "audio/wav"))


def changes_to_speech(model: Model, inputs: SpeechInputs) -> list[Change]:
    """What cannot be had as it is asked for."""
    unmet = {
        "encoding": inputs.encoding is not None and inputs.encoding not in _CODINGS,
        "container": inputs.container == "ogg" or (inputs.container == "none" and inputs.encoding not in _CODINGS),
    }
    changes = [Change(field, "dropped") for field, dropped in unmet.items() if dropped]
    if inputs.speed is not None and _speed(inputs) != inputs.speed:
        changes.append(Change("speed", "clamped"))
    if inputs.bit_rate is not None:
        changes.append(Change("bit_rate", "ignored"))
    return changes


def _speed(inputs: SpeechInputs) -> float:
    slowest, fastest = _SPEEDS
    return 1.0 if inputs.speed is None else min(fastest, max(slowest, inputs.speed))


def say_in_base64(model: Model, inputs: MeloSpeechInputs) -> NativeResult:
    spoken = speak(inputs.prompt, _LINEAR.rate, voice=f"{model.id} {inputs.lang.lower()}")
    wav = write_wav(Wav(PCM, 1, _LINEAR.rate, _LINEAR.bits, spoken))
    return NativeResult(Base64Audio(base64.b64encode(wav).decode()))
