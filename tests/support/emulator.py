"""The emulator on a real socket, and the forms in which its clients speak."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from proxy.app import create_app
from tests.support.relay import AUTH, KEY, MODEL, calling, settings_for
from tests.support.servers import serving

ACCOUNT_PATH = "/client/v4/accounts/local"
AI = f"{ACCOUNT_PATH}/ai"
REMOTE = f"/remote-bindings/{KEY}"
ORIGIN = "https://workers-binding.ai"
OTHER_KEY = "sk-other-0123456789abcdef"
SHORT: dict[str, Any] = {"prompt": "Say hello.", "max_tokens": 2}
"""An input that the simulator answers at once."""


@asynccontextmanager
async def emulating(state_dir: Path, **flags: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a relay whose only upstream is the simulator; `OTHER_KEY` is a second caller's."""
    settings = settings_for(state_dir, None, **flags)
    async with serving(create_app(settings, [KEY, OTHER_KEY])) as relay, calling(relay.url) as client:
        yield client


class Entrance:
    """Sends inner requests through one of the entrances."""

    def __init__(self, name: str, client: httpx.AsyncClient) -> None:
        self.name = name
        self._remote = name == "S3"
        self._client = client

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        headers = headers or {}
        if self._remote:
            inner = {f"MF-Header-{name}": value for name, value in headers.items()}
            outer = {"MF-URL": ORIGIN + path, "MF-Binding": "AI", "Authorization": "", **inner}
            return await self._client.request(method, REMOTE, content=body, headers=outer)
        outer = {**AUTH, "X-Forwarded": ORIGIN + path, **headers}
        return await self._client.request(method, f"{AI}/run/proxy", content=body, headers=outer)

    async def run(
        self, inputs: Any, options: dict[str, Any] | None = None, model: str = MODEL, path: str = "/run"
    ) -> httpx.Response:
        """As `env.AI.run` sends it."""
        body = json.dumps({"inputs": inputs, "options": options or {}}).encode()
        return await self.send("POST", f"{path}?version=3", body, run_headers(model))


def run_headers(model: str = MODEL, content_type: str = "application/json") -> dict[str, str]:
    return {"content-type": content_type, "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": model}


def code_of(response: httpx.Response) -> tuple[int, int]:
    """Status and code of an error in the API's envelope, whose form is checked."""
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body["success"] is False and body["messages"] == []
    [error] = body["errors"]
    assert isinstance(error["message"], str) and error["message"]
    return response.status_code, error["code"]
