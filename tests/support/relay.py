"""A relay with settings for tests, in front of whatever upstream a test has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from proxy.app import create_app
from proxy.drain import Drain
from proxy.handover import Retries
from proxy.settings import Settings, load_settings
from tests.support.cloudflare import ACCOUNT, BASE_PATH, TOKEN, FakeCloudflare
from tests.support.servers import DEADLINE, Served, serving

KEY = "sk-test-0123456789abcdef"
MODEL = "@cf/meta/llama-3.2-1b-instruct"
"""A model of the older form; `OPENAI_MODEL` is one that speaks OpenAI natively."""
OPENAI_MODEL = "@cf/qwen/qwen3-30b-a3b-fp8"
AUTH = {"authorization": f"Bearer {KEY}"}


def settings_for(state_dir: Path, base_url: str | None = None, **flags: object) -> Settings:
    """Settings from flags alone; with `base_url`, Cloudflare is the upstream."""
    environ = {"RELAY_TOKENS": KEY, "RELAY_STATE_DIR": str(state_dir)}
    if base_url is not None:
        environ |= {
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_API_BASE_URL": base_url + BASE_PATH,
        }
    return load_settings(flags, environ, state_dir)


class Rig(NamedTuple):
    """A relay on a real socket with a scripted Cloudflare behind it on another."""

    relay: Served
    cloudflare: FakeCloudflare
    drain: Drain

    @property
    def url(self) -> str:
        return self.relay.url

    @property
    def chat_url(self) -> str:
        return self.relay.url + "/v1/chat/completions"


@asynccontextmanager
async def relaying(state_dir: Path, *, policy: Retries | None = None, **flags: object) -> AsyncIterator[Rig]:
    """Both servers until the block is left. Retries come without a pause unless `policy` says otherwise."""
    cloudflare = FakeCloudflare()
    async with serving(cloudflare) as upstream:
        async with relaying_to(upstream.url, state_dir, policy=policy, **flags) as (relay, drain):
            yield Rig(relay, cloudflare, drain)


@asynccontextmanager
async def relaying_to(
    upstream: str, state_dir: Path, *, policy: Retries | None = None, **flags: object
) -> AsyncIterator[tuple[Served, Drain]]:
    """A relay alone, in front of a Cloudflare at `upstream`."""
    settings = settings_for(state_dir, upstream, **flags)
    drain = Drain()
    app = create_app(settings, settings.tokens, drain=drain, retries=policy or Retries(settings.retries, 0.0))
    async with serving(app) as relay:
        yield relay, drain


def calling(url: str, **headers: str) -> httpx.AsyncClient:
    """A client of the relay at `url`, with a token."""
    return httpx.AsyncClient(
        base_url=url,
        headers={**AUTH, **headers},
        timeout=DEADLINE,
        trust_env=False,
        transport=httpx.AsyncHTTPTransport(),
    )


def asking(text: str = "Say hello.", **fields: Any) -> dict[str, Any]:
    """The body of a chat request to `MODEL`."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
