"""Where every simulated answer gets its chance from: the request itself, so that the same one gets the same answer."""

from __future__ import annotations

import hashlib
from random import Random


def fingerprint(*parts: object) -> bytes:
    """32 bytes that differ wherever the parts do. Parts are bytes, or values whose `repr` tells all of them."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()


def chance(*parts: object) -> Random:
    """A source of numbers that these parts, and nothing else, decide."""
    return Random(fingerprint(*parts))
