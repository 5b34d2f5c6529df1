"""What was used last, found again by texts of any length."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

_Kept = TypeVar("_Kept")


class Recent(Generic[_Kept]):
    """The values that were used last, by texts that are only kept as digests. For all threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[bytes, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str) -> _Kept | None:
        key = _digest(text)
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, text: str, value: _Kept) -> None:
        with self._lock:
            self._values[_digest(text)] = value
            if len(self._values) > self._most:
                self._values.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
