"""Keys that the relay does not read. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_wrangler_config import config
from wrangler_compat.shapes import SHAPES

FINE = ["x", True, [], {"binding": "B"}, [{"binding": "B"}]]
# One key of each shape, and which of `FINE` it takes.
TAKES: dict[str, list[object]] = {
    "main": ["x"],
    "minify": [True],
    "kv_namespaces": [[], [{"binding": "B"}]],
    "ratelimits": [[], [{"binding": "B"}]],
    "browser": [{"binding": "B"}],
    "unsafe": [{"binding": "B"}],
}


@pytest.mark.parametrize("value", FINE, ids=json.dumps)
@pytest.mark.parametrize("key", TAKES)
def test_a_key_takes_values_of_its_shape(tmp_path: Path, key: str, value: object) -> None:
    project = config(tmp_path, json.dumps({key: value}))
    assert bool(project.errors) is (value not in TAKES[key])
    assert all(f'"{key}" must be' in error for error in project.errors)


@pytest.mark.parametrize("value", [None, 1, [1], [{"binding": 1}], {"binding": 1}], ids=json.dumps)
@pytest.mark.parametrize("key", ["kv_namespaces", "browser", "main", "minify"])
def test_a_key_takes_no_others(tmp_path: Path, key: str, value: object) -> None:
    (error,) = config(tmp_path, json.dumps({key: value})).errors
    assert f'"{key}" must be' in error


@pytest.mark.parametrize("key", SHAPES)
def test_every_key_with_a_shape_is_a_known_one(tmp_path: Path, key: str) -> None:
    (error,) = config(tmp_path, json.dumps({key: 1})).errors
    assert f'"{key}" must be' in error
