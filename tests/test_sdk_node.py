"""The openai SDK for Node and the Vercel AI SDK as clients, each scenario in a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.cloudflare import Step, frames, stream
from tests.support.playbook import SENTENCE, WEATHER, classic, openai_shaped
from tests.support.relay import KEY, MODEL, OPENAI_MODEL, Rig, relaying
from tests.support.servers import DEADLINE

NODE = Path(__file__).parent / "node"
INSTALLED = NODE / "node_modules" / ".installed"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not INSTALLED.exists(), reason="SKIPPED ALOUD: the Node clients are not installed (no npm)"),
]

BOTH = pytest.mark.parametrize("model", [MODEL, OPENAI_MODEL], ids=["classic", "openai-shaped"])
CLIENTS = pytest.mark.parametrize("client", ["openai", "ai_sdk"])


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with relaying(tmp_path) as rig:
        rig.cloudflare.script(MODEL, classic)
        rig.cloudflare.script(OPENAI_MODEL, openai_shaped)
        yield rig


async def run(rig: Rig, client: str, scenario: str, model: str = MODEL) -> Any:
    """What the client's script says that it saw."""
    node = NODE / "node_modules" / ".bin" / "node"
    command = [str(node), str(NODE / f"{client}.mjs"), rig.url + "/v1", KEY, model, scenario]
    done = await anyio.run_process(command, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@CLIENTS
@BOTH
@pytest.mark.parametrize("scenario", ["chat", "stream"])
async def test_text(rig: Rig, client: str, model: str, scenario: str) -> None:
    saw = await run(rig, client, scenario, model)
    assert (saw["text"], saw["total"]) == ("Hello there", 11)


@BOTH
async def test_accumulated_stream(rig: Rig, model: str) -> None:
    assert await run(rig, "openai", "accumulated", model) == {"text": "Hello there", "reason": "stop"}


@CLIENTS
@BOTH
@pytest.mark.parametrize("scenario", ["tools", "streamed_tools"])
async def test_tool_loop(rig: Rig, client: str, model: str, scenario: str) -> None:
    assert await run(rig, client, scenario, model) == {"text": SENTENCE, "called": ["Oslo"]}


@CLIENTS
@BOTH
async def test_json_schema(rig: Rig, client: str, model: str) -> None:
    assert await run(rig, client, "schema", model) == {"value": WEATHER}


@CLIENTS
async def test_error(rig: Rig, client: str) -> None:
    saw = await run(rig, client, "error")
    assert (saw["status"], saw["code"]) == (404, "model_not_found")


@CLIENTS
async def test_a_stream_that_breaks_is_an_error(rig: Rig, client: str) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "Hel"})))
    saw = await run(rig, client, "broken")
    assert saw["text"] == "Hel"
    if client == "openai":
        assert (saw["kind"], saw["code"]) == ("APIError", "upstream_error")
    else:
        assert saw["reason"] == "error" and "before the answer was complete" in saw["failure"]


@CLIENTS
async def test_cancelling_reaches_the_upstream(rig: Rig, client: str) -> None:
    rig.cloudflare.script(MODEL, stream(frames({"response": "Hel"}), Step(frames("[DONE]"), after=asyncio.Event())))
    assert await run(rig, client, "cancel") == {"cancelled": True}
    async with asyncio.timeout(DEADLINE):
        await rig.cloudflare.runs[0].gone.wait()


async def test_models(rig: Rig) -> None:
    assert await run(rig, "openai", "models") == {"listed": True, "id": MODEL}
