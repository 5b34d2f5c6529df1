"""Several callers of one relay with an engine of its own behind it: nobody learns what another has asked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from adapters.local.host import supervised
from adapters.local.look import look
from adapters.local.own import ENVIRONMENT, TENANT
from auth.keys import StaticKeys
from proxy.app import create_app
from tests.inference.with_torch.folders import make_chat_folder
from tests.support.relay import settings_for
from tests.support.servers import serving
from tests.support.streams import CHAT

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent.parent
ANN, BOB = "sk-test-ann-0123456789abcdef", "sk-test-bob-0123456789abcdef"
PATIENCE = 60.0
"""Seconds for a process that imports torch on a busy machine."""
QUESTION = "The same long beginning of a question that many ask in turn. " * 3


@asynccontextmanager
async def relayed(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a relay with both tokens, whose engine is started by the first request."""
    model = make_chat_folder(folder / "model")
    entry = f'name = "mine"\nkind = "transformers"\nmodel = "{model}"\nmodels = ["tiny"]\ndevice = "cpu"\nthreads = 1\n'
    (folder / "relay.toml").write_text(f"[[engines]]\n{entry}max_concurrency = 4\n")
    settings = settings_for(folder)
    found = ENVIRONMENT | {"PYTHONPATH": os.fspath(ROOT)}
    engines = tuple(msgspec.structs.replace(spec, environment=found) for spec in settings.engines)
    settings = dataclasses.replace(settings, engines=engines)
    with supervised(engines, probe=look, state_dir=settings.state_dir, surroundings=dict(os.environ)):
        async with (
            serving(create_app(settings, (ANN, BOB))) as relay,
            httpx.AsyncClient(base_url=relay.url, timeout=PATIENCE) as client,
        ):
            yield client


def label(token: str) -> str:
    principal = StaticKeys([token]).resolve(token)
    assert principal is not None
    return principal.id


async def test_prompts_are_taken_over_from_the_same_caller_alone_whatever_headers_say(tmp_path: Path) -> None:
    async with relayed(tmp_path) as client:

        async def cached(token: str, **headers: str) -> int:
            body = {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": QUESTION}]}
            response = await client.post(CHAT, json=body, headers={"authorization": f"Bearer {token}", **headers})
            assert response.status_code == 200, response.text
            count: int = response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
            return count

        assert await cached(ANN) == 0
        assert await cached(BOB, **{TENANT: label(ANN)}) == 0
        assert await cached(ANN) > 30
        assert await cached(BOB) > 30
