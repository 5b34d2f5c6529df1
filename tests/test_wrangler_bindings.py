"""Names that bindings share. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_wrangler_config import Case, check

# The configuration as JSON, the attributes, the warnings, the errors
NAMES: dict[str, tuple[str, dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "names in vars and ai": (
        '{"vars": {"AI": "x"}, "ai": {"binding": "AI"}}',
        {},
        (),
        ('the binding name "AI" is used more than once (ai, vars)',),
    ),
    "names in two lists": (
        '{"kv_namespaces": [{"binding": "X"}], "r2_buckets": [{"binding": "X"}]}',
        {},
        (),
        ('"X" is used more than once (kv_namespaces, r2_buckets)',),
    ),
    "names in one list": (
        '{"d1_databases": [{"binding": "X"}, {"binding": "X"}]}',
        {},
        (),
        ('"X" is used more than once (d1_databases, d1_databases)',),
    ),
    "names of durable objects and queues": (
        '{"durable_objects": {"bindings": [{"name": "X"}]}, "queues": {"producers": [{"binding": "X"}]}}',
        {},
        (),
        ('"X" is used more than once',),
    ),
    "names of secrets": (
        '{"vars": {"X": "1"}, "secrets": {"required": ["X"]}}',
        {},
        ('"X"',),
        ('"X" is used more than once (vars, secrets)',),
    ),
    "names of file bindings": ('{"text_blobs": {"X": "a.txt"}, "vars": {"X": ""}}', {}, (), ('"X" is used',)),
    "different names": (
        '{"vars": {"A": "1"}, "ai": {"binding": "AI"}, "kv_namespaces": [{"binding": "K"}]}',
        {},
        (),
        (),
    ),
}


@pytest.mark.parametrize(("text", "expected", "warnings", "errors"), NAMES.values(), ids=NAMES)
def test_a_name_is_of_one_binding_alone(
    tmp_path: Path, text: str, expected: dict[str, Any], warnings: tuple[str, ...], errors: tuple[str, ...]
) -> None:
    check(tmp_path, Case({"wrangler.jsonc": text}, expected, warnings=warnings, errors=errors))
