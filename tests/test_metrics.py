"""`/metrics`: what is counted, under which names, and by how many processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from adapters.base import Call
from adapters.canonical import Usage
from proxy.metrics import EngineReading, Metrics, keep_figures_in_memory, shared_figures
from tests.support.cloudflare import HELLO, failure, frames, hello, result, stream
from tests.support.raw_http import chat_request, connected
from tests.support.relay import MODEL, asking, calling, relaying
from tests.support.servers import DEADLINE
from tests.support.simulated_time import simulate
from tests.support.streams import CHAT
from tests.test_drain import served

pytestmark = pytest.mark.anyio

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(page: str) -> Series:
    """The page as Prometheus reads it."""
    families = text_string_to_metric_families(page)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def figure(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, frozenset(labels.items())))


async def figures(client: httpx.AsyncClient) -> Series:
    response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(response.text)


# ---------------------------------------------------------------- what is counted


async def test_a_request_is_counted_with_who_answered_and_what_it_used(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, hello)
        for streamed in (False, True, False):
            assert (await client.post(CHAT, json=asking(stream=streamed))).status_code == 200
        told = await figures(client)
    route = {"route": "/v1/chat/completions"}
    assert figure(told, "relay_requests_total", **route, status="200") == 3
    assert figure(told, "relay_answers_total", upstream="cloudflare", model=MODEL, outcome="ok") == 3
    assert figure(told, "relay_tokens_total", upstream="cloudflare", direction="prompt") == 3 * 9
    assert figure(told, "relay_tokens_total", upstream="cloudflare", direction="completion") == 3 * 2
    assert figure(told, "relay_request_seconds_count", **route) == 3
    assert 0 < (figure(told, "relay_request_seconds_sum", **route) or 0) < DEADLINE
    assert figure(told, "relay_first_event_seconds_count", upstream="cloudflare") == 1, "streams have a first event"
    assert not any(name.endswith("_created") for name, _ in told)


async def test_what_comes_from_callers_does_not_make_series(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        for name in ("one", "two"):
            model = f"@cf/acme/{name}"
            rig.cloudflare.script(model, hello)
            assert (await client.post(CHAT, json={**asking(), "model": model})).status_code == 200
            await client.get(f"/{name}")
            await client.get(f"/v1/models/{name}")
        told = await figures(client)
    assert figure(told, "relay_answers_total", upstream="cloudflare", model="other", outcome="ok") == 2
    assert figure(told, "relay_requests_total", route="none", status="404") == 2
    assert figure(told, "relay_requests_total", route="/v1/models/{model:path}", status="404") == 2
    assert not any("acme" in value or "two" in value for _, labels in told for _, value in labels)


async def test_models_are_bounded_in_number_too() -> None:
    metrics = Metrics(lambda id: True)
    for i in range(1010):
        call = Call("id")
        call.upstream, call.model = "cloudflare", f"m{i}"
        metrics.finished(call, "/", 200, 0.0, 1.0)
    told = read((await metrics.page()).decode())
    assert figure(told, "relay_answers_total", upstream="cloudflare", model="m999", outcome="ok") == 1
    assert figure(told, "relay_answers_total", upstream="cloudflare", model="other", outcome="ok") == 10


async def test_an_error_is_counted_by_its_code(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, failure(400, 5004))
        await client.post(CHAT, json=asking())
        rig.cloudflare.script(MODEL, stream(frames({"response": "Hel"}), cut=True))
        assert (await client.post(CHAT, json=asking(stream=True))).status_code == 200
        await client.post(CHAT, content=b"{")
        await client.post(CHAT, json=asking(), headers={"authorization": "Bearer wrong"})
        told = await figures(client)
    about = {"upstream": "cloudflare", "model": MODEL}
    assert figure(told, "relay_answers_total", **about, outcome="invalid_value") == 1
    assert figure(told, "relay_answers_total", **about, outcome="upstream_error") == 1, "in band, after a 200"
    assert sum(value for (name, _), value in told.items() if name == "relay_answers_total") == 2, "others met nobody"
    assert figure(told, "relay_requests_total", route="/v1/chat/completions", status="400") == 2
    assert figure(told, "relay_requests_total", route="none", status="401") == 1


async def test_a_client_that_leaves_is_told_apart(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        held = asyncio.Event()
        rig.cloudflare.script(MODEL, _held_stream(held))
        async with connected(rig.relay.port) as connection:
            await connection.send(chat_request(asking(stream=True)))
            await connection.until(b"Hello")
        async with asyncio.timeout(DEADLINE):
            await rig.cloudflare.runs[0].gone.wait()
        told = await figures(client)
    assert figure(told, "relay_answers_total", upstream="cloudflare", model=MODEL, outcome="client_left") == 1
    assert figure(told, "relay_tokens_total", upstream="cloudflare", direction="completion") is None


def _held_stream(release: asyncio.Event) -> Any:
    async def play(asked: Any, send: Any) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": frames({"response": "Hello"}), "more_body": True})
        await release.wait()

    return play


async def test_native_calls_are_counted_with_their_model(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, HELLO, failure(429, 3040))
        for _ in range(2):
            await client.post(f"/client/v4/accounts/a/ai/run/{MODEL}", json={"prompt": "Hi"})
        assert (await client.get("/client/v4/accounts/a/ai/models/search")).status_code == 200
        told = await figures(client)
    about = {"upstream": "cloudflare", "model": MODEL}
    assert figure(told, "relay_answers_total", **about, outcome="ok") == 1
    assert figure(told, "relay_answers_total", **about, outcome="status_429") == 1, "passed on as it came"
    assert figure(told, "relay_answers_total", upstream="cloudflare", model="", outcome="ok") == 1, "about no model"


async def test_embeddings_count_their_tokens(tmp_path: Path) -> None:
    model = "@cf/baai/bge-small-en-v1.5"
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(
            model, result({"shape": [1, 2], "data": [[1.0, 0.0]], "usage": {"prompt_tokens": 4, "total_tokens": 4}})
        )
        answer = await client.post("/v1/embeddings", json={"model": model, "input": "a"})
        assert answer.status_code == 200, answer.text
        told = await figures(client)
    assert figure(told, "relay_answers_total", upstream="cloudflare", model=model, outcome="ok") == 1
    assert figure(told, "relay_tokens_total", upstream="cloudflare", direction="prompt") == 4


async def test_a_hand_over_is_counted_with_its_reason() -> None:
    metrics, call = Metrics(lambda id: True), Call("id")
    call.handovers = ["cloudflare=insufficient_quota", "farm/1=upstream_unreachable"]
    call.upstream, call.model = "farm", "m"
    call.count(None)
    call.count(Usage(prompt_tokens=3))
    metrics.finished(call, "/v1/chat/completions", 200, 10.0, 12.0)
    told = read((await metrics.page()).decode())
    assert figure(told, "relay_handovers_total", upstream="cloudflare", reason="insufficient_quota") == 1
    assert figure(told, "relay_handovers_total", upstream="farm/1", reason="upstream_unreachable") == 1
    assert figure(told, "relay_answers_total", upstream="farm", model="m", outcome="ok") == 1
    assert figure(told, "relay_request_seconds_bucket", route="/v1/chat/completions", le="1.0") == 0
    assert figure(told, "relay_request_seconds_bucket", route="/v1/chat/completions", le="2.5") == 1


async def test_the_page_needs_a_token(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(rig.url + "/metrics")).status_code == 401


async def test_every_metric_is_documented() -> None:
    page = (await Metrics(lambda id: True).page()).decode()
    names = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    documented = (Path(__file__).parent.parent / "docs" / "operating.md").read_text()
    assert len(names) == 10
    assert [name for name in names if f"| `{name}` |" not in documented] == []


# ---------------------------------------------------------------- what is


async def test_breakers_and_engines_are_shown_as_they_are_now() -> None:
    breakers = {"cloudflare": 2}
    readings: list[EngineReading] = []

    async def engines() -> Iterable[EngineReading]:
        return readings

    metrics = Metrics(lambda id: True, open_breakers=lambda: breakers, engines=engines)
    readings.append(EngineReading(engine="farm", replica="0", state="up", open=3, waiting=1))
    readings.append(EngineReading(engine="gpu", state="stopped"))
    told = read((await metrics.page()).decode())
    assert figure(told, "relay_breakers_open", upstream="cloudflare") == 2
    assert figure(told, "relay_engine_state", engine="farm", replica="0", state="up") == 1
    assert figure(told, "relay_engine_open_requests", engine="farm", replica="0") == 3
    assert figure(told, "relay_engine_waiting_requests", engine="farm", replica="0") == 1
    assert figure(told, "relay_engine_state", engine="gpu", replica="", state="stopped") == 1
    breakers.clear()
    assert figure(told, "relay_engine_open_requests", engine="gpu", replica="") is None, "nobody counts them"
    readings[:] = [EngineReading(engine="farm", replica="0", state="down", open=0)]
    told = read((await metrics.page()).decode())
    assert figure(told, "relay_breakers_open", upstream="cloudflare") == 0
    assert figure(told, "relay_engine_state", engine="farm", replica="0", state="up") == 0
    assert figure(told, "relay_engine_state", engine="farm", replica="0", state="down") == 1
    assert figure(told, "relay_engine_open_requests", engine="farm", replica="0") == 0


# ---------------------------------------------------------------- several processes


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As a worker process finds things: prometheus_client was imported with the variable set."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())  # type: ignore[no-untyped-call]  # as prometheus_client has it
    return tmp_path


def test_what_others_see_of_a_process_is_kept_up_to_date(shared: Path) -> None:
    breakers = {"cloudflare": 0}
    metrics = Metrics(lambda id: True, open_breakers=lambda: breakers)

    async def scene() -> None:
        async with metrics.running():
            await asyncio.sleep(1)
            breakers["cloudflare"] = 1
            await asyncio.sleep(5)

    simulate(scene())
    breakers["cloudflare"] = 7  # nobody asks this process any more
    page = asyncio.run(_page_of_another(metrics))
    assert figure(read(page), "relay_breakers_open", upstream="cloudflare") == 1


async def _page_of_another(metrics: Metrics) -> str:
    other = Metrics(lambda id: True)
    return (await other.page()).decode()


async def test_a_process_alone_keeps_its_figures_to_itself(shared: Path) -> None:
    keep_figures_in_memory()
    metrics = Metrics(lambda id: True)
    metrics.finished(Call("id"), "/", 0, 0.0, 1.0)
    async with metrics.running():
        told = read((await metrics.page()).decode())
    assert figure(told, "relay_requests_total", route="/", status="none") == 1
    assert _files(shared) == set()


def test_the_folder_is_private_is_for_children_alone_and_goes_away() -> None:
    with shared_figures() as on_end:
        folder = _children_see()
        assert folder is not None and "PROMETHEUS_MULTIPROC_DIR" not in os.environ
        path = Path(folder)
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "gauge_livesum_17.db").touch()
        (path / "counter_17.db").touch()
        on_end(17)
        assert [file.name for file in path.glob("*.db")] == ["counter_17.db"], "what was counted stays counted"
    assert not path.exists() and _children_see() is None


def _children_see() -> str | None:
    with os.popen('printf %s "$PROMETHEUS_MULTIPROC_DIR"') as output:
        return output.read() or None


def _files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def _folders(parent: Path) -> list[Path]:
    return list(parent.glob("relay-metrics-*"))


async def test_workers_count_together_whichever_is_asked_and_whoever_dies(tmp_path: Path) -> None:
    async with served(tmp_path, RELAY_WORKERS="2", TMPDIR=str(tmp_path)) as child:
        child.cloudflare.script(MODEL, hello)
        url, asked, workers = f"http://127.0.0.1:{child.port}", 0, set[str]()
        async with asyncio.timeout(2 * DEADLINE):
            while len(workers) < 2:
                async with calling(url) as client:
                    assert (await client.post(CHAT, json=asking(stream=True))).status_code == 200
                asked += 1
                (folder,) = _folders(tmp_path)
                workers = {name[8:-3] for name in _files(folder) if name.startswith("counter_")}
        assert await _counted(url) == asked
        dead = min(workers)
        gone = f"gauge_livesum_{dead}.db"
        MmapedDict(str(folder / gone)).close()  # type: ignore[no-untyped-call]  # as above
        os.kill(int(dead), signal.SIGKILL)
        async with asyncio.timeout(2 * DEADLINE):
            while gone in _files(folder):
                assert await _counted(url) == asked
        child.process.send_signal(signal.SIGTERM)
        assert await child.status() == 0
        assert _folders(tmp_path) == []


async def _counted(url: str) -> float | None:
    async with calling(url) as client:
        told = await figures(client)
    route = {"route": "/v1/chat/completions"}
    assert figure(told, "relay_request_seconds_count", **route) == figure(
        told, "relay_requests_total", **route, status="200"
    )
    return figure(told, "relay_requests_total", **route, status="200")
