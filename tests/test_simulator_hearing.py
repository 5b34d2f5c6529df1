"""What the simulator hears: words that the recording decides, at times within it, and whether somebody has finished."""

from __future__ import annotations

import math
import re
import struct
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.canonical import Change
from adapters.catalogue import Model, load_snapshot
from adapters.errors import InvalidRequest
from adapters.simulator.transcripts import (
    changes_for_deepgram,
    transcribe,
    transcribe_for_deepgram,
    transcribe_in_segments,
)
from adapters.simulator.turns import turn
from adapters.simulator.wav import Wav, write_wav
from adapters.wire.native.blob import Blob
from adapters.wire.native.inputs import DeepgramInputs, TurnInputs, WhisperInputs, WhisperTurboInputs
from adapters.wire.native.results import Alternative, Transcript, TurboTranscript, Turn
from tests.support.effort import soon

CATALOGUE = load_snapshot()


def model(id: str) -> Model:
    found = CATALOGUE.get(id)
    assert found is not None
    return found


WHISPER = model("@cf/openai/whisper")
TURBO = model("@cf/openai/whisper-large-v3-turbo")
NOVA = model("@cf/deepgram/nova-3")
SMART_TURN = model("@cf/pipecat-ai/smart-turn-v2")


def recording(seconds: float = 4.0, mark: bytes = b"") -> bytes:
    return write_wav(Wav(1, 1, 8000, 16, (mark + bytes(round(16_000 * seconds)))[: round(16_000 * seconds)]))


def heard(audio: bytes, **fields: Any) -> Transcript:
    found: Transcript = transcribe(WHISPER, WhisperInputs(Blob(audio), **fields)).value
    return found


def turbo(audio: bytes, **fields: Any) -> TurboTranscript:
    found: TurboTranscript = transcribe_in_segments(TURBO, WhisperTurboInputs(Blob(audio), **fields)).value
    return found


def deepgram(audio: bytes, **fields: Any) -> Alternative:
    result = transcribe_for_deepgram(NOVA, DeepgramInputs(Blob(audio), **fields)).value.results
    (channel,) = result.channels
    found: Alternative
    (found,) = channel.alternatives
    return found


# Words


def test_a_transcript_says_that_it_is_simulated() -> None:
    assert heard(recording()).text.startswith("(simulated) ")


def test_a_transcript_is_that_of_its_recording() -> None:
    assert heard(recording(mark=b"a")) == heard(recording(mark=b"a"))
    assert len({heard(recording(mark=bytes([byte]))).text for byte in range(20)}) == 20


@pytest.mark.parametrize(("seconds", "words"), [(0.1, 4), (2, 6), (60, 151), (600, 1501)])
def test_the_number_of_words_follows_the_length(seconds: float, words: int) -> None:
    assert heard(recording(seconds)).word_count == words


def test_a_recording_that_does_not_say_its_length_has_one_by_its_size() -> None:
    assert turbo(bytes(32_000)).transcription_info.duration == 2.0


@given(st.floats(0.001, 30), st.binary(max_size=4))
def test_words_follow_each_other_within_the_recording(seconds: float, mark: bytes) -> None:
    audio = recording(max(seconds, 1 / 8000), mark)
    found = heard(audio)
    length = turbo(audio).transcription_info.duration
    assert found.word_count == len(found.words) == len(found.text.split())
    assert " ".join(word.word for word in found.words) == found.text
    assert 0 <= found.words[0].start
    assert found.words[-1].end <= length
    assert all(word.start <= word.end for word in found.words)
    assert all(word.end <= after.start for word, after in pairwise(found.words))


def test_a_recording_without_samples_has_no_words() -> None:
    audio = recording(0)
    assert heard(audio) == Transcript("", 0, [], "WEBVTT\n")
    assert turbo(audio).segments == []
    assert deepgram(audio) == Alternative("", 0.0, [])


def test_a_recording_of_hours_is_soon_heard() -> None:
    with soon():
        found = heard(write_wav(Wav(1, 1, 8, 8, bytes(1_000_000))))
    assert found.word_count == 5001
    assert found.vtt.rstrip().splitlines()[-2].split(" --> ")[1].startswith("34:43:")


