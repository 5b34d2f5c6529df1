"""What the OpenAPI documents allow, and what they do not, sent to a live relay.

There is an answer in time, never a 500, and of the form that the document promises.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from adapters.catalogue import load_snapshot
from proxy.app import create_app
from proxy.openapi import describe_own
from tests.support.relay import AUTH, KEY, settings_for
from tests.support.servers import DEADLINE, Served, serving
from wrangler_compat.openapi import describe_cloudflare

pytestmark = pytest.mark.anyio

EXAMPLES = 8
"""Of each operation and kind. More find nothing new in seconds: `--hypothesis-profile=thorough` is for that."""

Operation = APIOperation[Any, Any, Any, Any]


def without_twins(document: dict[str, Any]) -> dict[str, Any]:
    """Of the models that take and give the same, one."""
    seen: set[str] = set()
    for path, methods in list(document["paths"].items()):
        if "/ai/run/@" in path:
            twin = str([methods["post"]["requestBody"], methods["post"]["responses"]])
            if twin in seen:
                del document["paths"][path]
            seen.add(twin)
    return document


DOCUMENTS = (
    describe_own(version="1"),
    without_twins(describe_cloudflare(load_snapshot(), version="1")),
)


def all_operations() -> Iterator[Operation]:
    for document in DOCUMENTS:
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            assert isinstance(found, Ok), found
            yield found.ok()


OPERATIONS = {f"{operation.method.upper()} {operation.path}": operation for operation in all_operations()}


@pytest.fixture(scope="module")
async def relay(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("state")
    async with serving(create_app(settings_for(folder), [KEY])) as relay:
        yield relay


def takes_something(operation: Operation) -> bool:
    return bool({"parameters", "requestBody"} & operation.definition.raw.keys())


CASES = {
    f"{name}, {'as it says' if mode is GenerationMode.POSITIVE else 'otherwise'}": (operation, mode)
    for name, operation in OPERATIONS.items()
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE or takes_something(operation)
}


@pytest.mark.parametrize("name", CASES)
async def test_no_input_brings_the_relay_down(relay: Served, name: str) -> None:
    operation, mode = CASES[name]

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if "key" in case.path_parameters:
            case.path_parameters["key"] = KEY
        answer = case.call(base_url=relay.url, headers=AUTH, timeout=DEADLINE)
        assert answer.status_code < 500, answer.text
        assert operation.is_valid_response(answer), answer.text

    await anyio.to_thread.run_sync(ask)
