"""The end of a server's life: streams finish, a deadline ends the rest, and the process says that all is well."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.errors import Fault, RelayError
from proxy.drain import Drain
from tests.support.cloudflare import ACCOUNT, BASE_PATH, HELLO, TOKEN, USAGE, FakeCloudflare, Step, frames, held, stream
from tests.support.raw_http import Connection, chat_request, connected, dechunked, request
from tests.support.relay import KEY, MODEL, asking, calling, relaying
from tests.support.servers import DEADLINE, serving
from tests.support.streams import CHAT, broken, chunks, text_of

pytestmark = pytest.mark.anyio

FIRST = frames({"response": "Hello"})
REST = frames({"response": " there"}) + frames({"response": "", "usage": USAGE}, "[DONE]")

# ---------------------------------------------------------------- in this process


async def test_expiry_ends_a_stream_with_an_error_in_band(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, connected(rig.relay.port) as connection:
        rig.cloudflare.script(MODEL, stream(FIRST, Step(REST, asyncio.Event())))
        await connection.send(chat_request(asking(stream=True)))
        await connection.head()
        begun = await connection.until(b'"Hello"')
        rig.drain.expire()
        body, _ = dechunked(begun + await connection.to_end())
        async with asyncio.timeout(DEADLINE):
            await rig.cloudflare.runs[0].gone.wait()
    parts, error = broken(body)
    assert text_of(parts) == "Hello"
    assert (error["type"], error["code"]) == ("server_error", "overloaded")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_expiry_ends_what_has_not_begun_with_a_status(tmp_path: Path, streamed: bool) -> None:
    async with relaying(tmp_path) as rig, connected(rig.relay.port) as connection:
        rig.cloudflare.script(MODEL, held(asyncio.Event(), HELLO))
        await connection.send(chat_request(asking(stream=streamed)))
        async with asyncio.timeout(DEADLINE):
            await rig.cloudflare.asked_to_run()
        rig.drain.expire()
        assert (await connection.head()).status == 503


async def test_after_expiry_nothing_new_begins(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, HELLO)
        rig.drain.expire()
        rig.drain.expire()  # a second signal changes nothing
        for streamed in (False, True):
            response = await client.post(CHAT, json=asking(stream=streamed))
            assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
        assert rig.cloudflare.runs == []


async def test_a_relay_that_is_to_stop_is_not_ready_and_finishes_its_work(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, HELLO)
        assert (await client.get("/readyz")).status_code == 200
        rig.drain.start()
        response = await client.get("/readyz")
        assert response.status_code == 503 and response.json()["checks"]["server"] == "shutting down"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post(CHAT, json=asking())).status_code == 200


async def test_expiry_ends_a_request_whose_body_never_comes(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, connected(rig.relay.port) as connection:
        await connection.send(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            "expect: 100-continue\r\ncontent-length: 10\r\n\r\n".encode()
        )
        await connection.until(b"100 Continue\r\n\r\n")  # sent when the relay begins to read
        rig.drain.expire()
        head = await connection.head()
        assert (head.status, head.headers["content-type"]) == (503, "application/json")


async def test_a_timeout_of_the_work_itself_is_not_taken_for_the_end() -> None:
    with pytest.raises(TimeoutError):
        async with Drain().guard():
            raise TimeoutError


async def test_work_that_ends_in_time_is_not_touched_by_a_later_expiry() -> None:
    drain = Drain()
    async with drain.guard():
        pass
    drain.expire()
    with pytest.raises(RelayError) as caught:
        async with drain.guard():
            pytest.fail("nothing new may begin")
    assert caught.value.fault is Fault.OVERLOADED


# ---------------------------------------------------------------- `relay serve`


class Child(NamedTuple):
    process: asyncio.subprocess.Process
    port: int
    cloudflare: FakeCloudflare

    async def status(self) -> int:
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def served(state_dir: Path, **environ: str) -> AsyncIterator[Child]:
    """`relay serve` in a process of its own, once it can be called."""
    cloudflare = FakeCloudflare()
    async with serving(cloudflare) as upstream:
        given = {
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_API_BASE_URL": upstream.url + BASE_PATH,
            "RELAY_TOKENS": KEY,
            "RELAY_STATE_DIR": str(state_dir),
            "RELAY_PORT": "0",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **environ,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy.cli", "serve"),
            cwd=state_dir,
            env={**os.environ, **given},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(3 * DEADLINE):
                line = await process.stdout.readline()
            yield Child(process, int(line.rsplit(b":", 1)[1]), cloudflare)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def idle_connection(connection: Connection) -> None:
    """Use a connection once, so that it is a kept one."""
    await connection.send(request("GET", "/healthz"))
    head, _ = await connection.answer()
    assert head.status == 200


async def closed_to_new_connections(port: int) -> None:
    """Wait until a connection is refused, rather than taken into a backlog that nobody serves."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                pass  # it was in the backlog when the socket was closed: only the next one tells


WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


@WORKERS
async def test_sigterm_lets_a_stream_finish_and_closes_idle_connections(tmp_path: Path, workers: str) -> None:
    release = asyncio.Event()
    async with (
        served(tmp_path, RELAY_WORKERS=workers) as child,
        connected(child.port) as idle,
        connected(child.port) as connection,
    ):
        child.cloudflare.script(MODEL, stream(FIRST, Step(REST, release)))
        await idle_connection(idle)
        await connection.send(chat_request(asking(stream=True)))
        assert (await connection.head()).status == 200
        begun = await connection.until(b'"Hello"')
        child.process.send_signal(signal.SIGTERM)
        assert await idle.to_end() == b""  # by now the server knows
        await closed_to_new_connections(child.port)
        release.set()
        body, ended = dechunked(begun + await connection.to_end())
        assert ended and text_of(chunks(body)) == "Hello there"
        assert await child.status() == 0


@WORKERS
async def test_the_deadline_ends_the_rest_in_band(tmp_path: Path, workers: str) -> None:
    async with (
        served(tmp_path, RELAY_WORKERS=workers, RELAY_SHUTDOWN_TIMEOUT="0.3") as child,
        connected(child.port) as connection,
    ):
        child.cloudflare.script(MODEL, stream(FIRST, Step(REST, asyncio.Event())))
        await connection.send(chat_request(asking(stream=True)))
        begun = await connection.until(b'"Hello"')
        child.process.send_signal(signal.SIGTERM)
        body = begun + await connection.to_end()
        assert b'"code":"overloaded"' in body and b"[DONE]" not in body and b'"finish_reason":"stop"' not in body
        assert await child.status() == 0


async def test_a_second_ctrl_c_ends_the_rest_in_band_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as child, connected(child.port) as connection:
        child.cloudflare.script(MODEL, stream(FIRST, Step(REST, asyncio.Event())))
        await connection.send(chat_request(asking(stream=True)))
        begun = await connection.until(b'"Hello"')
        child.process.send_signal(signal.SIGINT)
        await closed_to_new_connections(child.port)
        child.process.send_signal(signal.SIGINT)
        body = begun + await connection.to_end()
        assert b'"code":"overloaded"' in body and b"[DONE]" not in body
        assert await child.status() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_signal_to_an_idle_relay_ends_it_well_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with served(tmp_path) as child, connected(child.port) as idle:
        await idle_connection(idle)
        child.process.send_signal(number)
        assert await idle.to_end() == b""
        assert await child.status() == 0
