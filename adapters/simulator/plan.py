"""An answer as data, and the playing of it.

Whoever decides what to answer (the planner in `chat`, a script) makes a `Plan`; the JSON answer and the
stream both come from the same one, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import msgspec

from adapters.canonical import ChatEvent, ChatResult, Choice, Delta, Finish, ToolCall


class Piece(msgspec.Struct, frozen=True):
    """A piece of the answer and the seconds that pass before it."""

    delta: Delta
    delay: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    pieces: tuple[Piece, ...]
    finish: Finish


async def play(plan: Plan) -> AsyncGenerator[list[ChatEvent], None]:
    """The plan as a stream, one batch a piece, then its finish."""
    for piece in plan.pieces:
        if piece.delay:
            await anyio.sleep(piece.delay)
        yield [piece.delta]
    yield [plan.finish]


async def play_whole(plan: Plan) -> ChatResult:
    """The plan as one result, after the time that all of its pieces take."""
    seconds = sum(piece.delay for piece in plan.pieces)
    if seconds:
        await anyio.sleep(seconds)
    return joined(plan)


def joined(plan: Plan) -> ChatResult:
    """The plan as one result, at once."""
    deltas = [piece.delta for piece in plan.pieces]
    logprobs = [entry for delta in deltas for entry in delta.logprobs or ()]
    choice = Choice(
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        tool_calls=_whole_calls(deltas),
        finish_reason=plan.finish.reason,
        logprobs=logprobs if any(delta.logprobs is not None for delta in deltas) else None,
    )
    return ChatResult(choices=(choice,), usage=plan.finish.usage)


def _whole_calls(deltas: list[Delta]) -> tuple[ToolCall, ...]:
    calls: dict[int, ToolCall] = {}
    for piece in (call for delta in deltas for call in delta.tool_calls):
        begun = calls.get(piece.index) or ToolCall(piece.id, piece.name or "", "")
        calls[piece.index] = ToolCall(begun.id, begun.name, begun.arguments + piece.arguments)
    return tuple(calls[index] for index in sorted(calls))
