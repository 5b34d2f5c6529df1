"""What is looked for in a stream that passes through: our secrets, and whether it says anything."""

from __future__ import annotations

from collections.abc import Iterable

STAND_IN = b"***"

_DATA = b"data:"


class SecretFilter:
    """Takes secrets out of a stream, those that two chunks share too.

    Only a chunk that ends as a secret begins is held back, and of it no more than that beginning.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = tuple(secrets)
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can go on; possibly nothing."""
        text = self._held + chunk if self._held else chunk
        for secret in self._secrets:
            text = text.replace(secret, STAND_IN)  # the same object where there is none
        end = min((_begins(text, secret) for secret in self._secrets), default=len(text))
        self._held = text[end:]
        return text[:end]

    def close(self) -> bytes:
        """What was held back, once nothing follows."""
        return self._held


class Speech:
    """Whether an event stream says anything: comments and blank lines do not, a long line of data does throughout."""

    def __init__(self) -> None:
        self._line = b""  # how the line begins in whose middle the last chunk ended

    def feed(self, chunk: bytes) -> bool:
        text = self._line + chunk
        start = text.rfind(b"\n") + 1
        self._line = text[start : start + len(_DATA)]
        return _DATA in text


def _begins(text: bytes, secret: bytes) -> int:
    """Where the beginning of the secret starts with which the text ends; the text's length if there is none."""
    at = text.find(secret[:1], max(0, len(text) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(text[at:]):
            return at
        at = text.find(secret[:1], at + 1)
    return len(text)
