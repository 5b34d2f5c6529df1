"""`/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.errors import Fault, RelayError
from proxy.app import create_app
from proxy.drain import Drain
from proxy.health import Readiness
from tests.support.cloudflare import ACCOUNT, TOKEN, Script, answer, result
from tests.support.relay import Rig, calling, relaying, settings_for
from tests.support.servers import DEADLINE, serving

pytestmark = pytest.mark.anyio


def anonymous(rig: Rig) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=rig.url, trust_env=False)


async def test_both_are_public_and_say_little(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, anonymous(rig) as client:
        health = await client.get("/healthz")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json() == {"status": "ready", "checks": {"server": "ok", "storage": "ok", "upstream": "ok"}}
        for text in (health.text, ready.text):
            assert ACCOUNT not in text and TOKEN not in text and str(tmp_path) not in text


async def test_readiness_asks_nothing_that_costs(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, anonymous(rig) as client:
        for _ in range(3):
            assert (await client.get("/readyz")).status_code == 200
        assert rig.cloudflare.runs == []
        asked = [asked for asked in rig.cloudflare.requests if "search=" in asked.query]
        assert len(asked) == 1, "the answer holds for a while"
        assert {asked.method for asked in rig.cloudflare.requests} == {"GET"}


async def test_the_simulator_is_always_ready(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "not" / "made" / "yet")
    async with serving(create_app(settings, settings.tokens)) as relay, calling(relay.url) as client:
        assert (await client.get("/readyz")).status_code == 200


WRONG: dict[str, tuple[Script, str]] = {
    "a token that is refused": (answer(401, {"success": False, "errors": [{"code": 10000}]}), "upstream_auth"),
    "an account that is none": (answer(404, {"success": False, "errors": [{"code": 7003}]}), "upstream_misconfigured"),
    "a page": (answer(200, b"<html>", media_type="text/html"), "upstream_error"),
    "not a list": (result({}), "upstream_error"),
    "a failure": (answer(500, b""), "upstream_error"),
}


@pytest.mark.parametrize(("script", "verdict"), WRONG.values(), ids=WRONG)
async def test_an_upstream_that_cannot_be_used_is_named(
    tmp_path: Path, script: Script, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relaying(tmp_path) as rig, anonymous(rig) as client:
        monkeypatch.setattr(rig.cloudflare, "_script", lambda asked: script)
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["checks"] == {"server": "ok", "storage": "ok", "upstream": verdict}
        assert (await client.get("/healthz")).status_code == 200


async def get(readiness: Readiness) -> tuple[int, dict[str, Any]]:
    """What the endpoint answers, called as a server would."""
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("there is no body to read")

    async def send(message: Any) -> None:
        sent.append(message)

    await readiness({"type": "http"}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])["checks"]


class Check:
    def __init__(self, outcome: Callable[[], RelayError | None]) -> None:
        self.calls = 0
        self._outcome = outcome

    async def __call__(self) -> None:
        self.calls += 1
        if (error := self._outcome()) is not None:
            raise error


async def test_a_verdict_is_kept_and_then_renewed(tmp_path: Path) -> None:
    errors: list[RelayError | None] = [RelayError(Fault.UPSTREAM_AUTH, "no"), None]
    check = Check(lambda: errors.pop(0))
    assert (await get(Readiness(tmp_path, check, Drain())))[0] == 503
    readiness = Readiness(tmp_path, check, Drain())
    for _ in range(3):
        assert (await get(readiness))[0] == 200
    assert check.calls == 2

    changing = Check(lambda: RelayError(Fault.UPSTREAM_AUTH, "no") if changing.calls == 1 else None)
    restless = Readiness(tmp_path, changing, Drain(), fresh=0.0)
    assert [(await get(restless))[0] for _ in range(2)] == [503, 200]


async def test_probes_that_come_together_share_one_check(tmp_path: Path) -> None:
    release = asyncio.Event()
    calls = 0

    async def check() -> None:
        nonlocal calls
        calls += 1
        await release.wait()

    readiness = Readiness(tmp_path, check, Drain())
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        tasks = [group.create_task(get(readiness)) for _ in range(5)]
        group.create_task(asyncio.sleep(0)).add_done_callback(lambda _: release.set())
    assert [task.result()[0] for task in tasks] == [200] * 5 and calls == 1


async def test_a_check_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("proxy.health._PATIENCE", 0.01)
    async with asyncio.timeout(DEADLINE):
        status, checks = await get(Readiness(tmp_path, check, Drain()))
    assert (status, checks["upstream"]) == (503, "no answer in time")


async def test_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, checks = await get(Readiness(tmp_path / "file" / "state", Check(lambda: None), Drain()))
    assert status == 503 and "cannot be written" in checks["storage"]


async def test_a_server_that_stops_is_not_ready(tmp_path: Path) -> None:
    drain = Drain()
    readiness = Readiness(tmp_path, Check(lambda: None), drain)
    drain.start()
    status, checks = await get(readiness)
    assert (status, checks["server"]) == (503, "shutting down")
