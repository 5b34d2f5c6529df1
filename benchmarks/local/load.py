"""Clients that ask side by side, and what they saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Prompt = dict[str, Any]
"""`ids`, and `text` where there is a tokenizer."""
Ask = Callable[[Prompt, int], AsyncIterator[int]]
"""One answer of so many tokens: yields how many tokens have come, each time that some have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """So many clients, each asking `rounds` times, one after the other."""

    clients: int
    prompt: int
    """Tokens, about."""
    answer: int
    """Tokens."""
    rounds: int

    @property
    def name(self) -> str:
        return f"{self.clients} × {self.prompt}+{self.answer}"


@dataclass(slots=True)
class Seen:
    """Times in seconds."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    answered: int = 0
    given_up: int = 0
    failures: dict[str, int] = field(default_factory=dict)


async def run(scenario: Scenario, ask: Ask, prompts: Sequence[Prompt], limit: float) -> dict[str, Any]:
    """All clients at once; those whose turn has not come after `limit` seconds give up."""
    seen = Seen()
    waiting = iter(prompts)
    begun = time.perf_counter()
    deadline = asyncio.get_running_loop().time() + limit

    async def client() -> None:
        for _ in range(scenario.rounds):
            await _answer(scenario, ask, next(waiting), seen, deadline)

    async with asyncio.TaskGroup() as group:
        for _ in range(scenario.clients):
            group.create_task(client())
    seconds = time.perf_counter() - begun
    return {
        **asdict(scenario),
        "name": scenario.name,
        "seconds": seconds,
        "tokens": seen.tokens,
        "tokens_per_second": seen.tokens / seconds,
        "first_token": _shares(seen.first),
        "between_tokens": _shares(seen.gaps),
        "answered": seen.answered,
        "given_up": seen.given_up,
        "failures": seen.failures,
    }


async def _answer(scenario: Scenario, ask: Ask, prompt: Prompt, seen: Seen, deadline: float) -> None:
    asked = last = time.perf_counter()
    count = 0
    stream = ask(prompt, scenario.answer)
    try:
        while True:
            if count:
                count_now = await anext(stream)
            else:
                async with asyncio.timeout_at(deadline):
                    count_now = await anext(stream)
            now = time.perf_counter()
            if count and count_now > count:
                # Several that come together: what one takes on average, and as often.
                seen.gaps += [(now - last) / (count_now - count)] * (count_now - count)
            elif not count:
                seen.first.append(now - asked)
            last, seen.tokens, count = now, seen.tokens + count_now - count, count_now
    except TimeoutError:
        seen.given_up += 1
    except StopAsyncIteration:
        seen.answered += 1
        if count != scenario.answer:
            _count(seen, f"{count} tokens instead of {scenario.answer}")
    except Exception as exc:  # noqa: BLE001 - it is counted, and the report ends with an error
        _count(seen, f"{type(exc).__name__}: {exc}")
    finally:
        await stream.aclose()  # type: ignore[attr-defined]  # all of them are generators


def _count(seen: Seen, failure: str) -> None:
    seen.failures[failure[:200]] = seen.failures.get(failure[:200], 0) + 1


def _shares(times: list[float]) -> dict[str, float] | None:
    """Milliseconds."""
    if not times:
        return None
    times.sort()
    return {"p50": times[len(times) // 2] * 1e3, "p99": times[min(len(times) - 1, len(times) * 99 // 100)] * 1e3}
