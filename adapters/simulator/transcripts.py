"""A recording's words in the three shapes of the speech recognisers: its bytes, its file's name and the wishes decide.

A name comes with a multipart form or in a Content-Disposition header; what stands in JSON has none.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from adapters.canonical import Change, NativeResult
from adapters.catalogue import Model
from adapters.simulator.fingerprint import chance
from adapters.simulator.hearing import Recording, Word, hear, text_of
from adapters.wire.native import results
from adapters.wire.native.inputs import DeepgramInputs, WhisperInputs, WhisperTurboInputs

_LANGUAGE = "en"
_SPOKEN_SHARE = 0.9
"""Of a recording, when its silences are filtered out."""


def transcribe(model: Model, inputs: WhisperInputs) -> NativeResult:
    heard = hear(inputs.audio, inputs.audio.filename, model.id, inputs.source_lang, inputs.target_lang)
    words = _words(heard.words)
    return NativeResult(results.Transcript(heard.text, len(words), words, vtt(heard)))


def transcribe_in_segments(model: Model, inputs: WhisperTurboInputs) -> NativeResult:
    """whisper-large-v3-turbo, which says more about each sentence."""
    language = inputs.language or _LANGUAGE
    asked = (inputs.audio.filename, model.id, inputs.task, language, inputs.initial_prompt)
    heard = hear(inputs.audio, *asked, prefix=inputs.prefix or "")
    told = results.TranscriptionInfo(
        language=language,
        language_probability=1.0 if inputs.language else round(chance(inputs.audio).uniform(0.9, 0.999), 4),
        duration=heard.seconds,
        duration_after_vad=heard.seconds * _SPOKEN_SHARE if inputs.vad_filter else heard.seconds,
    )
    segments = [_segment(sentence) for sentence in heard.sentences]
    return NativeResult(results.TurboTranscript(heard.text, len(heard.words), vtt(heard), segments, told))


def _segment(sentence: Sequence[Word]) -> results.Segment:
    text = text_of(sentence)
    sure = chance(text)
    data = text.encode("utf-8", "surrogatepass")
    return results.Segment(
        start=sentence[0].start,
        end=sentence[-1].end,
        text=text,
        temperature=0.0,
        avg_logprob=round(-sure.uniform(0.1, 0.4), 4),
        compression_ratio=round(len(data) / len(zlib.compress(data)), 4),
        no_speech_prob=round(sure.uniform(0.001, 0.05), 4),
        words=_words(sentence),
    )


def transcribe_for_deepgram(model: Model, inputs: DeepgramInputs) -> NativeResult:
    """nova-3: one channel. Capitals and full stops only where they are asked for."""
    heard = hear(inputs.audio, inputs.audio.filename, model.id, inputs.language)
    sure = chance(inputs.audio, "confidence")
    words = [
        results.DeepgramWord(_bare(word.text), word.start, word.end, round(sure.uniform(0.9, 0.9999), 6))
        for word in heard.words
    ]
    punctuated = _is_on(inputs.punctuate) or _is_on(inputs.smart_format)
    transcript = heard.text if punctuated else " ".join(word.word for word in words)
    confidence = round(sum(word.confidence for word in words) / len(words), 6) if words else 0.0
    alternative = results.Alternative(transcript, confidence, words)
    return NativeResult(results.DeepgramTranscript(results.Channels([results.Channel([alternative])])))


def changes_for_deepgram(model: Model, inputs: DeepgramInputs) -> list[Change]:
    """What would show in parts of the answer that are not made here."""
    unmet = {"diarize": inputs.diarize, "detect_language": inputs.detect_language}
    return [Change(field, "dropped") for field, value in unmet.items() if _is_on(value)]


def _is_on(value: str | bool | None) -> bool:
    """Options from a query string are text; one without a value counts."""
    return value if isinstance(value, bool) else value is not None and value.lower() in ("true", "1", "")


def _bare(word: str) -> str:
    return word.strip("().").lower()


def _words(words: Sequence[Word]) -> list[results.Word]:
    return [results.Word(word.text, word.start, word.end) for word in words]


def vtt(heard: Recording) -> str:
    """WebVTT with a cue for each sentence."""
    cues = [f"{_clock(row[0].start)} --> {_clock(row[-1].end)}\n{text_of(row)}\n" for row in heard.sentences]
    return "\n".join(["WEBVTT\n", *cues])


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
