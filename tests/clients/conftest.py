"""One relay for all clients, with the simulator behind it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.clients.processes import Started, running
from tests.clients.surroundings import MODULES, ROOT, Surroundings
from tests.support.relay import KEY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(400))  # seconds: a client may have to start, and then to ask
    if not (MODULES / ".installed").exists():
        absent = pytest.mark.skip(reason="SKIPPED ALOUD: Cloudflare's clients are not installed (no npm)")
        for item in items:
            item.add_marker(absent)


class Relay(NamedTuple):
    url: str
    started: Started

    @property
    def api(self) -> str:
        return f"{self.url}/client/v4"

    @property
    def binding_url(self) -> str:
        return f"{self.url}/remote-bindings/{KEY}"


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    found = Surroundings(tmp_path_factory.mktemp("surroundings"))
    found.prepare()
    return found


@pytest.fixture(scope="session")
def relay(surroundings: Surroundings) -> Iterator[Relay]:
    environ = surroundings.environ(
        PYTHONPATH=str(ROOT),
        PYTHONUNBUFFERED="1",
        RELAY_TOKENS=KEY,
        RELAY_STATE_DIR=str(surroundings.home / "state"),
        RELAY_PORT="0",
        RELAY_ACCESS_LOG="true",
    )
    with running([sys.executable, "-m", "proxy.cli", "serve"], cwd=surroundings.home, env=environ) as started:
        yield Relay(started.wait_for(r"http://127\.0\.0\.1:\d+")[0], started)
