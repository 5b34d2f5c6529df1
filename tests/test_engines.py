"""Engines behind the relay: who answers, and that nobody notices when that changes.

Over real sockets; a local engine is a child process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from adapters.local.control import EngineClient
from adapters.local.folders import control_socket
from adapters.local.host import supervised
from adapters.local.look import look
from adapters.local.status import EngineStatus, PlaceStatus, State
from proxy.app import create_app
from proxy.handover import Retries
from proxy.settings import Settings
from tests.support.cloudflare import FakeCloudflare, failure, frames, held, hello, stream
from tests.support.engines import FAKE_ENGINE
from tests.support.processes import until_gone
from tests.support.relay import MODEL, asking, calling, settings_for
from tests.support.servers import Served, serving
from tests.support.streams import CHAT
from tests.support.vllm import FakeVllm

pytestmark = pytest.mark.anyio

SAID = "Hello from the engine"
OWN = "my-model"


def engine_table(*behaviour: str, name: str = "gpu", **fields: object) -> str:
    """A local engine that answers for `OWN` under the name `tiny`."""
    command = [sys.executable, "-I", str(FAKE_ENGINE), "--socket", "{socket}", *behaviour]
    lines = [f'name = "{name}"', f"command = {command!r}", 'profile = "llama-server"', f'models = {{"{OWN}" = "tiny"}}']
    return "\n".join(["[[engines]]", *lines, *(f"{key} = {value}" for key, value in fields.items())]) + "\n"


def rule(*candidates: str, model: str = MODEL, **fields: str) -> str:
    more = "".join(f"{key} = {value}\n" for key, value in fields.items())
    return f'[models."{model}"]\ncandidates = {list(candidates)!r}\n{more}'


class Rig(NamedTuple):
    relay: Served
    cloudflare: FakeCloudflare
    settings: Settings
    upstream: AsyncExitStack
    """Closing it is the end of Cloudflare."""

    async def status(self) -> EngineStatus:
        async with EngineClient(control_socket(self.settings.state_dir)) as client:
            return (await client.status())[0]


@asynccontextmanager
async def rigged(folder: Path, toml: str, **flags: object) -> AsyncIterator[Rig]:
    (folder / "relay.toml").write_text(toml)
    cloudflare = FakeCloudflare()
    async with AsyncExitStack() as upstream:
        served = await upstream.enter_async_context(serving(cloudflare))
        settings = settings_for(folder, served.url, **flags)
        app = create_app(settings, settings.tokens, retries=Retries(settings.retries, 0.0))
        with supervised(settings.engines, probe=look, state_dir=settings.state_dir, surroundings=dict(os.environ)):
            async with serving(app) as relay:
                yield Rig(relay, cloudflare, settings, upstream)


def text_of(response: httpx.Response) -> str:
    """What a chat said, whole or streamed; it has to have ended well."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"] == "application/json":
        text: str = response.json()["choices"][0]["message"]["content"]
        return text
    assert response.text.endswith("data: [DONE]\n\n"), response.text
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith('data: {"id"')]
    chunks: list[dict[str, Any]] = [httpx.Response(200, text=line).json() for line in lines]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_spent_allocation_is_handed_over_and_the_account_rests(tmp_path: Path, streamed: bool) -> None:
    toml = rule("cloudflare", "gpu:tiny") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, failure(429, 3036))
        for _ in range(2):
            response = await client.post(CHAT, json=asking(stream=streamed))
            assert text_of(response) == SAID
            assert response.headers["x-relay-upstream"] == "gpu"
            assert response.headers["x-relay-handover"] == "cloudflare=insufficient_quota"
        assert len(rig.cloudflare.runs) == 1


async def test_a_metric_says_who_answered_and_why(tmp_path: Path) -> None:
    toml = rule("cloudflare", "gpu:tiny") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, failure(429, 3036))
        assert text_of(await client.post(CHAT, json=asking(stream=True))) == SAID
        told = (await client.get("/metrics")).text.splitlines()
    assert f'relay_answers_total{{model="{MODEL}",outcome="ok",upstream="gpu"}} 1.0' in told
    assert 'relay_handovers_total{reason="insufficient_quota",upstream="cloudflare"} 1.0' in told
    assert 'relay_first_event_seconds_count{upstream="gpu"} 1.0' in told
    assert 'relay_breakers_open{upstream="cloudflare"} 0.0' in told
    assert 'relay_engine_state{engine="gpu",replica="",state="ready"} 1.0' in told


