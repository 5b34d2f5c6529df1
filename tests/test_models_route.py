"""`GET /v1/models`: what can be asked for, told without asking anybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from adapters.catalogue import CHAT_TASK, Model, load_snapshot
from proxy.app import create_app
from proxy.stored_catalogue import catalogue_file, write_catalogue
from tests.support.relay import MODEL, Rig, calling, relaying, settings_for
from tests.support.servers import serving

pytestmark = pytest.mark.anyio

RELAY_TOML = """
[aliases]
"gpt-4o-mini" = "llama-3.2-1b-instruct"
"nowhere" = "no-such-model"
"""
TWINS = [Model(id=f"@cf/{author}/twin-1b", task=CHAT_TASK, status="listed") for author in ("acme", "other")]


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("state")
    (folder / "relay.toml").write_text(RELAY_TOML)
    write_catalogue(folder, load_snapshot().with_models(TWINS))
    async with relaying(folder) as rig:
        yield rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(rig.url) as client:
        yield client


async def rows(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    return {row["id"]: row for row in body["data"]}


async def test_the_list_has_what_openais_clients_read(client: httpx.AsyncClient) -> None:
    listed = await rows(client)
    assert len(listed) > 30
    for row in listed.values():
        assert row["object"] == "model" and isinstance(row["owned_by"], str)
        assert isinstance(row["created"], int) and row["created"] > 1_700_000_000


async def test_a_row_tells_task_context_and_capabilities(client: httpx.AsyncClient) -> None:
    row = (await rows(client))["@cf/openai/gpt-oss-20b"]
    assert (row["task"], row["context_window"], row["max_output_tokens"]) == ("Text Generation", 128000, 16384)
    assert row["capabilities"]["function_calling"] is True and row["capabilities"]["streaming"] is True
    assert row["owned_by"] == "cloudflare" and row["status"] == "listed"


async def test_every_task_is_listed_and_no_retired_model(client: httpx.AsyncClient) -> None:
    listed = await rows(client)
    assert "@cf/baai/bge-m3" in listed and listed["@cf/baai/bge-m3"]["task"] == "Text Embeddings"
    assert "@cf/meta/llama-3-8b-instruct" not in listed
    assert all(row["status"] != "retired" for row in listed.values())


async def test_aliases_follow_and_dead_ones_do_not(client: httpx.AsyncClient) -> None:
    listed = await rows(client)
    assert listed["gpt-4o-mini"]["alias_of"] == MODEL
    assert listed["gpt-4o-mini"]["context_window"] == listed[MODEL]["context_window"]
    assert "nowhere" not in listed


async def test_the_simulator_is_listed_as_what_it_is(client: httpx.AsyncClient) -> None:
    assert (await rows(client))["relay/simulator"]["owned_by"] == "relay"


async def test_without_credentials_every_row_says_who_would_answer(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with serving(create_app(settings, settings.tokens)) as relay, calling(relay.url) as client:
        owners = {row["owned_by"] for row in (await rows(client)).values()}
        assert owners == {"relay-simulator", "relay"}


NAMES = {
    "the id": MODEL,
    "the id escaped once": quote(MODEL, safe=""),
    "the id escaped twice": quote(quote(MODEL, safe=""), safe=""),
    "the short name": "llama-3.2-1b-instruct",
    "in capitals": MODEL.upper(),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_one_model_by_any_of_its_names(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/v1/models/{name}")
    assert response.status_code == 200
    assert (response.json()["id"], response.json()["object"]) == (MODEL, "model")


async def test_an_alias_is_a_model_of_its_own_name(client: httpx.AsyncClient) -> None:
    row = (await client.get("/v1/models/gpt-4o-mini")).json()
    assert (row["id"], row["alias_of"], row["object"]) == ("gpt-4o-mini", MODEL, "model")


async def test_a_retired_model_says_so(client: httpx.AsyncClient) -> None:
    row = (await client.get("/v1/models/@cf/meta/llama-3-8b-instruct")).json()
    assert row["status"] == "retired" and "retired_on" in row


MISSING = {
    "misspelt": ("lama-3.2-1b-instruct", 404, "model_not_found", MODEL),
    "an id that only Cloudflare may know": ("@cf/meta/llama-3.2-1b-instrukt", 404, "model_not_found", MODEL),
    "ambiguous": ("twin-1b", 400, "ambiguous_model", TWINS[0].id),
    "an alias that leads nowhere": ("nowhere", 404, "model_not_found", "no-such-model"),
}


@pytest.mark.parametrize(("name", "status", "code", "told"), MISSING.values(), ids=MISSING)
async def test_a_name_that_means_no_model(
    client: httpx.AsyncClient, name: str, status: int, code: str, told: str
) -> None:
    response = await client.get(f"/v1/models/{name}")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, "model")
    assert told in error["message"]


async def test_the_lists_are_told_without_asking_cloudflare(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.reset()
    await rows(client)
    await client.get(f"/v1/models/{MODEL}")
    assert rig.cloudflare.requests == []


async def test_a_stored_list_that_cannot_be_read_is_replaced_by_the_shipped_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue_file(tmp_path).write_text('{"as_of": "yesterday"')
    settings = settings_for(tmp_path)
    async with serving(create_app(settings, settings.tokens)) as relay, calling(relay.url) as client:
        assert MODEL in await rows(client)
    assert "relay models refresh" in caplog.text
