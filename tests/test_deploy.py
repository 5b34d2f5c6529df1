"""The examples in `deploy/` are settings that the relay takes as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.settings import load_settings
from tests.support.relay import KEY

DEPLOY = Path(__file__).parent.parent / "deploy"
FILES = sorted(DEPLOY.rglob("relay.toml"))
SECRETS = {"VLLM_API_KEY": "key-of-vllm", "LLAMA_API_KEY": "key-of-llama"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_an_example_is_read_without_a_problem(file: Path, tmp_path: Path) -> None:
    environ = {"RELAY_TOKENS": KEY, "RELAY_STATE_DIR": str(tmp_path), **SECRETS}
    environ |= {"CLOUDFLARE_ACCOUNT_ID": "0" * 32, "CLOUDFLARE_API_TOKEN": "token"}
    settings = load_settings({"config": str(file)}, environ, tmp_path)
    assert settings.warnings == ()
    (engine,) = settings.engines
    assert engine.api_key in SECRETS.values()
    assert len(engine.weights) in (0, len(engine.urls))
