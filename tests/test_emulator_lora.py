"""LoRA adapters that requests name: which models take any, and which adapter a model can use."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.catalogue import load_snapshot
from adapters.errors import RelayError
from tests.support.cloudflare import HELLO
from tests.support.emulator import AI, SHORT, Entrance, code_of, emulating
from tests.support.relay import Rig, asking, calling, relaying
from wrangler_compat.finetunes import CONFIG, WEIGHTS, Finetunes
from wrangler_compat.lora import base_model

pytestmark = pytest.mark.anyio

BASE = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
OTHER_BASE = "@cf/meta/llama-3.2-3b-instruct"
WITHOUT = "@cf/meta/llama-3.2-1b-instruct"
FILES = {
    CONFIG: json.dumps({"r": 8, "model_type": "mistral"}).encode(),
    WEIGHTS: (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' + b" " * 10).join(
        (((64).to_bytes(8, "little")), b"\0" * 8)
    ),
}


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a whole adapter of each base and a second of one, one without any file and one that has but one of them."""
    folder = tmp_path_factory.mktemp("state")
    finetunes = Finetunes(folder)
    for name, model, files in (
        ("whole", BASE, (CONFIG, WEIGHTS)),
        ("whole-elsewhere", OTHER_BASE, (CONFIG, WEIGHTS)),
        ("empty", BASE, ()),
        ("half", BASE, (CONFIG,)),
        ("twin", BASE, (CONFIG, WEIGHTS)),
    ):
        finetunes.create(model=model, name=name)
        for file in files:
            finetunes.keep_asset(name, file, BytesIO(FILES[file]))
    return folder


