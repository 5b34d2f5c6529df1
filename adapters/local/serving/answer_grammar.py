"""The grammar of a whole answer: reasoning, which is free, then what was asked for, as the model's family writes it."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.local.serving.calls.harmony import CHANNEL, MESSAGE, START
from adapters.local.serving.calls.syntax import CallSyntax
from adapters.local.serving.lark import BLANKS, TEXT, Lark
from adapters.local.serving.turns import TurnFormat

Offers = Mapping[str, str]
"""Names of the tools that may be called, and the rules of their arguments."""


def forced(lark: Lark, turn: TurnFormat, offers: Offers, *, several: bool) -> str:
    """One call or several, and nothing beside them."""
    return f"{_reasoning(lark, turn)} {_calls(lark, turn, offers, several=several)}"


def document(lark: Lark, turn: TurnFormat, schema: str, offers: Offers, *, several: bool) -> str:
    """JSON that fits the schema; or calls, where tools are offered."""
    answer = f"{_final(lark, turn)} {lark.schema(schema)}"
    if turn.calls is not None:
        answer = f"({answer} | {_calls(lark, turn, offers, several=several)})"
    return f"{_reasoning(lark, turn)} {answer}"


def optional(lark: Lark, turn: TurnFormat, offers: Offers, *, several: bool) -> str:
    """Free text in which calls, once begun, are written as they should be."""
    calls = _syntax(turn)
    reasoning = _reasoning(lark, turn)
    if turn.harmony:
        return f"{reasoning} ({_final(lark, turn)} {TEXT}? | {_calls(lark, turn, offers, several=False)})"
    begin = calls.opening + calls.head
    marker = next((marker for marker in calls.markers if begin.startswith(marker)), None)
    if marker is None:  # only an answer that begins as a call does is one
        begins = [begin] if begin else [name + calls.middle for name in offers]
        return f"{reasoning} ({_calls(lark, turn, offers, several=several)} | {lark.other_than(begins)})?"
    times = "*" if several else "?"
    rest = _rest_of_calls(lark, calls, offers, several=several)
    if lark.is_token(marker):
        return f"{reasoning} {TEXT}? ({lark.literal(begin)} {rest} {TEXT}?){times}"
    # The marker ends the text before it wherever it comes, since what `until` gives is lazy.
    one = f"{lark.until(marker)} {lark.literal(begin.removeprefix(marker))} {rest}"
    return f"{reasoning} ({one}){times} {TEXT}?"


def _syntax(turn: TurnFormat) -> CallSyntax:
    assert turn.calls is not None, "tools are offered to models that can call them alone"
    return turn.calls


def _calls(lark: Lark, turn: TurnFormat, offers: Offers, *, several: bool) -> str:
    calls = _syntax(turn)
    rest = _rest_of_calls(lark, calls, offers, several=several and not turn.harmony)
    return f"{lark.literal(calls.opening + calls.head)} {rest}"


def _rest_of_calls(lark: Lark, calls: CallSyntax, offers: Offers, *, several: bool) -> str:
    """Calls behind the head of the first."""
    tail = lark.literal(calls.tail)
    one = lark.one_of(f"{lark.literal(name + calls.middle)} {offers[name]} {tail}" for name in offers)
    again = f"({lark.literal(calls.separator + calls.head)} {one})*" if several else ""
    return f"{one} {again} {lark.literal(calls.closing)}"


def _reasoning(lark: Lark, turn: TurnFormat) -> str:
    """What comes before the answer proper, and is free."""
    if turn.harmony:
        message = f"{lark.literal(MESSAGE)} {lark.until('<|end|>')} {lark.literal(f'{START}assistant')}"
        return f'({lark.literal(CHANNEL)} ("analysis" | "commentary") {message})*'
    if turn.thought is None:
        return ""
    end = f"{lark.until(turn.thought.close.strip())} {BLANKS}?"
    if turn.thinking:
        return end
    return f"({lark.literal(turn.thought.open.strip())} {end})?"


def _final(lark: Lark, turn: TurnFormat) -> str:
    return lark.literal(f"{CHANNEL}final{MESSAGE}") if turn.harmony else ""
