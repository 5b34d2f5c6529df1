"""Whether a speaker has finished: likely where the end of a recording is quieter than the rest of it."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

import msgspec

from adapters.canonical import NativeResult
from adapters.catalogue import Model
from adapters.errors import InvalidRequest
from adapters.simulator.fingerprint import chance
from adapters.simulator.wav import FLOAT, PCM, Wav, read_wav
from adapters.wire.native.inputs import TurnInputs
from adapters.wire.native.results import Turn

_RATE = 16_000
"""Samples a second of bare samples: what the model reads."""
_HEARD = 8
_TAIL = 0.25
"""Seconds that are looked at, and of them those at the end."""
_MOST = 400_000
"""Samples that are looked at."""
_LOUDEST = 2.0**40
"""Beyond what any sound reaches."""
_MIDDLE = 0.6
"""Of the loudness of all: with so loud an end it may be either."""
_STEEPNESS = 8.0
_GRAIN = 0.2


class _Samples(msgspec.Struct, frozen=True):
    """How samples are stored: `struct`'s letter, and the number that stands for silence."""

    letter: str
    silence: int = 0


_STORED: Mapping[tuple[int, int], _Samples] = {
    (PCM, 8): _Samples("B", silence=128),
    (PCM, 16): _Samples("h"),
    (PCM, 32): _Samples("i"),
    (FLOAT, 32): _Samples("f"),
    (FLOAT, 64): _Samples("d"),
}
_DTYPES = {"uint8": (PCM, 8), "float32": (FLOAT, 32), "float64": (FLOAT, 64)}


def turn(model: Model, inputs: TurnInputs) -> NativeResult:
    """A WAV file tells how its samples are stored, `dtype` tells it of bare ones; of other files chance decides.

    Raises InvalidRequest if there are no bytes.
    """
    if not inputs.audio:
        raise InvalidRequest("The audio is empty.", param="audio")
    probability = round(_probability(inputs), 6)
    return NativeResult(Turn(is_complete=probability > 0.5, probability=probability))


def _probability(inputs: TurnInputs) -> float:
    heard = chance(inputs.audio)
    wav = read_wav(inputs.audio)
    if wav is None and inputs.dtype is not None:
        format, bits = _DTYPES[inputs.dtype]
        wav = Wav(format, 1, _RATE, bits, inputs.audio)
    stored = None if wav is None else _STORED.get((wav.format, wav.bits))
    if wav is None or stored is None:
        return heard.random()
    ratio = _ending(wav, stored)
    return 1 / (1 + math.exp(_STEEPNESS * (ratio - _MIDDLE) + _GRAIN * (2 * heard.random() - 1)))


def _ending(wav: Wav, stored: _Samples) -> float:
    """How loud the end is beside all that is looked at; 0 where all is silent."""
    size = wav.bits // 8
    per_second = wav.rate * wav.channels
    number = len(wav.samples) // size
    taken = min(number, round(_HEARD * per_second), _MOST)
    samples = struct.unpack_from(f"<{taken}{stored.letter}", wav.samples, (number - taken) * size)
    whole = _loudness(samples, stored.silence)
    return _loudness(samples[-max(1, round(_TAIL * per_second)) :], stored.silence) / whole if whole else 0.0


def _loudness(samples: Sequence[float], silence: int) -> float:
    """Root of the mean square; what is infinite or no number counts as the loudest."""
    bounded = [max(-_LOUDEST, min(_LOUDEST, sample - silence)) for sample in samples]
    return math.sqrt(sum(value * value for value in bounded) / (len(bounded) or 1))
