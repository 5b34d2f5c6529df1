"""Streams cut to pieces, and events put together again, so that both can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

from adapters.canonical import ChatEvent, Delta, Finish, ToolCallDelta

T = TypeVar("T", covariant=True)


class Decoder(Protocol[T]):
    """Anything that takes bytes piece by piece."""

    def feed(self, chunk: bytes, /) -> Sequence[T]: ...

    def close(self) -> Sequence[T]: ...


def play(decoder: Decoder[T], pieces: Iterable[bytes]) -> list[T]:
    """Everything that the decoder makes of the pieces and of their end. Raises what it had to put off."""
    events = [*(event for piece in pieces for event in decoder.feed(piece)), *decoder.close()]
    if failure := getattr(decoder, "failure", None):
        raise failure
    return events


def pieces_of(wire: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The bytes, cut at these places."""
    edges = [0, *sorted(cuts), len(wire)]
    return [wire[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def each_cut(wire: bytes) -> Iterator[list[bytes]]:
    """The bytes in two, for every place; then byte by byte."""
    for at in range(len(wire) + 1):
        yield [wire[:at], wire[at:]]
    yield pieces_of(wire, range(1, len(wire)))


def cuts_of(wire: bytes) -> st.SearchStrategy[list[bytes]]:
    """The bytes cut at any number of places, some of them twice."""
    return st.lists(st.integers(0, len(wire)), max_size=40).map(lambda cuts: pieces_of(wire, cuts))


def merged(events: Iterable[ChatEvent]) -> list[ChatEvent]:
    """The same answer in as few events as can say it: neighbours of one kind are joined."""
    out: list[ChatEvent] = []
    for event in events:
        for atom in [event] if isinstance(event, Finish) else _atoms(event):
            joined = _joined(out[-1], atom) if out else None
            if joined is None:
                out.append(atom)
            else:
                out[-1] = joined
    return out


def _atoms(delta: Delta) -> Iterator[Delta]:
    """One delta as several of one kind each, in the order in which a client reads them."""
    if delta.reasoning:
        yield Delta(reasoning=delta.reasoning)
    if delta.text or delta.logprobs:
        yield Delta(delta.text, logprobs=delta.logprobs or None)
    for call in delta.tool_calls:
        yield Delta(tool_calls=(call,))


def _joined(left: ChatEvent, right: ChatEvent) -> Delta | None:
    """Two atoms as one; `None` where they are of different kinds."""
    if isinstance(left, Finish) or isinstance(right, Finish):
        return None
    if left.tool_calls and right.tool_calls:
        (a,), (b,) = left.tool_calls, right.tool_calls
        if a.index != b.index or b.name is not None:
            return None
        return Delta(tool_calls=(ToolCallDelta(a.index, a.id, a.name, a.arguments + b.arguments),))
    if left.tool_calls or right.tool_calls or bool(left.reasoning) != bool(right.reasoning):
        return None
    logprobs = [*(left.logprobs or ()), *(right.logprobs or ())]
    return Delta(left.text + right.text, left.reasoning + right.reasoning, logprobs=logprobs or None)
