"""Which family of models a chat template belongs to: how such models mark their reasoning and write their calls.

Recognised by what the template itself says, never by the folder's name: fine-tuned models keep their template.
"""

from __future__ import annotations

from typing import NamedTuple

from adapters.local.serving.calls.deepseek import DEEPSEEK, DEEPSEEK_FENCED
from adapters.local.serving.calls.gemma import GEMMA
from adapters.local.serving.calls.glm import GLM_LINE, GLM_TAGS
from adapters.local.serving.calls.harmony import HARMONY
from adapters.local.serving.calls.hermes import HERMES
from adapters.local.serving.calls.llama import LLAMA
from adapters.local.serving.calls.mistral import MISTRAL_LIST, MISTRAL_NAMED
from adapters.local.serving.calls.phi import PHI
from adapters.local.serving.calls.qwen_tags import QWEN_TAGS
from adapters.local.serving.calls.syntax import CallSyntax
from adapters.local.serving.turns import Thought

_SYNTAXES: tuple[tuple[tuple[str, ...], CallSyntax], ...] = (
    (("<|channel|>", "<|message|>"), HARMONY),
    (("<|tool_call>call:",), GEMMA),
    (("<arg_key>", "<arg_value>"), GLM_TAGS),
    (("<function=", "<parameter="), QWEN_TAGS),
    (("<tool_call>",), HERMES),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL_NAMED),
    (("[TOOL_CALLS]",), MISTRAL_LIST),
    (("<\uff5ctool\u2581calls\u2581begin\uff5c>", "```json"), DEEPSEEK_FENCED),
    (("<\uff5ctool\u2581calls\u2581begin\uff5c>",), DEEPSEEK),
    (("<|tool_call|>",), PHI),
    (("<|tool|>",), PHI),
    (("<|start_header_id|>", '"parameters"'), LLAMA),
    (("<|observation|>",), GLM_LINE),
)
"""Texts of a template, all of which it has, and the syntax of calls that they tell. The first that fits counts."""

_THOUGHTS = (
    Thought("<think>", "</think>"),
    Thought("[THINK]", "[/THINK]"),
    Thought("<|channel>thought\n", "<channel|>"),
    Thought("<seed:think>", "</seed:think>"),
)


class Family(NamedTuple):
    thought: Thought | None
    calls: CallSyntax

    @property
    def harmony(self) -> bool:
        return self.calls is HARMONY


def family_of(template: str) -> Family:
    """The family of a chat template; calls in a way unknown here are read as most models write them, Hermes'."""
    calls = next((syntax for texts, syntax in _SYNTAXES if all(text in template for text in texts)), HERMES)
    thought = next((thought for thought in _THOUGHTS if thought.open.strip() in template), None)
    return Family(None if calls is HARMONY else thought, calls)