@pytest.mark.parametrize("hear", [heard, turbo, deepgram])
def test_an_empty_recording_is_refused(hear: Any) -> None:
    with pytest.raises(InvalidRequest, match="audio is empty") as refused:
        hear(b"")
    assert refused.value.param == "audio"


CUE = re.compile(r"(\d\d):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d\d):([0-5]\d):([0-5]\d)\.(\d{3})\n(.+)\n")


@pytest.mark.parametrize("seconds", [0.5, 7, 130])
def test_the_subtitles_are_well_formed(seconds: float) -> None:
    found = heard(recording(seconds))
    head, *cues = found.vtt.split("\n\n")
    assert head == "WEBVTT"
    spoken = []
    last = 0
    for cue in cues:
        match = CUE.fullmatch(cue.removesuffix("\n") + "\n")
        assert match is not None
        times = [int(part) for part in match.groups()[:8]]
        start, end = (
            ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest
            for hours, minutes, seconds, rest in (times[:4], times[4:])
        )
        assert last <= start < end <= seconds * 1000
        last = end
        spoken.append(match[9])
    assert " ".join(spoken) == found.text


# Whisper, large


def test_segments_are_the_sentences_of_the_text() -> None:
    found = turbo(recording(20))
    assert len(found.segments) > 3
    assert " ".join(segment.text for segment in found.segments) == found.text
    assert sum(len(segment.words) for segment in found.segments) == found.word_count
    for segment in found.segments:
        assert segment.start == segment.words[0].start
        assert segment.end == segment.words[-1].end
        assert segment.avg_logprob < 0 < segment.no_speech_prob < 1


TOLD: dict[str, tuple[dict[str, Any], tuple[str, bool, float]]] = {
    "nothing": ({}, ("en", False, 4.0)),
    "a language": ({"language": "fr"}, ("fr", True, 4.0)),
    "a filter": ({"vad_filter": True}, ("en", False, 3.6)),
}


@pytest.mark.parametrize(("fields", "expected"), TOLD.values(), ids=TOLD)
def test_language_and_length_are_told(fields: dict[str, Any], expected: tuple[str, bool, float]) -> None:
    told = turbo(recording(4), **fields).transcription_info
    language, sure, seconds = expected
    assert told.language == language
    assert (told.language_probability == 1.0) is sure
    assert 0.9 <= told.language_probability <= 1
    assert told.duration == 4.0
    assert told.duration_after_vad == pytest.approx(seconds)


def test_the_text_begins_with_its_prefix() -> None:
    found = turbo(recording(), prefix="  Dear \n listeners, ")
    assert found.text.startswith("Dear listeners, (simulated) ")
    assert found.segments[0].text == "Dear listeners,"
    assert turbo(recording(), prefix=" ") == turbo(recording())


ASKED: list[dict[str, Any]] = [{}, {"task": "translate"}, {"language": "fr"}, {"initial_prompt": "Lighthouses"}]


def test_what_is_asked_for_decides_the_words() -> None:
    assert len({turbo(recording(), **fields).text for fields in ASKED}) == len(ASKED)
    assert heard(recording(), source_lang="fr") != heard(recording())


# Deepgram


def test_deepgram_punctuates_where_that_is_asked_for() -> None:
    bare = deepgram(recording()).transcript
    assert re.fullmatch(r"[a-z]+( [a-z]+)*", bare)
    assert bare.startswith("simulated ")
    for fields in ({"punctuate": True}, {"punctuate": "true"}, {"smart_format": ""}, {"smart_format": "1"}):
        marked = deepgram(recording(), **fields).transcript
        assert re.sub(r"[(.)]", "", marked).lower() == bare
        assert marked.endswith(".")
    for off in ({"punctuate": False}, {"punctuate": "false"}, {"punctuate": None}):
        assert deepgram(recording(), **off).transcript == bare


def test_deepgram_is_as_sure_as_of_its_words() -> None:
    found = deepgram(recording())
    assert " ".join(word.word for word in found.words) == found.transcript
    assert found.confidence == pytest.approx(sum(word.confidence for word in found.words) / len(found.words), abs=1e-5)
    assert all(0.9 <= word.confidence < 1 for word in found.words)


