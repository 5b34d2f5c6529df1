"""A draft as a plan: cut at `max_tokens`, split into pieces, timed and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

from adapters.canonical import (
    ChatRequest,
    Delta,
    Finish,
    FinishReason,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from adapters.simulator.draft import Draft
from adapters.simulator.logprobs import logprobs
from adapters.simulator.plan import Piece, Plan
from adapters.simulator.tokens import split

_PIECE_TOKENS = 4
"""Tokens that come at once where no space parts them, as in JSON."""


class Pacing(NamedTuple):
    """Seconds before the first piece, and between two pieces in the mean."""

    first: float
    between: float


class _Allowance:
    """What is left of `max_tokens`."""

    def __init__(self, most: int | None) -> None:
        self.left = most
        self.spent = 0
        self.ran_out = False

    def take(self, tokens: list[str]) -> list[str]:
        """As many of these tokens, from the first, as are still allowed."""
        taken = tokens if self.left is None else tokens[: self.left]
        self.ran_out = self.ran_out or len(taken) < len(tokens)
        self.spent += len(taken)
        if self.left is not None:
            self.left -= len(taken)
        return taken

    def take_all(self, tokens: list[str]) -> bool:
        """Take these tokens if all of them are still allowed, else none."""
        fits = self.left is None or len(tokens) <= self.left
        self.ran_out = self.ran_out or not fits
        return fits and len(self.take(tokens)) == len(tokens)


def plan_of(answer: Draft, request: ChatRequest, prompt_tokens: int, pacing: Pacing, rng: Random) -> Plan:
    """The plan that plays an answer, with a usage that adds up and the reason why it ends."""
    allowance = _Allowance(request.max_tokens)
    deltas = [Delta(reasoning="".join(group)) for group in _groups(allowance.take(split(answer.reasoning)))]
    reasoning_tokens = allowance.spent
    for group in _groups(allowance.take(split(answer.text))):
        deltas.append(Delta(text="".join(group), logprobs=_logprobs(group, request, rng)))
    for index, call in enumerate(answer.calls):
        deltas += _call_deltas(index, call, allowance)
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=allowance.spent, reasoning_tokens=reasoning_tokens)
    reason: FinishReason = "length" if allowance.ran_out else "tool_calls" if answer.calls else "stop"
    return Plan(tuple(_timed(deltas, pacing, rng)), Finish(reason, usage))


def _groups(tokens: Iterable[str]) -> Iterator[list[str]]:
    """Tokens in the pieces in which they are sent: a word with the space before it, else a few at once."""
    group: list[str] = []
    for token in tokens:
        if group and (token[0].isspace() or len(group) == _PIECE_TOKENS):
            yield group
            group = []
        group.append(token)
    if group:
        yield group


def _logprobs(tokens: list[str], request: ChatRequest, rng: Random) -> list[Any] | None:
    return logprobs(tokens, request.top_logprobs or 0, rng) if request.logprobs else None


def _call_deltas(index: int, call: ToolCall, allowance: _Allowance) -> list[Delta]:
    """A call in pieces, its name whole in the first; none if no token is left for it."""
    if not allowance.take_all(split(call.name)):
        return []
    deltas = [Delta(tool_calls=(ToolCallDelta(index, call.id, call.name),))]
    for group in _groups(allowance.take(split(call.arguments))):
        deltas.append(Delta(tool_calls=(ToolCallDelta(index, arguments="".join(group)),)))
    return deltas


def _timed(deltas: Iterable[Delta], pacing: Pacing, rng: Random) -> Iterator[Piece]:
    for at, delta in enumerate(deltas):
        delay = pacing.between * (0.5 + rng.random()) if at else pacing.first
        yield Piece(delta, delay)
