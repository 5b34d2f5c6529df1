"""One thing that one thread at a time may use, where nobody's many requests keep it from the others."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager


class Crowded(Exception):
    """Too many wait; `ahead` are those who would have been served before."""

    def __init__(self, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead


class _Waiter:
    """One thread that waits until it is called: to its turn, or away."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.sent_away = False


class FairTurns:
    """Whose turn it is goes round among the owners that wait; within one owner it is first come, first served.

    An owner may have `each` threads that wait, all together `most`. Where all places are taken, a newcomer gets that of
    the last to come of whoever has the most, unless it would then have as many itself. For all threads.
    """

    def __init__(self, *, each: int, most: int) -> None:
        self._each = each
        self._most = most
        self._lock = threading.Lock()
        self._taken = False
        self._queues: OrderedDict[str, deque[_Waiter]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    @contextmanager
    def turn(self, owner: str) -> Iterator[None]:
        """Waits for a turn, which ends with the block. Raises Crowded."""
        waiter = self._enter(owner)
        if waiter is not None:
            waiter.called.wait()
            if waiter.sent_away:
                raise Crowded(self._most)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, owner: str) -> _Waiter | None:
        """`None` where it is the owner's turn at once."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return None
            own = len(self._queues.get(owner, ()))
            if own >= self._each:
                raise Crowded(own * len(self._queues))
            if self.waiting >= self._most:
                self._make_room(own)
            waiter = _Waiter()
            self._queues.setdefault(owner, deque()).append(waiter)
            return waiter

    def _make_room(self, own: int) -> None:
        most = max(self._queues.values(), key=len)
        if len(most) <= own + 1:
            raise Crowded(self._most)
        last = most.pop()
        last.sent_away = True
        last.called.set()

    def _leave(self) -> None:
        with self._lock:
            if not self._queues:
                self._taken = False
                return
            owner, queue = self._queues.popitem(last=False)
            queue.popleft().called.set()
            if queue:
                self._queues[owner] = queue  # behind all others