async def test_who_answers_first_needs_no_header_of_a_hand_over(tmp_path: Path) -> None:
    toml = rule("cloudflare", "gpu:tiny") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, hello)
        response = await client.post(CHAT, json=asking())
        assert response.headers["x-relay-upstream"] == "cloudflare" and "x-relay-handover" not in response.headers
        assert (await rig.status()).starts == 0


async def test_who_is_silent_is_handed_over_when_the_operators_patience_ends(tmp_path: Path) -> None:
    toml = rule("cloudflare", "gpu:tiny", handover_after="0.3") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, held(asyncio.Event(), hello))
        for streamed in (True, False):
            response = await client.post(CHAT, json=asking(stream=streamed))
            assert text_of(response) == SAID
            assert response.headers["x-relay-handover"] == "cloudflare=upstream_timeout"


async def test_an_engine_goes_on_loading_while_another_answers_meanwhile(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    toml = rule("gpu:tiny", "cloudflare", handover_after="1") + engine_table("--gate", str(gate))
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, hello)
        first = await client.post(CHAT, json=asking(stream=True))
        assert first.headers["x-relay-upstream"] == "cloudflare"
        assert (await rig.status()).state is State.STARTING
        await asyncio.to_thread(gate.write_bytes, b"x")
        async with EngineClient(control_socket(rig.settings.state_dir)) as engines:
            await engines.start("gpu")
        assert (await client.post(CHAT, json=asking(stream=True))).headers["x-relay-upstream"] == "gpu"
        assert (await rig.status()).starts == 1


async def test_when_cloudflare_dies_in_a_busy_minute_no_client_sees_an_error(tmp_path: Path) -> None:
    toml = rule("cloudflare", "gpu:tiny") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, *[hello] * 100)

        async def ask(i: int) -> httpx.Response:
            return await client.post(CHAT, json=asking(stream=bool(i % 2)))

        async with asyncio.TaskGroup() as group:
            before = [group.create_task(ask(i)) for i in range(20)]
        await rig.upstream.aclose()
        async with asyncio.TaskGroup() as group:
            after = [group.create_task(ask(i)) for i in range(40)]
        assert {task.result().headers["x-relay-upstream"] for task in before} == {"cloudflare"}
        assert {text_of(task.result()) for task in after} == {SAID}
        assert (await rig.status()).starts == 1


async def test_what_has_begun_is_not_begun_anew(tmp_path: Path) -> None:
    toml = rule("cloudflare", "gpu:tiny") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, stream(frames({"response": "Hel"}), cut=True))
        response = await client.post(CHAT, json=asking(stream=True))
        assert "Hel" in response.text and '"error"' in response.text and "[DONE]" not in response.text
        assert (await rig.status()).starts == 0


async def test_a_mistake_of_the_clients_is_nobody_elses_business(tmp_path: Path) -> None:
    toml = rule("cloudflare", "gpu:tiny") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, failure(400, 5006))
        assert (await client.post(CHAT, json=asking())).status_code == 400
        assert (await rig.status()).starts == 0


async def test_an_engine_that_was_killed_answers_the_next_request(tmp_path: Path) -> None:
    async with rigged(tmp_path, engine_table()) as rig, calling(rig.relay.url) as client:
        assert text_of(await client.post(CHAT, json=asking(model=OWN))) == SAID
        pid = (await rig.status()).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until_gone(pid)
        assert text_of(await client.post(CHAT, json=asking(model=OWN, stream=True))) == SAID
        assert (await rig.status()).starts == 2


async def test_an_engine_that_dies_in_an_answer_breaks_that_answer_alone(tmp_path: Path) -> None:
    async with rigged(tmp_path, engine_table("--crash-mid-stream")) as rig, calling(rig.relay.url) as client:
        broken = await client.post(CHAT, json=asking(model=OWN, stream=True))
        assert "Hello" in broken.text and '"error"' in broken.text and "[DONE]" not in broken.text
        assert text_of(await client.post(CHAT, json=asking(model=OWN))) == SAID


async def test_an_engine_without_work_is_stopped(tmp_path: Path) -> None:
    async with rigged(tmp_path, engine_table(keep_alive=0.2)) as rig, calling(rig.relay.url) as client:
        assert text_of(await client.post(CHAT, json=asking(model=OWN))) == SAID
        pid = (await rig.status()).pid
        if pid is not None:  # it may be gone already
            await until_gone(pid)
        assert text_of(await client.post(CHAT, json=asking(model=OWN))) == SAID


