"""How soon the place of a client that leaves is free: while others write, and while prompts are read beside them."""

from __future__ import annotations

import asyncio
import random
import time

from benchmarks.local.load import Ask, Prompt

_SHORT = 32
"""Tokens of the prompts of those who write."""
_CANCELS = 40
_PAUSES = (0.05, 0.2)
"""Seconds between two who leave."""


async def cancel_milliseconds(ask: Ask, *, rows: int, context: int, vocabulary: int) -> dict[str, float]:
    """Median and most of either case. `ask`, when it is cancelled, has to wait until its place is free.

    Five of eight rows write answers as long as there is room for; the others, in the second case, read prompts as long.
    """
    busy = max(1, rows * 5 // 8)
    crowd = _Crowd(ask, vocabulary)
    async with asyncio.TaskGroup() as crowd.group:
        await crowd.grow(busy, prompt=_SHORT, answer=context - _SHORT)
        alone = await crowd.lose_some()
        await crowd.grow(max(1, rows - busy), prompt=context - 2, answer=2)
        beside = await crowd.lose_some()
        crowd.go()
    return {
        "others": busy,
        "alone_median": alone[len(alone) // 2],
        "alone_most": alone[-1],
        "beside_median": beside[len(beside) // 2],
        "beside_most": beside[-1],
    }


class _Crowd:
    """Clients that ask again and again; for each that leaves another one comes."""

    group: asyncio.TaskGroup

    def __init__(self, ask: Ask, vocabulary: int) -> None:
        self._ask = ask
        self._vocabulary = vocabulary
        self._choice = random.Random(1)
        self._clients: list[tuple[asyncio.Task[None], int, int]] = []

    async def grow(self, count: int, *, prompt: int, answer: int) -> None:
        """By so many clients; back when each has its first token."""
        for begun in [self._add(prompt, answer) for _ in range(count)]:
            await begun.wait()

    async def lose_some(self) -> list[float]:
        """Milliseconds until the places were free, ascending."""
        times: list[float] = []
        for _ in range(_CANCELS):
            await asyncio.sleep(self._choice.uniform(*_PAUSES))
            task, prompt, answer = self._clients.pop(self._choice.randrange(len(self._clients)))
            begun = time.perf_counter()
            task.cancel()
            await asyncio.wait([task])
            times.append((time.perf_counter() - begun) * 1e3)
            self._add(prompt, answer)
        return sorted(times)

    def go(self) -> None:
        for task, _, _ in self._clients:
            task.cancel()

    def _add(self, prompt: int, answer: int) -> asyncio.Event:
        begun = asyncio.Event()
        self._clients.append((self.group.create_task(self._client(prompt, answer, begun)), prompt, answer))
        return begun

    async def _client(self, prompt: int, answer: int, begun: asyncio.Event) -> None:
        while True:
            async for _ in self._ask(self._prompt(prompt), answer):
                begun.set()

    def _prompt(self, tokens: int) -> Prompt:
        return {"ids": [self._choice.randrange(9, self._vocabulary) for _ in range(tokens)]}