@pytest.fixture(scope="module")
async def client(state_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(state_dir) as client:
        yield client


async def ask(client: httpx.AsyncClient, surface: str, model: str, fields: dict[str, Any]) -> httpx.Response:
    """A text request by one of the surfaces."""
    inputs = SHORT | fields
    match surface:
        case "ai/run with its model in the body":
            return await client.post(f"{AI}/run", json={"model": model, "input": inputs})
        case "S2" | "S3":
            return await Entrance(surface, client).run(inputs, model=model)
        case "ai/v1":
            return await client.post(f"{AI}/v1/chat/completions", json=asking(model=model, max_tokens=2) | fields)
        case "a gateway":
            return await client.post(f"/v1/local/g/workers-ai/{model}", json=inputs)
        case "a gateway's list":
            entry = {"provider": "workers-ai", "endpoint": model, "query": inputs}
            return await client.post("/v1/local/g", json=[entry])
    return await client.post(f"{AI}/run/{model}", json=inputs)


SURFACES = ("ai/run", "ai/run with its model in the body", "S2", "S3", "ai/v1", "a gateway", "a gateway's list")

REFUSED: dict[str, tuple[str, str, int, int, str]] = {
    "a model that takes none": (
        WITHOUT,
        "whole",
        405,
        5005,
        f"LoRA unsupported: The model {WITHOUT} does not support LoRA inference",
    ),
    "a model that takes none, and no such adapter": (WITHOUT, "nobody's", 405, 5005, "does not support LoRA"),
    "no such adapter": (
        BASE,
        "00000000-0000-0000-0000-000000000000",
        400,
        5033,
        "Finetune not found: 00000000-0000-0000-0000-000000000000 does not exist or is not accessible",
    ),
    "an adapter of another base": (BASE, "whole-elsewhere", 400, 3030, "Lora not compatible with model"),
    "an adapter without files": (
        BASE,
        "empty",
        400,
        3039,
        "Finetune is missing required files (model.safetensors and config.json): "
        f"empty has no {CONFIG} and {WEIGHTS} yet",
    ),
    "an adapter with one of its files": (BASE, "half", 400, 3039, f"half has no {WEIGHTS} yet"),
}


def told_by(response: httpx.Response) -> tuple[int, int, str]:
    body = response.json()
    [error] = body.get("errors") or body["error"]  # a gateway tells them under the other name
    return response.status_code, error["code"], error["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("model", "lora", "status", "code", "words"), REFUSED.values(), ids=REFUSED)
async def test_an_adapter_that_cannot_be_used_is_refused(
    client: httpx.AsyncClient, surface: str, model: str, lora: str, status: int, code: int, words: str, stream: bool
) -> None:
    told = told_by(await ask(client, surface, model, {"lora": lora, "stream": stream}))
    assert told[:2] == (status, code) and words in told[2]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("surface", SURFACES)
async def test_an_adapter_is_used_by_its_name_and_by_its_id(
    client: httpx.AsyncClient, state_dir: Path, surface: str, stream: bool
) -> None:
    finetune = Finetunes(state_dir).find("whole")
    assert finetune is not None
    for lora in ("whole", finetune.id):
        response = await ask(client, surface, BASE, {"lora": lora, "stream": stream})
        assert response.status_code == 200
        assert ("text/event-stream" in response.headers["content-type"]) is stream
        assert b"error" not in response.content.replace(b'"errors":[]', b"")


@pytest.mark.parametrize("surface", SURFACES)
async def test_an_adapter_is_the_same_by_its_name_and_by_its_id(
    client: httpx.AsyncClient, state_dir: Path, surface: str
) -> None:
    finetune = Finetunes(state_dir).find("whole")
    assert finetune is not None
    answers = {}
    for lora in ("whole", finetune.id, "twin", None):
        response = await ask(client, surface, BASE, {"lora": lora, "max_tokens": 60})
        answers[lora] = str(find_text(response.json()))
    assert answers["whole"] == answers[finetune.id]
    assert len({answers["whole"], answers["twin"], answers[None]}) == 3


def find_text(body: Any) -> Any:
    """The answer's text, whichever surface it came by."""
    body = body.get("result", body)
    return body["response"] if "response" in body else body["choices"][0]["message"]["content"]


@pytest.mark.parametrize("surface", ["ai/run", "ai/v1"])
async def test_an_adapter_is_no_change_so_that_strict_callers_may_have_one(
    client: httpx.AsyncClient, surface: str
) -> None:
    client.headers["x-relay-strict"] = "true"
    response = await ask(client, surface, BASE, {"lora": "whole"})
    assert response.status_code == 200 and "x-relay-changes" not in response.headers


@pytest.mark.parametrize("lora", ["", None])
async def test_no_adapter_is_none(client: httpx.AsyncClient, lora: str | None) -> None:
    assert (await ask(client, "ai/run", WITHOUT, {"lora": lora})).status_code == 200


async def test_each_input_of_a_batch_has_its_own_adapter(client: httpx.AsyncClient) -> None:
    loras = ("whole", "nobody's", "half", "whole-elsewhere")
    path = f"{AI}/run/{BASE}?queueRequest=true"
    queued = await client.post(path, json={"requests": [SHORT | {"lora": lora} for lora in loras]})
    question = {"request_id": queued.json()["result"]["request_id"]}
    while "responses" not in (told := (await client.post(path, json=question)).json()["result"]):
        assert told["status"] in ("queued", "running")
    rows = told["responses"]
    assert [row["errors"][0]["code"] if "errors" in row else None for row in rows] == [None, 5033, 3039, 3030]
    assert rows[0]["success"] is True


NOT_BASES: dict[str, tuple[str, int, int]] = {
    "a chat model that takes none": (WITHOUT, 405, 5005),
    "a model of another task": ("@cf/baai/bge-m3", 405, 5005),
    "an id that looks like one": ("@cf/no/such", 400, 5007),
    "no id at all": ("nobody's", 400, 5007),
}


@pytest.mark.parametrize(("model", "status", "code"), NOT_BASES.values(), ids=NOT_BASES)
async def test_an_adapter_is_made_for_a_model_that_takes_some(
    client: httpx.AsyncClient, model: str, status: int, code: int
) -> None:
    response = await client.post(f"{AI}/finetunes", json={"model": model, "name": "another"})
    assert code_of(response) == (status, code)
    assert model in response.json()["errors"][0]["message"]


def test_the_models_that_take_adapters_are_those_that_the_account_lists() -> None:
    """Cloudflare's list on 2026-09-20: nine."""
    takes = {model.id for model in load_snapshot() if model.lora}
    assert len(takes) == 9 and {BASE, OTHER_BASE} < takes and WITHOUT not in takes


def test_a_base_may_be_called_by_its_short_name() -> None:
    assert base_model(load_snapshot(), "mistral-7b-instruct-v0.2-lora").id == BASE
    with pytest.raises(RelayError, match="nobody's"):
        base_model(load_snapshot(), "nobody's")


async def test_cloudflare_has_adapters_of_its_own(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        await _asks_cloudflare(rig, client)


async def _asks_cloudflare(rig: Rig, client: httpx.AsyncClient) -> None:
    sent = b'{"prompt": "a", "lora": "cf-public-magicoder"}'
    for model in (BASE, WITHOUT):
        rig.cloudflare.script(model, HELLO)
        assert (await client.post(f"{AI}/run/{model}", content=sent)).status_code == 200
        assert rig.cloudflare.runs[-1].body == sent
    rig.cloudflare.script(BASE, HELLO)
    response = await client.post(f"{AI}/v1/chat/completions", json=asking(model=BASE, lora="cf-public-magicoder"))
    assert response.status_code == 200
    assert json.loads(rig.cloudflare.runs[-1].body)["lora"] == "cf-public-magicoder"