DROPPED: dict[str, tuple[dict[str, Any], list[Change]]] = {
    "nothing": ({}, []),
    "speakers": ({"diarize": "true"}, [Change("diarize", "dropped")]),
    "no speakers": ({"diarize": "false"}, []),
    "the language": ({"detect_language": True}, [Change("detect_language", "dropped")]),
}


@pytest.mark.parametrize(("fields", "changes"), DROPPED.values(), ids=DROPPED)
def test_what_deepgram_would_tell_besides_is_listed(fields: dict[str, Any], changes: list[Change]) -> None:
    assert changes_for_deepgram(NOVA, DeepgramInputs(Blob(b"x"), **fields)) == changes


# Turns


def turned(audio: bytes, **fields: Any) -> Turn:
    found: Turn = turn(SMART_TURN, TurnInputs(Blob(audio), **fields)).value
    return found


def tone(seconds: float, rate: int = 16_000) -> list[float]:
    return [math.sin(step / 5) for step in range(round(seconds * rate))]


def silence(seconds: float, rate: int = 16_000) -> list[float]:
    return [0.0] * round(seconds * rate)


def packed(letter: str, samples: list[float]) -> bytes:
    scale, zero = {"B": (100, 128), "h": (20_000, 0), "i": (2**30, 0)}.get(letter, (0, 0))
    stored = [round(sample * scale) + zero for sample in samples] if scale else samples
    return struct.pack(f"<{len(samples)}{letter}", *stored)


STORED = {
    "8-bit WAV": ("B", (1, 8), None),
    "16-bit WAV": ("h", (1, 16), None),
    "32-bit WAV": ("i", (1, 32), None),
    "WAV of floats": ("f", (3, 32), None),
    "WAV, whatever is said of it": ("h", (1, 16), "float32"),
    "bare bytes": ("B", None, "uint8"),
    "bare floats": ("f", None, "float32"),
    "bare doubles": ("d", None, "float64"),
}


@pytest.mark.parametrize(("letter", "form", "dtype"), STORED.values(), ids=STORED)
def test_a_speaker_who_falls_silent_has_finished(letter: str, form: tuple[int, int] | None, dtype: Any) -> None:
    def ends(samples: list[float]) -> Turn:
        data = packed(letter, samples)
        return turned(write_wav(Wav(form[0], 1, 16_000, form[1], data)) if form else data, dtype=dtype)

    finished, speaking = ends(tone(1) + silence(0.5)), ends(silence(0.5) + tone(1))
    assert (finished.is_complete, speaking.is_complete) == (True, False)
    assert speaking.probability < 0.2 < 0.8 < finished.probability


def test_only_the_last_seconds_count() -> None:
    long = tone(10) + silence(9)
    assert turned(packed("f", long), dtype="float32").is_complete
    assert turned(packed("f", silence(9)), dtype="float32").is_complete


def test_two_channels_are_heard_together() -> None:
    both = [sample for sample in tone(1) + silence(0.5) for _ in range(2)]
    assert turned(write_wav(Wav(1, 2, 16_000, 16, packed("h", both)))).is_complete


def test_of_other_recordings_chance_decides() -> None:
    answers = [turned(b"ID3" + bytes([byte])) for byte in range(40)]
    assert {answer.is_complete for answer in answers} == {True, False}
    assert answers == [turned(b"ID3" + bytes([byte])) for byte in range(40)]
    assert turned(write_wav(Wav(7, 1, 8000, 8, b"mu-law"))) == turned(write_wav(Wav(7, 1, 8000, 8, b"mu-law")))


def test_a_long_recording_is_soon_heard() -> None:
    audio = Random(1).randbytes(8_000_000)
    with soon():
        turned(audio, dtype="float64")
        turned(write_wav(Wav(1, 2, 192_000, 16, audio)))


@given(st.binary(min_size=1, max_size=60), st.sampled_from([None, "uint8", "float32", "float64"]))
def test_any_bytes_have_a_probability(audio: bytes, dtype: Any) -> None:
    found = turned(audio, dtype=dtype)
    assert 0 <= found.probability <= 1
    assert found.is_complete is (found.probability > 0.5)


def test_an_empty_turn_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        turned(b"")
