"""`auth.keys`: a token's caller, and a label that gives nothing away."""

from __future__ import annotations

from hashlib import sha256

import pytest

from auth.keys import StaticKeys
from auth.principal import Principal

TOKEN = "sk-relay-0123456789"


def test_a_token_resolves_to_a_label_from_its_digest() -> None:
    assert StaticKeys([TOKEN]).resolve(TOKEN) == Principal(f"key-{sha256(TOKEN.encode()).hexdigest()[:8]}")


def test_two_tokens_are_two_callers() -> None:
    keys = StaticKeys([TOKEN, "other"])
    assert keys.resolve(TOKEN) != keys.resolve("other")


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), f" {TOKEN}", "\u00e9", "\x00"])
def test_anything_else_is_nobody(token: str) -> None:
    assert StaticKeys([TOKEN]).resolve(token) is None


def test_the_tokens_themselves_are_not_kept() -> None:
    keys = StaticKeys([TOKEN])
    held = [getattr(keys, name) for name in StaticKeys.__slots__]
    assert TOKEN not in repr(held)
