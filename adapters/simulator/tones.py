"""A text as sound: a tone a word, as long as saying the word would take."""

from __future__ import annotations

import functools
import math
import re
import struct

from adapters.simulator.fingerprint import fingerprint

LONGEST = 60
"""Seconds."""
_UNIT = 1 / 15
"""Seconds a letter: at 150 words a minute, one of five letters and the pause behind it take 0.4."""
_SYLLABIC = "\u1100"
"""From here on are the scripts that write a syllable, or more, with one character: it takes three letters' time."""
_LETTERS = 1000
"""Of one word."""
_WORD = re.compile(r"\S+")
_SCALE = (0, 2, 4, 7, 9, 12, 14, 16)
"""Semitones above the voice's own tone."""
_LOUDEST = 9000
"""Of 32,767."""
_SWELL = 12
"""Waves in which a tone grows, and those in which it fades: one that is cut off would click."""


def speak(text: str, rate: int, *, voice: str = "", speed: float = 1.0) -> bytes:
    """16-bit little-endian samples of one channel, `rate` of them a second: a minute at most, and never none."""
    ground = 140 * 2 ** (fingerprint("voice", voice)[0] / 256)
    left = LONGEST * rate
    spoken = []
    for found in _WORD.finditer(text):
        spoken.append(_tone(found[0][:_LETTERS], ground, rate, speed)[: 2 * left])
        left -= len(spoken[-1]) // 2
        if not left:
            break
    return b"".join(spoken) or bytes(2 * round(_UNIT * rate))


def _tone(word: str, ground: float, rate: int, speed: float) -> bytes:
    """One pitch a word, then the pause behind it."""
    units = sum(3 if character >= _SYLLABIC else 1 for character in word)
    samples = round((units + 1) * _UNIT * rate / speed)
    pitch = ground * 2 ** (_SCALE[fingerprint(word)[0] % len(_SCALE)] / 12)
    period = round(rate / pitch)
    waves = samples * units // (units + 1) // period
    swell = min(_SWELL, waves // 2)
    growing = [_wave(period, step / (swell + 1)) for step in range(1, swell + 1)]
    sound = b"".join([*growing, _wave(period, 1.0) * (waves - 2 * swell), *reversed(growing)])
    return sound.ljust(2 * samples, b"\0")


@functools.lru_cache(maxsize=4096)
def _wave(period: int, level: float) -> bytes:
    """One wave of `period` samples: a tone with a weaker one an octave above it."""
    turns = [2 * math.pi * step / period for step in range(period)]
    heights = (round(level * _LOUDEST * (0.8 * math.sin(turn) + 0.2 * math.sin(2 * turn))) for turn in turns)
    return struct.pack(f"<{period}h", *heights)