async def test_an_engine_that_cannot_start_is_an_error_unless_somebody_else_answers(tmp_path: Path) -> None:
    toml = rule("gpu:tiny", "cloudflare") + engine_table("--crash-at-start", "3")
    async with rigged(tmp_path, toml, retries=0) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, hello)
        response = await client.post(CHAT, json=asking())
        assert response.headers["x-relay-upstream"] == "cloudflare"
        assert response.headers["x-relay-handover"].startswith("gpu=")
        alone = await client.post(CHAT, json=asking(model=OWN))
        assert (alone.status_code, alone.json()["error"]["type"]) == (503, "server_error")
        assert alone.headers["x-relay-upstream"] == "gpu" and int(alone.headers["retry-after"]) >= 1


async def test_emulated_workers_ai_is_answered_by_an_engine_under_cloudflares_name(tmp_path: Path) -> None:
    async with rigged(tmp_path, rule("gpu:tiny") + engine_table()) as rig, calling(rig.relay.url) as client:
        url = f"/client/v4/accounts/local/ai/run/{MODEL}"
        whole = await client.post(url, json={"prompt": "hi"})
        assert whole.json()["result"]["response"] == SAID
        assert (whole.headers["x-relay-upstream"], whole.headers["cf-ai-neurons"]) == ("gpu", "0.00")
        streamed = await client.post(url, json={"prompt": "hi", "stream": True})
        assert '"response":"Hello"' in streamed.text and streamed.text.endswith("data: [DONE]\n\n")
        assert not rig.cloudflare.runs


PREFERRED = {"cloudflare": ["cloudflare"], "local": ["gpu"]}


@pytest.mark.parametrize(("prefer", "upstreams"), PREFERRED.items(), ids=PREFERRED)
async def test_the_operator_says_who_is_first_for_what_both_have(
    tmp_path: Path, prefer: str, upstreams: list[str]
) -> None:
    toml = engine_table().replace(OWN, MODEL)
    async with rigged(tmp_path, toml, prefer=prefer) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, hello)
        response = await client.post(CHAT, json=asking())
        assert [response.headers["x-relay-upstream"]] == upstreams


async def test_several_addresses_are_replicas_of_one_engine(tmp_path: Path) -> None:
    async with serving(FakeVllm()) as dead:
        pass
    async with serving(FakeVllm()) as living:
        urls = [f"{living.url}/v1", f"{dead.url}/v1"]
        toml = f'[[engines]]\nname = "farm"\nurl = {urls!r}\nprofile = "vllm"\nmodels = ["{OWN}"]\n'
        async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
            for i in range(6):
                response = await client.post(CHAT, json=asking(f"question {i}", model=OWN, stream=bool(i % 2)))
                assert text_of(response) and response.headers["x-relay-upstream"] == "farm"
                assert response.headers.get("x-relay-handover") in (None, "farm/2=upstream_unreachable")
            page = (await client.get("/metrics")).text
            assert 'relay_engine_state{engine="farm",replica="1",state="up"} 1.0' in page


async def test_models_of_engines_are_listed_as_theirs(tmp_path: Path) -> None:
    toml = rule("cloudflare", "gpu:tiny") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        owners = {row["id"]: row["owned_by"] for row in (await client.get("/v1/models")).json()["data"]}
        assert (owners[OWN], owners[MODEL]) == ("gpu", "cloudflare")
        row = (await client.get(f"/v1/models/{OWN}")).json()
        assert (row["id"], row["owned_by"]) == (OWN, "gpu")


RETIRED = "@cf/meta/llama-2-7b-chat-int8"
SERVED = {
    "by its name": engine_table().replace(OWN, RETIRED),
    "as a candidate": rule("gpu:tiny", model=RETIRED) + engine_table(),
}


@pytest.mark.parametrize("toml", SERVED.values(), ids=SERVED)
async def test_a_model_that_cloudflare_has_retired_is_listed_everywhere_where_an_engine_has_it(
    tmp_path: Path, toml: str
) -> None:
    (tmp_path / "relay.toml").write_text(toml)
    settings = settings_for(tmp_path)
    async with serving(create_app(settings, settings.tokens)) as relay, calling(relay.url) as client:
        rows = {row["id"]: row for row in (await client.get("/v1/models")).json()["data"]}
        assert (rows[RETIRED]["owned_by"], rows[RETIRED]["status"]) == ("gpu", "listed")
        assert "retired_on" not in rows[RETIRED]
        found = (await client.get("/client/v4/accounts/local/ai/models/search", params={"per_page": 1000})).json()
        assert RETIRED in [row["name"] for row in found["result"]]


