"""What is too long for a model, as the simulator tells it on every surface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from adapters.base import Call
from adapters.canonical import ChatRequest, EmbeddingRequest, Message
from adapters.catalogue import Catalogue, Model
from adapters.errors import Fault, RelayError
from adapters.simulator.embeddings import embeddings_or_scores
from adapters.simulator.limits import fitted, require_room
from adapters.simulator.tasks import SimulatedTasks
from adapters.wire.native.inputs import Context, EmbeddingOrScoreInputs
from tests.support.emulator import AI, Entrance, code_of, emulating

pytestmark = pytest.mark.anyio

SMALL = "@cf/google/gemma-7b-it-lora"  # 3,500 tokens of context
CHAT = Model(id="@cf/a/b", task="Text Generation", status="listed", context_window=100)
M3 = Model(
    id="@cf/baai/bge-m3",
    task="Text Embeddings",
    status="listed",
    native_result="data_shape_or_scores",
    context_window=4,
)


ROOM: dict[str, tuple[int | None, int, int | None, bool, bool]] = {
    # context, prompt, max_tokens, whether that is the relay's own; whether there is room
    "a prompt that fits": (100, 100, None, False, True),
    "one token too many": (100, 101, None, False, False),
    "prompt and answer that fit": (100, 60, 40, False, True),
    "an answer too long for the rest": (100, 60, 41, False, False),
    "an answer longer than the context": (100, 1, 100_000, False, False),
    "a limit that nobody asked for": (100, 60, 4096, True, True),
    "a prompt that is too long whoever set the limit": (100, 101, 1, True, False),
    "a context that is not known": (None, 10**6, 10**6, False, True),
}


@pytest.mark.parametrize(("context", "prompt", "limit", "by_relay", "room"), ROOM.values(), ids=ROOM)
def test_prompt_and_answer_share_the_context(
    context: int | None, prompt: int, limit: int | None, by_relay: bool, room: bool
) -> None:
    model = msgspec.structs.replace(CHAT, context_window=context)
    messages = (Message(role="user", content="Hi"),)
    request = ChatRequest(model=model.id, messages=messages, max_tokens=limit, max_tokens_by_relay=by_relay)
    if room:
        return require_room(request, model, prompt)
    with pytest.raises(RelayError) as refused:
        require_room(request, model, prompt)
    error = refused.value
    assert (error.fault, error.upstream_code, error.param) == (Fault.CONTEXT_LENGTH_EXCEEDED, 5021, "messages")


LONG = "one two three four five"  # five tokens
FITTED: dict[str, tuple[Model, list[str], bool, list[str] | None]] = {
    "texts that fit": (M3, ["one two", ""], False, ["one two", ""]),
    "as long as can be": (M3, [" one two three four"], False, [" one two three four"]),
    "long words": (M3, ["lighthouse"], False, ["lighthouse"]),
    "one that does not": (M3, ["a", LONG], False, None),
    "one that may be cut": (M3, ["a", LONG], True, ["a", "one two three four"]),
    "the limit of inputs counts first": (msgspec.structs.replace(M3, max_input_tokens=9), [LONG], False, [LONG]),
    "a limit that is not known": (msgspec.structs.replace(M3, context_window=None), [LONG], False, [LONG]),
    "a model of which it is not known": (msgspec.structs.replace(M3, native_result="data_shape"), [LONG], True, [LONG]),
}


@pytest.mark.parametrize(("model", "texts", "truncate", "expected"), FITTED.values(), ids=FITTED)
def test_a_text_to_embed_is_refused_or_cut(
    model: Model, texts: list[str], truncate: bool, expected: list[str] | None
) -> None:
    if expected is not None:
        assert fitted(texts, model, truncate=truncate, param="text") == expected
        return
    with pytest.raises(RelayError) as refused:
        fitted(texts, model, truncate=truncate, param="text")
    assert (refused.value.upstream_code, refused.value.param) == (5021, "text")


@pytest.mark.parametrize(
    "inputs",
    [
        EmbeddingOrScoreInputs(text=["a", LONG]),
        EmbeddingOrScoreInputs(contexts=[Context("a"), Context(LONG)]),
        EmbeddingOrScoreInputs(query="a", contexts=[Context("a"), Context(LONG)]),
    ],
    ids=["texts", "contexts", "contexts with a query"],
)
def test_every_input_of_bge_m3_is_refused_or_cut(inputs: EmbeddingOrScoreInputs) -> None:
    with pytest.raises(RelayError):
        embeddings_or_scores(M3, inputs)
    assert embeddings_or_scores(M3, msgspec.structs.replace(inputs, truncate_inputs=True))


# ---------------------------------------------------------------- over the wire


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(tmp_path_factory.mktemp("state")) as client:
        yield client


def chat(words: int, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "word " * words}]} | fields


NATIVE_WORDS = "AiError: Requested token count exceeds the model's maximum context length of 3500 tokens. ("
CHATS: dict[str, tuple[dict[str, Any], bool]] = {
    "a prompt that is too long": (chat(3500, max_tokens=1), False),
    "a streamed one": (chat(3500, max_tokens=1, stream=True), False),
    "an answer that is too long": (chat(3000, max_tokens=600), False),
    "both that fit": (chat(3000, max_tokens=2), True),
}


@pytest.mark.parametrize("surface", ["ai/run", "ai/v1", "S2", "S3"])
@pytest.mark.parametrize(("body", "fits"), CHATS.values(), ids=CHATS)
async def test_the_emulator_tells_it_in_cloudflares_words(
    client: httpx.AsyncClient, surface: str, body: dict[str, Any], fits: bool
) -> None:
    match surface:
        case "ai/run":
            response = await client.post(f"{AI}/run/{SMALL}", json=body)
        case "ai/v1":
            response = await client.post(f"{AI}/v1/chat/completions", json=body | {"model": SMALL})
        case _:
            response = await Entrance(surface, client).run(body, model=SMALL)
    if fits:
        assert response.status_code == 200
        return
    if surface.startswith("ai/"):
        assert code_of(response) == (400, 5021)
    else:
        assert (response.status_code, response.json()["internalCode"]) == (400, 5021)
    assert response.json()["errors"][0]["message"].startswith(NATIVE_WORDS)
    assert response.headers["cf-ai-req-id"]


@pytest.mark.parametrize(("body", "fits"), CHATS.values(), ids=CHATS)
async def test_openais_dialect_tells_it_in_openais_words(
    client: httpx.AsyncClient, body: dict[str, Any], fits: bool
) -> None:
    response = await client.post("/v1/chat/completions", json=body | {"model": SMALL})
    if fits:
        assert response.status_code == 200
        return
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")
    assert error["param"] == "messages"
    assert "This model's maximum context length is 3500 tokens" in error["message"]
    assert "context_length_exceeded" in error["message"]


async def test_the_relays_own_limit_never_makes_a_prompt_too_long(client: httpx.AsyncClient) -> None:
    # Two characters a token: the estimate that the relay's limit goes by sees less than there is.
    body = {"model": SMALL, "messages": [{"role": "user", "content": "a " * 3000}]}
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


EMBEDDED: dict[str, tuple[dict[str, Any], bool]] = {
    "a text": ({"text": "word " * 60_001}, False),
    "a text that fits": ({"text": "word " * 59_000}, True),
    "a text that may be cut": ({"text": "word " * 60_001, "truncate_inputs": True}, True),
    "contexts": ({"contexts": [{"text": "word " * 60_001}]}, False),
    "contexts that may be cut": ({"contexts": [{"text": "word " * 60_001}], "truncate_inputs": True}, True),
    "contexts with a query": ({"query": "a", "contexts": [{"text": "word " * 60_001}]}, False),
}


@pytest.mark.parametrize(("body", "fits"), EMBEDDED.values(), ids=EMBEDDED)
async def test_bge_m3_is_asked_whether_to_cut(client: httpx.AsyncClient, body: dict[str, Any], fits: bool) -> None:
    response = await client.post(f"{AI}/run/{M3.id}", json=body)
    assert response.status_code == 200 if fits else code_of(response) == (400, 5021)


async def test_a_text_to_embed_that_is_too_long_is_told_in_openais_words(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/embeddings", json={"model": M3.id, "input": ["a", "word " * 60_001]})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "input")


async def test_what_was_cut_is_not_counted() -> None:
    tasks = SimulatedTasks(lambda: Catalogue([M3], "2026-10-09"))
    result = await tasks.embed(EmbeddingRequest(model=M3.id, texts=(LONG,), truncate=True), Call("test"))
    assert result.usage is not None and result.usage.prompt_tokens == 4
