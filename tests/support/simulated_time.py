"""An event loop in which time passes only when nothing else is to be done, and then at once.

Sockets on loopback are real: what one end has sent is there when the other one looks, so that nothing is overtaken by
a timer, however slow the machine is. Threads and other processes are not waited for.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec
from unittest.mock import patch

P = ParamSpec("P")


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everybody waits for something that will never come")
            self.now += timeout
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._simulated = _Selector()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """Without the thread in which other loops wait for an answer: here the names are addresses."""
        return socket.getaddrinfo(*args, **kwargs)


def simulate(work: Coroutine[Any, Any, None]) -> None:
    """Run the test to its end; hours of it take no time. `time.monotonic()` tells the same time as the loop."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner, patch("time.monotonic", runner.get_loop().time):
        runner.run(work)


def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is `simulate`d. Its fixtures are made before, on no loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        simulate(test(*args, **kwargs))

    return run
