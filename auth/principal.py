"""The authenticated caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """`id` is a short label such as `key-1a2b3c4d`: not secret, equal for equal tokens, fit for logs."""

    id: str
