"""What Cloudflare refuses about tools with code 8001, in every form of a chat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.catalogue import load_snapshot
from adapters.errors import InvalidRequest
from adapters.wire.json_text import encode
from adapters.wire.native.tools import Offer, offer_in, offer_of, refuse_any, refuse_descriptions
from tests.support.emulator import AI, Entrance, code_of, emulating
from tests.support.relay import MODEL

pytestmark = pytest.mark.anyio

VLLM = "@cf/zai-org/glm-4.7-flash"
SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
FLAT: dict[str, Any] = {"name": "f", "description": "Adds.", "parameters": {"type": "object"}}
TOOL: dict[str, Any] = {"type": "function", "function": FLAT}


def described(value: Any) -> dict[str, Any]:
    return {"type": "function", "function": FLAT | {"description": value}}


REFUSED: dict[str, tuple[Any, str]] = {
    "false": ([described(False)], "tools[0].function.description"),
    "a number": ([TOOL, described(5)], "tools[1].function.description"),
    "a list": ([described(["Adds."])], "tools[0].function.description"),
    "a flat tool's": ([FLAT | {"description": {}}], "tools[0].description"),
}


@pytest.mark.parametrize(("tools", "param"), REFUSED.values(), ids=REFUSED)
def test_a_description_that_is_no_text_is_refused(tools: Any, param: str) -> None:
    for offer in (offer_of({"tools": tools}), offer_in(encode({"tools": tools}))):
        with pytest.raises(InvalidRequest) as refused:
            refuse_descriptions(offer)
        error = refused.value
        assert (error.param, error.upstream_code) == (param, 8001)
        assert error.message == f"Invalid input for '{param}': expected a string."


@pytest.mark.parametrize(
    "tools", [None, [], [TOOL], [FLAT], [described(None)], [described("")], "f", ["f"], [{"function": "f"}], {}, [{}]]
)
def test_nothing_else_about_tools_is_looked_at(tools: Any) -> None:
    refuse_descriptions(Offer(tools))
    refuse_descriptions(offer_in(encode({"tools": tools})))


CHOICES: dict[str, tuple[Any, Any, bool]] = {
    "any": ([TOOL], "any", False),
    "any of nothing": ([], "any", True),
    "any without tools": (None, "any", True),
    "required": ([TOOL], "required", True),
    "a named one": ([TOOL], {"type": "function", "function": {"name": "f"}}, True),
    "no choice": ([TOOL], None, True),
}


@pytest.mark.parametrize(("tools", "choice", "passes"), CHOICES.values(), ids=CHOICES)
def test_any_is_no_choice_for_vllm(tools: Any, choice: Any, passes: bool) -> None:
    if passes:
        return refuse_any(Offer(tools, choice))
    with pytest.raises(InvalidRequest) as refused:
        refuse_any(Offer(tools, choice))
    assert (refused.value.param, refused.value.upstream_code) == ("tool_choice", 8001)


def test_a_body_that_is_none_is_refused_and_one_without_tools_is_not_read() -> None:
    assert offer_in(b"{") == Offer()
    with pytest.raises(InvalidRequest):
        offer_in(b'{"tools":')


def test_the_models_that_were_tried_are_known_to_run_on_vllm() -> None:
    tried = {VLLM, SCOUT, "@cf/moonshotai/kimi-k2.5"}
    assert tried <= {model.id for model in load_snapshot() if model.vllm}


# ---------------------------------------------------------------- over the wire


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    state: Path = tmp_path_factory.mktemp("state")
    async with emulating(state) as client:
        yield client


ANSWERS: dict[str, tuple[str, dict[str, Any], tuple[int, int] | None]] = {
    "any of a model on vLLM": (VLLM, {"tools": [TOOL], "tool_choice": "any"}, (400, 8001)),
    "any of one with the older result": (SCOUT, {"tools": [TOOL], "tool_choice": "any"}, (400, 8001)),
    "any of another model": (MODEL, {"tools": [TOOL], "tool_choice": "any"}, None),
    "required of a model on vLLM": (VLLM, {"tools": [TOOL], "tool_choice": "required"}, None),
    "false for a description": (VLLM, {"tools": [described(False)]}, (400, 8001)),
    "false for another model's": (MODEL, {"tools": [described(False)]}, (400, 8001)),
    "null for a description": (VLLM, {"tools": [described(None)]}, None),
}


@pytest.mark.parametrize("surface", ["ai/run", "ai/v1", "S2", "S3"])
@pytest.mark.parametrize(("model", "fields", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_the_emulator_refuses_what_cloudflare_refuses(
    client: httpx.AsyncClient, surface: str, model: str, fields: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    body = {"messages": [{"role": "user", "content": "f"}], "max_tokens": 4} | fields
    match surface:
        case "ai/run":
            response = await client.post(f"{AI}/run/{model}", json=body)
        case "ai/v1":
            response = await client.post(f"{AI}/v1/chat/completions", json=body | {"model": model})
        case _:
            response = await Entrance(surface, client).run(body, model=model)
    if expected is None:
        assert response.status_code == 200
        return
    if surface.startswith("ai/"):
        assert code_of(response) == expected
    else:
        assert (response.status_code, response.json()["internalCode"]) == expected
    assert response.json()["errors"][0]["message"].startswith("AiError: Invalid input for '")


async def test_the_relays_own_route_mends_the_choice(client: httpx.AsyncClient) -> None:
    body = {"model": VLLM, "messages": [{"role": "user", "content": "f"}], "tools": [TOOL], "tool_choice": "any"}
    response = await client.post("/v1/chat/completions", json=body)
    assert response.json()["choices"][0]["finish_reason"] == "tool_calls"
