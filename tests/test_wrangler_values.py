"""The values of a configuration as plain JSON."""

from __future__ import annotations

import json
from pathlib import Path

from tests.test_wrangler_config import config


def test_values_of_toml_that_json_lacks_are_made_plain(tmp_path: Path) -> None:
    project = config(tmp_path, "[vars]\nT = {d = [2025-01-01]}\nN = nan\nI = inf", "wrangler.toml")
    assert project.vars == {"T": {"d": ["2025-01-01"]}, "N": None, "I": None}
    json.dumps(project.to_json_dict(), allow_nan=False)
