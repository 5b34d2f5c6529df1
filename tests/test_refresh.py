"""The list of models follows the account, in the background and never in the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.catalogue import Catalogue, load_snapshot
from adapters.cloudflare_account import Access
from adapters.transport import open_transport
from proxy import refresh
from proxy.app import create_app
from proxy.dispatch import Shelf
from proxy.refresh import keep_fresh
from proxy.stored_catalogue import catalogue_file, read_catalogue
from tests.support.cloudflare import ACCOUNT, BASE_PATH, TOKEN, FakeCloudflare, Script, answer, held, hello, result
from tests.support.relay import MODEL, asking, calling, relaying, settings_for
from tests.support.servers import DEADLINE, serving
from tests.support.streams import CHAT

pytestmark = pytest.mark.anyio

NEW = "@cf/acme/brand-new-1b"
ROW = {
    "name": NEW,
    "task": {"id": "c3", "name": "Text Generation"},
    "properties": [{"property_id": "context_window", "value": "4321"}],
}


class Watcher:
    """A shelf's guard: `fresh` is set once a refresh has put a newer catalogue up."""

    def __init__(self) -> None:
        self.fresh = asyncio.Event()
        self.shelf = Shelf(load_snapshot())

    def offered(self, catalogue: Catalogue) -> Catalogue:
        self.fresh.set()
        return catalogue


@asynccontextmanager
async def refreshing(
    state_dir: Path, cloudflare: FakeCloudflare, *, token: str = TOKEN
) -> AsyncIterator[tuple[Watcher, asyncio.Task[None]]]:
    watcher = Watcher()
    async with serving(cloudflare) as upstream, open_transport(connect_timeout=DEADLINE) as transport:
        access = Access(transport, upstream.url + BASE_PATH, ACCOUNT, token)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(keep_fresh(watcher.shelf, access, state_dir, lambda fresh: watcher.offered(fresh)))
            yield watcher, task
            task.cancel()


async def test_the_accounts_models_join_the_list_and_are_stored(tmp_path: Path) -> None:
    cloudflare = FakeCloudflare()
    cloudflare.rows = [ROW]
    async with refreshing(tmp_path / "state", cloudflare) as (watcher, _):
        async with asyncio.timeout(DEADLINE):
            await watcher.fresh.wait()
        fresh = watcher.shelf.catalogue
        model = fresh.get(NEW)
        assert model is not None and model.context_window == 4321 and model.status == "listed"
        assert MODEL in {model.id for model in fresh}
        assert fresh.as_of > load_snapshot().as_of
    assert read_catalogue(tmp_path / "state").get(NEW) is not None


async def test_it_is_read_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "INTERVAL", 0.01)
    cloudflare = FakeCloudflare()
    cloudflare.rows = [ROW]
    async with refreshing(tmp_path, cloudflare) as (watcher, _):
        for _ in range(3):
            watcher.fresh.clear()
            async with asyncio.timeout(DEADLINE):
                await watcher.fresh.wait()


FAILURES: dict[str, Script] = {
    "a refusal": answer(403, {"success": False, "errors": [{"code": 10000, "message": f"no {TOKEN}"}]}),
    "a page": answer(502, b"<html>", media_type="text/html"),
    "something that is no list": result({}),
    "an empty list": result([]),
}


@pytest.mark.parametrize("script", FAILURES.values(), ids=FAILURES)
async def test_a_failure_leaves_the_list_as_it_is_and_is_tried_again(
    tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refresh, "AFTER_FAILURE", 0.01)
    cloudflare = FakeCloudflare()
    scripts = [script, script]
    cloudflare.rows = [ROW]
    original = cloudflare._script
    monkeypatch.setattr(cloudflare, "_script", lambda asked: scripts.pop() if scripts else original(asked))
    async with refreshing(tmp_path, cloudflare) as (watcher, _):
        async with asyncio.timeout(DEADLINE):
            await watcher.fresh.wait()
        assert scripts == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 2 and TOKEN not in caplog.text


async def test_a_list_that_cannot_be_stored_is_used_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    cloudflare = FakeCloudflare()
    cloudflare.rows = [ROW]
    async with refreshing(tmp_path / "file", cloudflare) as (watcher, task):
        async with asyncio.timeout(DEADLINE):
            await watcher.fresh.wait()
        assert not task.done()
        assert watcher.shelf.catalogue.get(NEW) is not None
    assert "could not be stored" in caplog.text


async def test_a_relay_serves_before_its_list_has_come_and_ends_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        original = rig.cloudflare._script

        def script(asked: Any) -> Script:
            return original(asked) if "/ai/run/" in asked.path else held(never, result([ROW]))

        monkeypatch.setattr(rig.cloudflare, "_script", script)
        rig.cloudflare.script(MODEL, hello)
        assert (await client.post(CHAT, json=asking())).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200


async def test_a_stored_list_outlives_the_process(tmp_path: Path) -> None:
    cloudflare = FakeCloudflare()
    cloudflare.rows = [ROW]
    async with refreshing(tmp_path, cloudflare) as (watcher, _):
        async with asyncio.timeout(DEADLINE):
            await watcher.fresh.wait()
    assert catalogue_file(tmp_path).exists()
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        assert (await client.get(f"/v1/models/{NEW}")).json()["context_window"] == 4321


async def test_a_bug_costs_one_reading_and_not_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refresh, "AFTER_FAILURE", 0.01)
    cloudflare = FakeCloudflare()
    cloudflare.rows = [ROW]
    async with refreshing(tmp_path, cloudflare) as (watcher, task):
        offered, bugs = watcher.offered, [LookupError(TOKEN)]

        def buggy(catalogue: Catalogue) -> Catalogue:
            if bugs:
                raise bugs.pop()
            return offered(catalogue)

        watcher.offered = buggy  # type: ignore[method-assign]  # before the task has had its first turn
        async with asyncio.timeout(DEADLINE):
            await watcher.fresh.wait()
        assert bugs == [] and not task.done()
    assert "bug: LookupError" in caplog.text and TOKEN not in caplog.text


async def test_aliases_and_our_own_model_survive_a_refresh(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(f'[aliases]\n"best" = "{NEW}"\n')
    cloudflare = FakeCloudflare()
    cloudflare.rows = [ROW]
    async with serving(cloudflare) as upstream:
        settings = settings_for(tmp_path, upstream.url)
        async with serving(create_app(settings, settings.tokens)) as relay, calling(relay.url) as client:
            async with asyncio.timeout(DEADLINE):
                while (await client.get(f"/v1/models/{NEW}")).status_code == 404:
                    pass
            listed = {row["id"] for row in (await client.get("/v1/models")).json()["data"]}
    assert {"best", NEW, MODEL, "relay/simulator"} <= listed
