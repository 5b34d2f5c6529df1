"""What is soon done, on any machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SOON = 20.0
"""Seconds of this process's own work: a hundred times what takes long where nothing is slow, and far less than what
grows with the square of its input."""


@contextmanager
def soon() -> Iterator[None]:
    """Fails if what is inside computes for longer than that."""
    started = time.process_time()
    yield
    assert time.process_time() - started < SOON