# ---------------------------------------------------------------- draining


async def operate(
    rig: Rig, do: str, name: str, replica: str = "", on_progress: Callable[[str], None] | None = None
) -> list[PlaceStatus]:
    """What `relay engines drain` and `resume` ask."""
    async with EngineClient(control_socket(rig.settings.state_dir)) as operator:
        if do == "drain":
            return await operator.drain(name, replica, on_progress=on_progress)
        return await operator.resume(name, replica)


async def test_a_drained_engine_is_passed_over_until_it_is_resumed(tmp_path: Path) -> None:
    toml = rule("gpu:tiny", "cloudflare") + engine_table()
    async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
        rig.cloudflare.script(MODEL, *[hello] * 4)
        await operate(rig, "drain", "gpu")
        for streamed in (False, True):
            response = await client.post(CHAT, json=asking(stream=streamed))
            assert text_of(response) and response.headers["x-relay-upstream"] == "cloudflare"
            assert "x-relay-handover" not in response.headers, "it was not asked"
        assert (await rig.status()).starts == 0
        told = (await client.get("/metrics")).text
        assert 'relay_engine_state{engine="gpu",replica="",state="draining"} 1.0' in told
        await operate(rig, "resume", "gpu")
        assert (await client.post(CHAT, json=asking())).headers["x-relay-upstream"] == "gpu"


async def test_where_nobody_is_left_a_drain_is_told(tmp_path: Path) -> None:
    async with rigged(tmp_path, engine_table()) as rig, calling(rig.relay.url) as client:
        assert [status.state for status in await operate(rig, "drain", "gpu")] == ["drained"]
        for streamed in (False, True):
            response = await client.post(CHAT, json=asking(model=OWN, stream=streamed))
            assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
            assert response.json()["error"]["message"] == (
                "The engine 'gpu' is drained: it takes no new requests until its operator resumes it."
            )
            assert response.headers["x-relay-upstream"] == "gpu"


async def test_what_runs_on_a_remote_engine_ends_well_while_it_drains(tmp_path: Path) -> None:
    vllm = FakeVllm()
    release = vllm.tokens_held = asyncio.Event()
    async with serving(vllm) as served:
        toml = f'[[engines]]\nname = "box"\nurl = "{served.url}"\nprofile = "vllm"\nmodels = ["{OWN}"]\n'
        async with rigged(tmp_path, toml) as rig, calling(rig.relay.url) as client:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(client.post(CHAT, json=asking(model=OWN, stream=True)))
                await vllm.begun.wait()
                told = (await client.get("/metrics")).text
                assert 'relay_engine_open_requests{engine="box",replica="1"} 1.0' in told
                assert 'relay_engine_state{engine="box",replica="1",state="up"} 1.0' in told
                told_of = asyncio.Event()
                draining = group.create_task(operate(rig, "drain", "box", "1", lambda text: told_of.set()))
                await told_of.wait()
                assert (await client.post(CHAT, json=asking(model=OWN))).status_code == 503
                assert len(vllm.chats) == 1 and not draining.done()
                release.set()
            assert text_of(running.result()) == "Hello there"
            assert [status.state for status in draining.result()] == ["drained"]


async def test_whoever_waits_for_a_start_reads_in_comments_how_far_it_is(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    secret = "a line of the log, 42% done"
    toml = engine_table("--gate", str(gate), "--say", secret)
    async with (
        rigged(tmp_path, toml, keepalive=0.05, keepalive_form="comment") as rig,
        calling(rig.relay.url) as client,
    ):
        body = asking(model=OWN, stream=True)
        async with client.stream("POST", CHAT, json=body) as response:
            seen = b""
            async for chunk in response.aiter_raw():
                seen += chunk
                if b"42%" in seen and not gate.with_name("opened").exists():
                    gate.with_name("opened").touch()
                    await asyncio.to_thread(gate.write_bytes, b"x")
    assert b": keep-alive, loading gpu\n\n" in seen and b": keep-alive, loading gpu 42%\n\n" in seen
    assert b"a line of the log" not in seen and seen.endswith(b"data: [DONE]\n\n")
