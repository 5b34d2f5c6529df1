"""Engines of the relay's own behind the relay: their processes are played, everything else is real."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from adapters.base import Call
from adapters.canonical import ChatRequest, Message
from adapters.engine_calls import Endpoint, EngineCalls
from adapters.local.address import EngineAddress
from adapters.local.control import EngineClient
from adapters.local.folders import control_socket
from adapters.local.host import supervised
from adapters.local.leased import LeasedEngine
from adapters.local.look import look
from adapters.local.own import INSTALL, missing_packages
from adapters.local.serving.app import create_app as engine_app
from adapters.local.spec import EngineSpec
from adapters.local.status import EngineStatus
from adapters.profiles import PROFILES
from adapters.transport import open_transport
from proxy.app import create_app
from proxy.cli import cli
from proxy.commands import running_engines
from proxy.handover import Retries
from proxy.settings import Settings
from tests.serving.played import CONTEXT, PlayedEngine, chatting, steps
from tests.support.canned_http import Asked, Canned, as_json
from tests.support.canned_http import serving as canned
from tests.support.relay import calling, settings_for
from tests.support.servers import serving
from tests.support.streams import CHAT

pytestmark = pytest.mark.anyio

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
NOWHERE = "http://127.0.0.1:9"


def played(spec: EngineSpec) -> EngineSpec:
    """The engine with a played one in its process."""
    command = (sys.executable, "-m", "tests.serving.played_process", *spec.command[4:])
    return msgspec.structs.replace(spec, command=command, environment={"PYTHONPATH": os.fspath(ROOT)})


class Rig:
    def __init__(self, client: httpx.AsyncClient, settings: Settings) -> None:
        self.client = client
        self.socket = control_socket(settings.state_dir)

    async def ask(self, text: str = "Hello", **fields: Any) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], **fields}
        return await self.client.post(CHAT, json=body)

    async def statuses(self) -> dict[str, EngineStatus]:
        async with EngineClient(self.socket) as client:
            return {status.name: status for status in await client.status()}


@asynccontextmanager
async def rigged(
    folder: Path,
    lines: str = "",
    as_process: Callable[[EngineSpec], EngineSpec] = played,
    *,
    config: str = '"x": 0',
    upstream: str | None = NOWHERE,
) -> AsyncIterator[Rig]:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(f'{{"architectures": ["LlamaForCausalLM"], {config}}}')
    entry = 'name = "mine"\nkind = "transformers"\nmodel = "model"\nmodels = ["tiny"]'
    (folder / "relay.toml").write_text(f"[[engines]]\n{entry}\n{lines}\n")
    settings = settings_for(folder, upstream)
    settings = dataclasses.replace(settings, engines=tuple(map(as_process, settings.engines)))
    app = create_app(settings, settings.tokens, retries=Retries(0, 0.0))
    with supervised(settings.engines, probe=look, state_dir=settings.state_dir, surroundings=dict(os.environ)):
        async with serving(app) as relay, calling(relay.url) as client:
            yield Rig(client, settings)


async def test_it_is_started_by_the_first_request_and_takes_every_field_as_it_is(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        **{"temperature": 2, "top_p": 0.0, "top_k": 3, "min_p": 0.1, "seed": -5, "repetition_penalty": 1.5},
        **{"presence_penalty": -2, "frequency_penalty": 2, "logit_bias": {"5": 1}, "logprobs": True},
        **{"top_logprobs": 0, "stop": ["STOP"], "chat_template_kwargs": {"x": 1}, "reasoning_effort": "high"},
        **{"response_format": {"type": "json_object"}, "parallel_tool_calls": False},
    }
    async with rigged(tmp_path) as rig:
        assert (await rig.statuses())["mine"].pid is None
        response = await rig.ask(**fields)
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] == "Hi"
        assert response.headers["x-relay-upstream"] == "mine" and "x-relay-changes" not in response.headers
        streamed = await rig.ask(stream=True)
        assert streamed.text.endswith("data: [DONE]\n\n") and '"content":"H"' in streamed.text
        assert (await rig.statuses())["mine"].pid is not None


async def test_its_context_is_the_folders_until_it_runs_and_says_itself(tmp_path: Path) -> None:
    async def contexts(rig: Rig) -> list[Any]:
        rows = (await rig.client.get("/v1/models")).json()["data"]
        listed = next(row for row in rows if row["id"] == "tiny")
        detail = (await rig.client.get("/v1/models/tiny")).json()
        found = (await rig.client.get("/client/v4/accounts/a/ai/models/search", params={"search": "tiny"})).json()
        (shown,) = [row for row in found["result"] if row["name"] == "tiny"]
        properties = {pair["property_id"]: pair["value"] for pair in shown["properties"]}
        printed = await in_thread(list_models)
        (row,) = [row for row in printed if row["id"] == "tiny"]
        return [listed["context_window"], detail["context_window"], properties["context_window"], row["context_window"]]

    def in_thread(work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(None, work)  # not to_thread: it would be in this loop, too

    def list_models() -> list[dict[str, Any]]:
        words = ["--config", str(tmp_path / "relay.toml"), "--state-dir", str(tmp_path)]
        rows: list[dict[str, Any]] = json.loads(CliRunner().invoke(cli, ["models", "--json", *words]).stdout)["models"]
        return rows

    async with rigged(tmp_path, config='"max_position_embeddings": 131072', upstream=None) as rig:
        assert await contexts(rig) == [131072, 131072, "131072", 131072]
        assert (await rig.ask()).status_code == 200
        assert await contexts(rig) == [CONTEXT, CONTEXT, str(CONTEXT), CONTEXT]
    assert (await in_thread(list_models))[-1]["context_window"] == 131072


async def test_what_it_can_never_do_is_told_to_operator_and_client(tmp_path: Path) -> None:
    words = INSTALL if missing_packages() else "model has no weights (*.safetensors)"
    async with rigged(tmp_path, as_process=lambda spec: spec) as rig:
        response = await rig.ask()
        status = (await rig.statuses())["mine"]
    assert response.status_code == 503 and status.error == words
    assert response.json()["error"]["message"] == f"The engine 'mine' cannot be used: {words}."


async def test_limits_are_told_in_its_own_words(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        full = await rig.ask("full")
        long = await rig.ask("x" * 300)
    assert (full.status_code, full.headers["retry-after"]) == (429, "7")
    assert full.json()["error"]["message"] == "The model's queue is full. Try again in 7 s."
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "However, your messages resulted in 300 tokens" in long.json()["error"]["message"]


async def test_one_that_dies_is_started_anew(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        assert (await rig.ask("die")).status_code in (500, 502, 503)
        async with EngineClient(rig.socket) as client:
            await client.start("mine", lambda text: None)
        assert (await rig.ask()).status_code == 200
        assert (await rig.statuses())["mine"].starts == 2


async def test_several_devices_share_the_work_under_one_name(tmp_path: Path) -> None:
    async with rigged(tmp_path, 'device = ["cuda:0", "cuda:1"]') as rig:
        answers = await asyncio.gather(*(rig.ask(f"Question {i}") for i in range(24)))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-relay-upstream"] for answer in answers} == {"mine"}
        statuses = await rig.statuses()
    assert sorted(statuses) == ["mine-0", "mine-1"] and all(status.pid for status in statuses.values())


class OnePlace:
    """Leases of an engine that always is where it is."""

    def __init__(self, address: EngineAddress) -> None:
        self._address = address

    @asynccontextmanager
    async def lease(self, name: str, on_progress: Callable[[str], None] | None = None) -> AsyncIterator[EngineAddress]:
        yield self._address

    def report_failure(self, name: str) -> None: ...


SILENT: dict[str, Canned] = {
    "no list": Canned(404, b"{}"),
    "a list of something else": Canned(200, b'{"data": [{"id": "tiny"}]}'),
    "an empty list": Canned(200, b'{"data": []}'),
    "no JSON": Canned(200, b"<html>"),
}


@pytest.mark.parametrize("answer", SILENT.values(), ids=SILENT)
async def test_a_context_that_it_does_not_tell_is_left_alone(answer: Canned) -> None:
    told: list[int] = []
    asked: list[str] = []
    transport = open_transport(connect_timeout=1)

    def reach(address: EngineAddress) -> EngineCalls:
        return EngineCalls(transport, Endpoint(name="mine", base_url=address.url, profile=PROFILES["relay"]))

    def play(request: Asked) -> Canned:
        asked.append(request.path)
        return answer if request.method == "GET" else as_json(200, CHATTED)

    async with transport:
        with canned(play) as server:
            engine = LeasedEngine("mine", OnePlace(EngineAddress(f"{server.url}/v1")), reach, told.append)
            request = ChatRequest(model="tiny", messages=(Message(role="user", content="Hello"),))
            for _ in range(2):
                assert (await engine.chat(request, Call("id"))).choices[0].text == "Hi"
    assert told == [] and asked == ["/v1/models", CHAT, CHAT]


class Running:
    """A supervisor whose engine `mine` is at this address."""

    def __init__(self, url: str) -> None:
        self._status = SimpleNamespace(name="mine", address=EngineAddress(url))

    def __call__(self, socket: Path) -> Any:
        return nullcontext(SimpleNamespace(status=self._statuses))

    async def _statuses(self) -> list[Any]:
        return [self._status]


@pytest.mark.parametrize("answer", [*SILENT.values(), None], ids=[*SILENT, "nobody there"])
async def test_a_context_that_it_does_not_tell_is_the_folders_in_the_list_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Canned | None
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "relay.toml").write_text('[[engines]]\nname = "mine"\nkind = "transformers"\nmodel = "model"\n')
    settings = settings_for(tmp_path)
    with nullcontext() if answer is None else canned(lambda asked: answer) as server:
        monkeypatch.setattr(running_engines, "EngineClient", Running(f"{server.url if server else NOWHERE}/v1"))
        assert list(await running_engines.engines_as_they_run(settings)) == list(settings.engines)
        assert server is None or [asked.path for asked in server.asked] == ["/v1/models"]


CHATTED = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}


async def test_an_engine_that_does_not_run_is_as_good_as_ready() -> None:
    transport = open_transport(connect_timeout=1)

    def reach(address: EngineAddress) -> EngineCalls:
        return EngineCalls(transport, Endpoint(name="mine", base_url=address.url, profile=PROFILES["relay"]))

    model = chatting(PlayedEngine(steps("Hi")))
    async with transport:
        async with serving(engine_app(model, lambda reason: None)) as served:
            engine = LeasedEngine("mine", OnePlace(EngineAddress(f"{served.url}/v1")), reach)
            assert (await engine.look(0)).load is None
            request = ChatRequest(model="tiny", messages=(Message(role="user", content="Hello"),))
            assert (await engine.chat(request, Call("id"))).choices[0].text == "Hi"
            running = await engine.look(0)
            assert running.ready and running.load is not None and running.load.waiting == 2
            assert engine.stats.answers == 1
        assert (await engine.look(0)).ready
        assert not (await engine.look(1)).ready
