"""Which of several replicas takes a request: decided from plain values, the same in every process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from adapters.canonical import ChatRequest, ImagePart, Message

MOST_EXCESS = 64.0
"""Load by which the replica of a conversation may exceed the least loaded one, whatever their ratio.

Both limits are those of the Shepherd gateway's `cache_aware` policy, read 2026-11.
"""
MOST_RATIO = 1.5

_DIGEST = 8  # bytes
_IMAGE = 1024  # characters of an image's address; a data URI may hold megabytes


def load_of(open_requests: int, waiting: int, weight: float) -> float:
    """How much there is to do before one more request is served. `waiting` is what the engine itself reports."""
    return (open_requests + waiting + 1) / weight


def conversation_key(tenant: str, request: ChatRequest) -> bytes:
    """Equal for all turns of one conversation: what was said before the model first spoke does not change.

    What is hashed are the model, whose conversation it is, and the turns up to the first that is not the system's, for
    an engine's prefix cache is of use from there on.
    """
    digest = blake2b(digest_size=_DIGEST)
    for text in (request.model, tenant, *_opening(request.messages)):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.digest()


def _opening(messages: Sequence[Message]) -> Iterable[str]:
    for message in messages:
        yield message.role
        yield from _texts(message)
        if message.role != "system":
            return


def _texts(message: Message) -> Iterable[str]:
    if isinstance(message.content, str):
        yield message.content
        return
    for part in message.content:
        yield f"{len(part.url)} {part.url[:_IMAGE]}" if isinstance(part, ImagePart) else part.text


def rendezvous(key: bytes, replicas: Sequence[tuple[bytes, float]]) -> int:
    """The index of the replica, of those by name and weight, that `key` belongs to.

    When a replica comes or goes, only its own keys move: highest random weight hashing, weighted by -w / ln(u).
    """
    best, highest = 0, -math.inf
    for index, (name, weight) in enumerate(replicas):
        digest = blake2b(name, key=key, digest_size=_DIGEST).digest()
        score = -weight / math.log((int.from_bytes(digest) + 0.5) / 2.0 ** (8 * _DIGEST))
        if score > highest:
            best, highest = index, score
    return best


def is_overloaded(load: float, least: float, excess: float = MOST_EXCESS) -> bool:
    """Whether a conversation does better to leave its replica and its cache for the least loaded one."""
    return load - least > excess and load > MOST_RATIO * least


def lighter_of_two(loads: Sequence[float], draw: Callable[[], float]) -> int:
    """The index of the smaller of two loads drawn by lot; `draw` gives numbers from 0 to 1, without 1.

    Not the smallest of all: everybody would run there until the news of it is out.
    """
    count = len(loads)
    if count == 1:
        return 0
    one = int(draw() * count)
    other = int(draw() * (count - 1))
    other += other >= one
    return one if loads[one] <= loads[other] else other
