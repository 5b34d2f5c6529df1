"""Translations that say what they are not: the text itself, marked with the language it should be in."""

from __future__ import annotations

from adapters.canonical import NativeResult
from adapters.catalogue import Model
from adapters.simulator.tokens import usage_of
from adapters.wire.native.inputs import IndicTranslationInputs, TranslationInputs
from adapters.wire.native.results import Translation, Translations


def translate(model: Model, inputs: TranslationInputs) -> NativeResult:
    text = _marked(inputs.text, inputs.target_lang)
    return NativeResult(Translation(text), usage_of(inputs.text, written=text))


def translate_to_indic(model: Model, inputs: IndicTranslationInputs) -> NativeResult:
    texts = [inputs.text] if isinstance(inputs.text, str) else inputs.text
    marked = [_marked(text, inputs.target_language) for text in texts]
    return NativeResult(Translations(marked), usage_of(*texts, written=" ".join(marked)))


def _marked(text: str, language: str) -> str:
    return f"[{language}] {text}"
