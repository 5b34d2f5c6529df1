"""The tables of keys."""

from __future__ import annotations

from collections import Counter

from wrangler_compat.keys import INHERITABLE, NOT_INHERITABLE, TOP_LEVEL_ONLY


def test_a_key_stands_in_one_table_alone() -> None:
    uses = Counter(["name", *INHERITABLE, *NOT_INHERITABLE, *TOP_LEVEL_ONLY])
    assert [key for key, count in uses.items() if count > 1] == []
