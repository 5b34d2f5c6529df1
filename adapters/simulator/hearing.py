"""What is said in a recording: words that its bytes decide, at times within its length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import msgspec

from adapters.errors import InvalidRequest
from adapters.simulator.fingerprint import chance
from adapters.simulator.wav import read_wav

_BYTES_PER_SECOND = 16_000
"""Of recordings that do not say how long they are: 128 kbit/s."""
_WORDS_PER_SECOND = 2.5
_FEWEST_WORDS = 3
_MOST_WORDS = 5000
_SENTENCE = range(5, 11)
"""Words."""
_MARK = "(simulated)"
_VOCABULARY = (
    "after along always autumn because before begins between boats bread bridge bright calls carries children clear "
    "coffee comes corner evening every falls field finds garden gentle grows harbour holds house island keeps kitchen "
    "ladder lamp leaves letter light listens little long market meets morning mountain music near never open orange "
    "over paper path people quiet rain reads river road room sails season seven shines short shows silver sings sister "
    "slowly small snow song station stays stone story street summer table takes tells their three through tower train "
    "travels tree turns under valley village waits walks warm water weather wide window winter works writes yellow"
).split()


class Word(msgspec.Struct, frozen=True):
    """Seconds from the start."""

    text: str
    start: float
    end: float


class Recording(msgspec.Struct, frozen=True):
    seconds: float
    sentences: tuple[tuple[Word, ...], ...]

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for sentence in self.sentences for word in sentence)

    @property
    def text(self) -> str:
        return text_of(self.words)


def text_of(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def hear(audio: bytes, *asked: object, prefix: str = "") -> Recording:
    """The recording's words, always the same for the same bytes and `asked`; `prefix` is put before them.

    Raises InvalidRequest if there are no bytes; a WAV file without samples has no words either.
    """
    if not audio:
        raise InvalidRequest("The audio is empty.", param="audio")
    wav = read_wav(audio)
    seconds = len(audio) / _BYTES_PER_SECOND if wav is None else wav.seconds
    if not seconds:
        return Recording(0.0, ())
    begun = [prefix.split()[:_MOST_WORDS]] if prefix.strip() else []
    return Recording(seconds, _timed([*begun, *_sentences(seconds, chance(audio, *asked))], seconds))


def _sentences(seconds: float, heard: Random) -> list[list[str]]:
    left = min(max(_FEWEST_WORDS, round(seconds * _WORDS_PER_SECOND)), _MOST_WORDS)
    sentences = []
    while left > 0:
        words = heard.choices(_VOCABULARY, k=min(left, heard.choice(_SENTENCE)))
        words[0] = words[0].capitalize()
        words[-1] += "."
        sentences.append(words)
        left -= len(words)
    sentences[0].insert(0, _MARK)
    return sentences


def _timed(sentences: list[list[str]], seconds: float) -> tuple[tuple[Word, ...], ...]:
    """Longer words take longer; together they fill the recording."""
    whole = sum(len(word) + 1 for words in sentences for word in words)
    said = 0
    timed = []
    for words in sentences:
        row = []
        for word in words:
            start, end = said / whole, (said + len(word)) / whole
            row.append(Word(word, _milliseconds(start * seconds), _milliseconds(end * seconds)))
            said += len(word) + 1
        timed.append(tuple(row))
    return tuple(timed)


def _milliseconds(seconds: float) -> float:
    """Rounded down, so that nothing ends after the recording."""
    return math.floor(seconds * 1000) / 1000
