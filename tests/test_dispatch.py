"""From a model's name to an upstream call: names, limits, several answers at once, and what is tried again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Send

from adapters.catalogue import CHAT_TASK, Model, load_snapshot
from adapters.errors import Fault, Retry
from proxy.handover import Retries
from proxy.stored_catalogue import write_catalogue
from tests.support.cloudflare import (
    HELLO,
    USAGE,
    Asked,
    Script,
    Step,
    answer,
    failure,
    frames,
    hello,
    result,
    stream,
)
from tests.support.relay import MODEL, OPENAI_MODEL, Rig, asking, calling, relaying, relaying_to
from tests.support.servers import DEADLINE
from tests.support.simulated_time import simulated
from tests.support.streams import CHAT, chunks, text_of

pytestmark = pytest.mark.anyio

RELAY_TOML = """
[aliases]
"gpt-4o-mini" = "@cf/meta/llama-3.2-1b-instruct"
"best" = "gpt-4o-mini"
"gone" = "@cf/meta/llama-3-8b-instruct"
"nowhere" = "no-such-model"
"""


@pytest.fixture(scope="module")
async def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("state")
    (folder / "relay.toml").write_text(RELAY_TOML)
    async with relaying(folder) as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.cloudflare.reset()
    return shared_rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(rig.url) as client:
        yield client


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert list(body) == ["error"] and sorted(body["error"]) == ["code", "message", "param", "type"]
    error: dict[str, Any] = body["error"]
    return error


# ---------------------------------------------------------------- names

NAMES = {
    "the full id": (MODEL, MODEL),
    "an escaped id": ("%40cf%2Fmeta%2Fllama-3.2-1b-instruct", MODEL),
    "an id in capitals": ("@CF/Meta/Llama-3.2-1B-Instruct", MODEL),
    "an id behind another client's prefix": ("workers-ai/@cf/meta/llama-3.2-1b-instruct", MODEL),
    "the short name": ("llama-3.2-1b-instruct", MODEL),
    "author and name": ("meta/llama-3.2-1b-instruct", MODEL),
    "an alias": ("gpt-4o-mini", MODEL),
    "an alias of an alias": ("best", MODEL),
    "an alias in capitals": ("GPT-4o-mini", MODEL),
    "an id that nobody knows": ("@cf/acme/brand-new-1b", "@cf/acme/brand-new-1b"),
    "an old family's id that nobody knows": ("@hf/acme/brand-new-1b", "@hf/acme/brand-new-1b"),
    "a retired id": ("@cf/meta/llama-3-8b-instruct", "@cf/meta/llama-3-8b-instruct"),
    "an alias of a retired id": ("gone", "@cf/meta/llama-3-8b-instruct"),
}


@pytest.mark.parametrize(("name", "id"), NAMES.values(), ids=NAMES)
async def test_a_model_is_found_by_any_of_its_names(rig: Rig, client: httpx.AsyncClient, name: str, id: str) -> None:
    rig.cloudflare.script(id, hello)
    response = await client.post(CHAT, json=asking(model=name))
    assert response.status_code == 200
    assert response.json()["model"] == name, "a client gets back the name that it used"
    assert rig.cloudflare.runs[0].raw_path.endswith("/ai/run/" + id)


UNKNOWN = {
    "a misspelt short name": ("lama-3.2-1b-instruct", "@cf/meta/llama-3.2-1b-instruct"),
    "a part of a name": ("qwq", "@cf/qwen/qwq-32b"),
    "an alias that leads nowhere": ("nowhere", "no-such-model"),
    "a model of somebody else": ("gpt-99", "gpt-99"),
    "a path": ("@cf/../../user", "@cf/../../user"),
}


@pytest.mark.parametrize(("name", "told"), UNKNOWN.values(), ids=UNKNOWN)
async def test_an_unknown_name_is_404_with_the_nearest_ones(
    rig: Rig, client: httpx.AsyncClient, name: str, told: str
) -> None:
    for streamed in (False, True):
        response = await client.post(CHAT, json=asking(model=name, stream=streamed))
        error = error_of(response)
        assert (response.status_code, error["type"], error["code"], error["param"]) == (
            *(404, "invalid_request_error", "model_not_found", "model"),
        )
        assert told in error["message"]
    assert rig.cloudflare.runs == []


async def test_an_ambiguous_name_is_refused_with_the_choices(tmp_path: Path) -> None:
    twins = [Model(id=f"@cf/{author}/twin-1b", task=CHAT_TASK, status="listed") for author in ("acme", "other")]
    write_catalogue(tmp_path, load_snapshot().with_models(twins))
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        response = await client.post(CHAT, json=asking(model="twin-1b"))
        error = error_of(response)
        assert (response.status_code, error["code"], error["param"]) == (400, "ambiguous_model", "model")
        assert all(twin.id in error["message"] for twin in twins)
        assert rig.cloudflare.runs == []


@pytest.mark.parametrize("script", [failure(410, 5028), failure(400, 5007)], ids=["a retirement", "no such model"])
async def test_cloudflares_word_on_a_retired_model_counts_and_a_successor_is_named(
    rig: Rig, client: httpx.AsyncClient, script: Script
) -> None:
    rig.cloudflare.script("@cf/moonshotai/kimi-k2.5", script)
    response = await client.post(CHAT, json=asking(model="@cf/moonshotai/kimi-k2.5"))
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "@cf/moonshotai/kimi-k2.5" in error["message"] and "@cf/moonshotai/kimi-k2.6" in error["message"]
    assert len(rig.cloudflare.runs) == 1


async def test_what_cloudflare_does_not_know_either_is_404_with_the_nearest_ones(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    response = await client.post(CHAT, json=asking(model="@cf/meta/llama-3.2-1b-instrukt"))
    assert response.status_code == 404
    assert MODEL in error_of(response)["message"]
    assert len(rig.cloudflare.runs) == 1, "it was asked"


NOT_CHAT = {
    "an embedding model": "@cf/baai/bge-m3",
    "a model of decisions": "@cf/cloudflare/clef",
}


@pytest.mark.parametrize("model", NOT_CHAT.values(), ids=NOT_CHAT)
async def test_models_that_hold_no_conversation_are_refused(rig: Rig, client: httpx.AsyncClient, model: str) -> None:
    response = await client.post(CHAT, json=asking(model=model))
    assert (response.status_code, error_of(response)["param"]) == (400, "model")
    assert rig.cloudflare.runs == []


async def test_images_for_a_model_without_eyes_are_refused(rig: Rig, client: httpx.AsyncClient) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = asking() | {"messages": [{"role": "user", "content": "?"}, {"role": "user", "content": [image]}]}
    response = await client.post(CHAT, json=body)
    assert (response.status_code, error_of(response)["param"]) == (400, "messages[1].content")
    assert rig.cloudflare.runs == []


# ---------------------------------------------------------------- limits

SMALL = "@cf/google/gemma-7b-it-lora"  # 3,500 tokens of context
LIMITS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "the default": (MODEL, "Hi", {}, 4096),
    "the caller's": (MODEL, "Hi", {"max_tokens": 7}, 7),
    "the caller's newer field": (MODEL, "Hi", {"max_completion_tokens": 8, "max_tokens": 9}, 8),
    "what the context leaves": (SMALL, "x" * 6000, {}, 1500),
    "an overfull context is the upstream's to judge": (SMALL, "x" * 60_000, {}, 256),
    "a model of which nothing is known": ("@cf/acme/new", "Hi", {}, 4096),
}


@pytest.mark.parametrize(("model", "text", "fields", "limit"), LIMITS.values(), ids=LIMITS)
async def test_max_tokens_is_always_sent(
    rig: Rig, client: httpx.AsyncClient, model: str, text: str, fields: dict[str, Any], limit: int
) -> None:
    rig.cloudflare.script(model, hello)
    response = await client.post(CHAT, json=asking(text, model=model, **fields))
    assert response.status_code == 200 and "x-relay-changes" not in response.headers
    sent = rig.cloudflare.runs[0].json["max_tokens"]
    assert limit - 100 <= sent <= limit if limit == 1500 else sent == limit


# ---------------------------------------------------------------- several answers


async def test_n_answers_are_n_calls_with_seeds_of_their_own_and_one_usage(rig: Rig, client: httpx.AsyncClient) -> None:
    together = asyncio.Barrier(3)

    async def play(asked: Asked, send: Send) -> None:
        async with asyncio.timeout(DEADLINE):
            await together.wait()
        await result({"response": f"seed {asked.json['seed']}", "usage": USAGE})(asked, send)

    rig.cloudflare.script(MODEL, play)
    body = (await client.post(CHAT, json=asking(n=3, seed=5))).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in body["choices"]] == ["seed 5", "seed 6", "seed 7"]
    assert body["usage"]["total_tokens"] == 33


async def test_one_failure_among_n_fails_all_after_its_own_retries(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, HELLO, failure(403, 5035))
    response = await client.post(CHAT, json=asking(n=3))
    assert (response.status_code, error_of(response)["code"]) == (403, "plan_required")


async def test_a_hiccup_among_n_is_made_good(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.cloudflare.script(MODEL, failure(429, 3040), HELLO)
    response = await client.post(CHAT, json=asking(n=3))
    assert response.status_code == 200 and len(response.json()["choices"]) == 3
    assert len(rig.cloudflare.runs) == 4


async def test_n_with_a_stream_is_refused(rig: Rig, client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=asking(n=2, stream=True))
    assert (response.status_code, error_of(response)["param"]) == (400, "n")
    assert rig.cloudflare.runs == []


# ---------------------------------------------------------------- tried again

CALLS = {Retry.NO: 1, Retry.ONCE: 2, Retry.YES: 3}
CODES = [(fault, code) for fault in Fault for code in fault.value.upstream if code not in (3046, 3036, 4006, 5023)]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_each_code_of_the_table_has_its_answer_and_its_number_of_tries(
    rig: Rig, client: httpx.AsyncClient, streamed: bool
) -> None:
    wrong: list[object] = []
    for fault, code in CODES:
        rig.cloudflare.requests.clear()
        rig.cloudflare.script(MODEL, failure(400, code))
        response = await client.post(CHAT, json=asking(stream=streamed))
        error = error_of(response)
        seen = (response.status_code, error["type"], error["code"], len(rig.cloudflare.runs))
        row = fault.value
        if seen != (row.status, row.type, row.code, CALLS[row.retry]):
            wrong.append((code, seen))
    assert wrong == []


FOREIGN: dict[str, tuple[Script, int, str, int]] = {
    "a page of HTML": (answer(520, b"<html>520</html>", media_type="text/html"), 502, "upstream_error", 3),
    "a code that nobody knows": (failure(500, 99999), 502, "upstream_error", 3),
    "nothing but a status": (answer(503, b""), 502, "upstream_error", 3),
    "broken JSON": (answer(200, b'{"result": {"respo'), 502, "upstream_error", 3),
    "success: false": (
        answer(200, {"success": False, "errors": [], "result": {"response": "x"}}),
        502,
        "upstream_error",
        3,
    ),
    "an empty result": (result({}), 502, "upstream_error", 3),
    "a redirect": (answer(302, b"", headers={"location": "https://example.com/"}), 502, "upstream_misconfigured", 1),
    "a bare 429": (answer(429, b""), 429, "rate_limit_exceeded", 3),
    "a bare 408": (answer(408, b""), 504, "upstream_timeout", 2),
    "a bare 413": (answer(413, b""), 413, "request_too_large", 1),
}


@pytest.mark.parametrize(("script", "status", "code", "calls"), FOREIGN.values(), ids=FOREIGN)
async def test_answers_that_name_no_code(
    rig: Rig, client: httpx.AsyncClient, script: Script, status: int, code: str, calls: int
) -> None:
    rig.cloudflare.script(MODEL, script)
    response = await client.post(CHAT, json=asking())
    assert (response.status_code, error_of(response)["code"], len(rig.cloudflare.runs)) == (status, code, calls)
    assert "<html" not in response.text


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_later_try_that_works_is_all_that_a_client_sees(
    rig: Rig, client: httpx.AsyncClient, streamed: bool
) -> None:
    rig.cloudflare.script(MODEL, failure(429, 3040), answer(502, b"<html>"), hello)
    response = await client.post(CHAT, json=asking(stream=streamed))
    text = text_of(chunks(response.content)) if streamed else response.json()["choices"][0]["message"]["content"]
    assert text == "Hello there" and len(rig.cloudflare.runs) == 3


@pytest.mark.parametrize("limit", [0, 1, 4])
async def test_the_number_of_tries_is_a_setting(tmp_path: Path, limit: int) -> None:
    async with relaying(tmp_path, retries=limit) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, failure(500, 1))
        assert (await client.post(CHAT, json=asking())).status_code == 502
        assert len(rig.cloudflare.runs) == limit + 1


@simulated
async def test_after_the_stream_that_a_long_answer_needed_there_is_no_other_try(tmp_path: Path) -> None:
    async with relaying(tmp_path, idle_timeout=0.2) as rig, calling(rig.url) as client:
        late = stream(frames({"response": "Hel"}), Step(b"", asyncio.Event()))
        rig.cloudflare.script(MODEL, failure(408, 3046), late)
        response = await client.post(CHAT, json=asking())
        assert (response.status_code, error_of(response)["code"]) == (504, "upstream_timeout")
        assert [asked.json["stream"] for asked in rig.cloudflare.runs] == [False, True]


async def test_a_long_wish_to_wait_is_passed_on_instead_of_waited_for(tmp_path: Path) -> None:
    async with relaying(tmp_path, policy=Retries(2, 0.001)) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, failure(429, 3040, retry_after="20"))
        response = await client.post(CHAT, json=asking())
        assert (response.status_code, response.headers["retry-after"]) == (429, "20")
        assert len(rig.cloudflare.runs) == 1


async def test_there_is_no_try_for_which_the_client_does_not_wait(tmp_path: Path) -> None:
    async with relaying(tmp_path, policy=Retries(2, 300.0)) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, failure(500, 1))
        # Neither the pause nor that client's patience is anything that `client` would sit through.
        response = await client.post(CHAT, json=asking(), headers={"x-stainless-read-timeout": "100"})
        assert response.status_code == 502
        assert len(rig.cloudflare.runs) == 1


async def test_an_upstream_that_cannot_be_reached_is_503(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with relaying_to(closed, tmp_path) as (relay, _), calling(relay.url) as client:
        for streamed in (False, True):
            response = await client.post(CHAT, json=asking(stream=streamed))
            assert (response.status_code, error_of(response)["code"]) == (503, "upstream_unreachable")
            assert "127.0.0.1" not in response.text


@pytest.mark.parametrize("code", [3036, 4006])
async def test_a_spent_allocation_is_not_asked_for_again(tmp_path: Path, code: int) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(MODEL, failure(429, code))
        rig.cloudflare.script(OPENAI_MODEL, hello)
        for model, streamed in [(MODEL, False), (MODEL, True), (OPENAI_MODEL, False)]:
            response = await client.post(CHAT, json=asking(model=model, stream=streamed))
            error = error_of(response)
            assert (response.status_code, error["type"], error["code"]) == (429, *["insufficient_quota"] * 2)
            assert response.headers["x-should-retry"] == "false" and "retry-after" not in response.headers
        assert len(rig.cloudflare.runs) == 1
