"""A page in a real browser, from another origin, reads a stream: `fetch`, preflight and all."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.support.cloudflare import hello
from tests.support.relay import KEY, MODEL, Rig, relaying
from tests.support.servers import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None, reason="SKIPPED ALOUD: no Chromium on this machine"),
]

PAGE = """<!doctype html><script type="module">
const seen = [];
try {
  const response = await fetch("RELAY/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer KEY" },
    body: JSON.stringify({ model: "MODEL", stream: true, messages: [{ role: "user", content: "hi" }] }),
  });
  seen.push(response.status, response.headers.get("x-relay-upstream"));
  let text = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) text += piece;
  const frames = text.split("\\n\\n").filter(Boolean).map((frame) => frame.slice(6));
  seen.push(frames.at(-1), frames.slice(0, -1).map((f) => JSON.parse(f).choices[0].delta.content ?? "").join(""));
  const refused = await fetch("RELAY/v1/models", { headers: { authorization: "Bearer wrong" } });
  seen.push(refused.status, (await refused.json()).error.code);
} catch (error) { seen.push(String(error)); }
await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
</script>"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with relaying(tmp_path) as rig:
        rig.cloudflare.script(MODEL, hello)
        yield rig


async def test_a_page_reads_a_stream_from_another_origin(rig: Rig, tmp_path: Path) -> None:
    seen: list[object] = []
    told = anyio.Event()

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE.replace("RELAY", rig.url).replace("KEY", KEY).replace("MODEL", MODEL))

    async def report(request: Request) -> Response:
        seen.extend(await request.json())
        told.set()
        return Response(status_code=204)

    site = Starlette(routes=[Route("/", page), Route("/seen", report, methods=["POST"])])
    async with serving(site) as served, anyio.create_task_group() as group:
        quiet = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
        command = [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-sync",
            *quiet.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--remote-debugging-port=0",  # keeps it open until it is ended
            served.url,
        ]
        group.start_soon(lambda: anyio.run_process(command, check=False))
        with anyio.fail_after(120):
            await told.wait()
        group.cancel_scope.cancel()
    assert seen == [200, "cloudflare", "[DONE]", "Hello there", 401, "invalid_api_key"]
