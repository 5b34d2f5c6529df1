"""`POST /v1/embeddings` over real sockets: OpenAI's SDK, long lists, dimensions, retries and who can do it at all."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from operator import mul
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from openai import AsyncOpenAI
from starlette.types import Send

from adapters.base import Call
from adapters.canonical import EmbeddingRequest, EmbeddingResult, NativeResult, Usage
from adapters.catalogue import EMBEDDING_TASK, Catalogue, Model, load_snapshot
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.simulator.chat import Simulator
from proxy.app import create_app
from proxy.backends import Backends, Upstream
from proxy.dispatch import Dispatcher, Shelf
from proxy.handover import Retries
from proxy.modes import Modes
from tests.support.cloudflare import Asked, answer, failure, held, result
from tests.support.relay import AUTH, KEY, MODEL, Rig, calling, relaying, settings_for
from tests.support.servers import DEADLINE, serving

pytestmark = pytest.mark.anyio

URL = "/v1/embeddings"
BGE = "@cf/baai/bge-base-en-v1.5"
UNKNOWN = "@cf/acme/embed-1"


async def numbered(asked: Asked, send: Send) -> None:
    """Vectors that tell their text, which is a number: its own direction, and a length of 5."""
    data = [[3.0 * int(text), 4.0 * int(text), 0.0] for text in asked.json["text"]]
    await result({"shape": [len(data), 3], "data": data, "pooling": "mean"})(asked, send)


@pytest.fixture(scope="module")
async def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("state")
    (folder / "relay.toml").write_text(f'[aliases]\n"text-embedding-3-small" = "{BGE}"\n')
    async with relaying(folder) as rig:
        yield rig


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.cloudflare.reset()
    for model in (BGE, UNKNOWN):
        shared_rig.cloudflare.script(model, numbered)
    return shared_rig


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(rig.url) as client:
        yield client


@pytest.fixture
async def sdk(rig: Rig) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=rig.url + "/v1", api_key=KEY, max_retries=0) as client:
        yield client


def asking(**fields: Any) -> dict[str, Any]:
    return {"model": BGE, "input": ["1", "2"], **fields}


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    return error


# ---------------------------------------------------------------- clients


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=["its base64 default", "numbers"])
async def test_openais_sdk_reads_the_vectors(sdk: AsyncOpenAI, options: Any) -> None:
    answer = await sdk.embeddings.create(model="text-embedding-3-small", input=["1", "2"], **options)
    assert [entry.embedding for entry in answer.data] == [[3.0, 4.0, 0.0], [6.0, 8.0, 0.0]]
    assert [entry.index for entry in answer.data] == [0, 1]
    assert answer.model == "text-embedding-3-small" and answer.usage.prompt_tokens == 2


async def test_openais_sdk_hears_what_is_wrong(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.embeddings.create(model=BGE, input=["1", ""])
    assert (caught.value.param, caught.value.code) == ("input[1]", "invalid_value")


async def test_langchain_works_once_it_sends_text(rig: Rig) -> None:
    # Its own clients cannot be closed.
    async with httpx.AsyncClient(timeout=DEADLINE, trust_env=False) as http:
        options: Any = {"model": BGE, "base_url": rig.url + "/v1", "api_key": KEY, "http_async_client": http}
        plain = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
        assert await plain.aembed_documents(["1", "2"]) == [[3.0, 4.0, 0.0], [6.0, 8.0, 0.0]]


async def test_token_ids_are_refused_with_the_way_out(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json=asking(input=[[1, 2], [3]]))
    assert (response.status_code, error_of(response)["param"]) == (400, "input")
    assert "check_embedding_ctx_length=False" in error_of(response)["message"]


async def test_an_answer_says_who_gave_it_and_what_nobody_counted(client: httpx.AsyncClient, rig: Rig) -> None:
    response = await client.post(URL, json=asking(priority=1))
    assert response.json()["usage"] == {"prompt_tokens": 2, "total_tokens": 2, "estimated": True}
    assert response.headers["x-relay-upstream"] == "cloudflare"
    assert response.headers["x-relay-changes"] == "priority=ignored"
    assert json.loads(rig.cloudflare.runs[0].body) == {"text": ["1", "2"]}


async def test_a_browser_may_ask(client: httpx.AsyncClient) -> None:
    headers = {"origin": "https://example.com", "access-control-request-method": "POST"}
    preflight = await client.options(URL, headers=headers)
    assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == "*"
    assert (await client.post(URL, json=asking(), headers=headers)).headers["access-control-allow-origin"] == "*"


async def test_a_token_is_needed(rig: Rig) -> None:
    async with httpx.AsyncClient(base_url=rig.url, trust_env=False) as stranger:
        assert (await stranger.post(URL, json=asking())).status_code == 401
        assert (await stranger.post(URL, json=asking(), headers=AUTH)).status_code == 200


async def test_a_user_is_recognised_by_an_opaque_id(client: httpx.AsyncClient, rig: Rig) -> None:
    await client.post(URL, json=asking(user="me@example.com"))
    await client.post(URL, json=asking(user="me@example.com"), headers={"x-session-affinity": "conversation-1"})
    first, second = (asked.headers["x-session-affinity"] for asked in rig.cloudflare.runs)
    assert len(first) == 32 and second == "conversation-1"


async def test_a_client_that_leaves_ends_the_call(client: httpx.AsyncClient, rig: Rig) -> None:
    rig.cloudflare.script(BGE, held(asyncio.Event(), numbered))
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        asked = group.create_task(client.post(URL, json=asking()))
        await rig.cloudflare.asked_to_run()
        asked.cancel()
        await rig.cloudflare.runs[0].gone.wait()


# ---------------------------------------------------------------- long lists


@pytest.mark.parametrize(("count", "sizes"), [(100, [100]), (101, [100, 1]), (2048, [100] * 20 + [48])])
async def test_a_long_list_goes_up_in_parts_and_comes_back_in_order(
    client: httpx.AsyncClient, rig: Rig, count: int, sizes: list[int]
) -> None:
    response = await client.post(URL, json=asking(input=[str(i) for i in range(count)]))
    assert sorted(len(asked.json["text"]) for asked in rig.cloudflare.runs) == sorted(sizes)
    data = response.json()["data"]
    assert [entry["embedding"][0] for entry in data] == [3.0 * i for i in range(count)]
    assert [entry["index"] for entry in data] == list(range(count))
    assert response.json()["usage"]["prompt_tokens"] == sum(math.ceil(len(str(i)) / 3) for i in range(count))


async def test_parts_run_side_by_side(client: httpx.AsyncClient, rig: Rig) -> None:
    both = asyncio.Event()

    async def together(asked: Asked, send: Send) -> None:
        if len(rig.cloudflare.runs) == 2:
            both.set()
        await both.wait()
        await numbered(asked, send)

    rig.cloudflare.script(BGE, together)
    response = await client.post(URL, json=asking(input=["1"] * 150))
    assert response.status_code == 200 and len(response.json()["data"]) == 150


async def test_a_part_that_fails_fails_the_whole(client: httpx.AsyncClient, rig: Rig) -> None:
    async def picky(asked: Asked, send: Send) -> None:
        script = failure(400, 5006, "AiError: Bad input") if "150" in asked.json["text"] else numbered
        await script(asked, send)

    rig.cloudflare.script(BGE, picky)
    response = await client.post(URL, json=asking(input=[str(i) for i in range(200)]))
    assert (response.status_code, error_of(response)["message"]) == (400, "Bad input")


async def test_vectors_of_two_lengths_are_no_answer(client: httpx.AsyncClient, rig: Rig) -> None:
    async def uneven(asked: Asked, send: Send) -> None:
        texts = asked.json["text"]
        await result({"data": [[1.0] * (3 if len(texts) == 100 else 2)] * len(texts)})(asked, send)

    rig.cloudflare.script(BGE, uneven)
    response = await client.post(URL, json=asking(input=["1"] * 101))
    assert (response.status_code, error_of(response)["code"]) == (502, "upstream_error")


# ---------------------------------------------------------------- dimensions


async def test_vectors_are_cut_to_the_wanted_dimensions(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json=asking(dimensions=2))
    vectors = [entry["embedding"] for entry in response.json()["data"]]
    assert vectors == [pytest.approx([0.6, 0.8]), pytest.approx([0.6, 0.8])]
    assert response.headers["x-relay-changes"] == "dimensions=emulated"


TOO_MANY = {"than the model has": (BGE, 769, "768", 0), "than a model of the account has": (UNKNOWN, 4, "3", 1)}


@pytest.mark.parametrize(("model", "dimensions", "own", "calls"), TOO_MANY.values(), ids=TOO_MANY)
async def test_more_dimensions_are_refused(
    client: httpx.AsyncClient, rig: Rig, model: str, dimensions: int, own: str, calls: int
) -> None:
    response = await client.post(URL, json=asking(model=model, dimensions=dimensions))
    assert (response.status_code, error_of(response)["param"]) == (400, "dimensions")
    assert own in error_of(response)["message"] and len(rig.cloudflare.runs) == calls


# ---------------------------------------------------------------- upstream trouble


async def test_what_may_pass_is_tried_again(client: httpx.AsyncClient, rig: Rig) -> None:
    rig.cloudflare.script(BGE, failure(429, 3040), answer(200, {"result": {}}), numbered)
    response = await client.post(URL, json=asking())
    assert response.status_code == 200 and len(rig.cloudflare.runs) == 3


async def test_what_stays_is_told(client: httpx.AsyncClient, rig: Rig) -> None:
    rig.cloudflare.script(BGE, failure(400, 5007))
    response = await client.post(URL, json=asking())
    assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
    assert len(rig.cloudflare.runs) == 1


async def test_a_spent_allocation_holds_for_chat_and_vectors_alike(tmp_path: Path) -> None:
    async with relaying(tmp_path) as rig, calling(rig.url) as client:
        rig.cloudflare.script(BGE, failure(429, 3036))
        assert (await client.post(URL, json=asking())).status_code == 429
        chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        response = await client.post("/v1/chat/completions", json=chat)
        assert error_of(response)["code"] == "insufficient_quota" and len(rig.cloudflare.runs) == 1


NOT_FOR_IT = {
    "a chat model": (MODEL, "text generation"),
    "a translator": ("@cf/meta/m2m100-1.2b", "translation"),
}


@pytest.mark.parametrize(("model", "task"), NOT_FOR_IT.values(), ids=NOT_FOR_IT)
async def test_other_models_are_refused(client: httpx.AsyncClient, rig: Rig, model: str, task: str) -> None:
    response = await client.post(URL, json=asking(model=model))
    assert response.status_code == 400 and not rig.cloudflare.runs
    assert (error_of(response)["param"], error_of(response)["code"]) == ("model", "model_not_supported")
    assert task in error_of(response)["message"]


# ---------------------------------------------------------------- the simulator


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[AsyncOpenAI]:
    settings = settings_for(tmp_path)
    async with serving(create_app(settings, settings.tokens)) as relay:
        async with AsyncOpenAI(base_url=relay.url + "/v1", api_key=KEY, max_retries=0) as client:
            yield client


@pytest.mark.parametrize(("dimensions", "length"), [(openai.omit, 768), (64, 64)])
async def test_the_simulator_has_vectors_of_length_1_in_the_models_dimensions(
    simulator: AsyncOpenAI, dimensions: Any, length: int
) -> None:
    texts = ["The weather in Oslo is cold.", "In Oslo the weather is cold", "def main(): return 42"] * 40
    answer = await simulator.embeddings.create(model=BGE, input=texts, dimensions=dimensions)
    assert len(answer.data) == 120 and answer.usage.prompt_tokens > 120
    one, near, far = (entry.embedding for entry in answer.data[:3])
    assert len(one) == length and math.hypot(*one) == pytest.approx(1, abs=1e-4)
    assert sum(map(mul, one, near)) > sum(map(mul, one, far))


# ---------------------------------------------------------------- backends


class Embeddings:
    """An Embedder that answers with what it is told to, and fails first as often as it is told to."""

    name = "own"

    def __init__(self, *failures: RelayError) -> None:
        self.failures = list(failures)
        self.asked: list[EmbeddingRequest] = []

    async def embed(self, request: EmbeddingRequest, call: Call) -> EmbeddingResult:
        self.asked.append(request)
        if self.failures:
            raise self.failures.pop()
        return EmbeddingResult(vectors=[[1.0, 0.0]] * len(request.texts), usage=Usage(prompt_tokens=5))


class Task:
    """A NativeTask that answers with what it was asked, and fails first as often as it is told to."""

    name = "own"

    def __init__(self, *failures: RelayError) -> None:
        self.failures = list(failures)

    async def run(self, model: Model, inputs: Any, call: Call) -> NativeResult:
        if self.failures:
            raise self.failures.pop()
        return NativeResult([model.id, inputs])


BUSY = RelayError(Fault.RATE_LIMITED, "busy")
EMBED = Model(id="@cf/acme/embed-1", task=EMBEDDING_TASK, status="listed")
ASKED = EmbeddingRequest(model=EMBED.id, texts=("a", "b"))


def dispatcher(upstream: Upstream) -> Dispatcher:
    shelf = Shelf(Catalogue([EMBED], "2026-11-21"))
    backends = Backends({"own": upstream}, "own", {})
    return Dispatcher(shelf, backends, Modes("auto", {}), retries=Retries(2, 0.0))


def chat() -> Simulator:
    return Simulator(load_snapshot)


async def test_what_an_upstream_counted_is_kept() -> None:
    embedder = Embeddings(BUSY)
    vectors = await dispatcher(Upstream(chat=chat(), embedder=embedder)).embed(ASKED, Call("id"))
    assert (vectors.vectors, vectors.usage) == ([[1.0, 0.0]] * 2, Usage(prompt_tokens=5))
    assert len(embedder.asked) == 2


async def test_a_task_is_run_by_the_models_upstream_and_tried_again() -> None:
    call = Call("id")
    result = await dispatcher(Upstream(chat=chat(), task=Task(BUSY, BUSY))).run_task(EMBED, {"x": 1}, call)
    assert result.value == [EMBED.id, {"x": 1}] and call.upstream_since is None
    with pytest.raises(RelayError, match="busy"):
        await dispatcher(Upstream(chat=chat(), task=Task(BUSY, BUSY, BUSY))).run_task(EMBED, None, Call("id"))


async def test_an_upstream_that_cannot_says_so() -> None:
    alone = dispatcher(Upstream(chat=chat()))
    for work in (alone.embed(ASKED, Call("id")), alone.run_task(EMBED, None, Call("id"))):
        with pytest.raises(InvalidRequest, match=r"offers text embeddings \(own\)") as caught:
            await work
        assert (caught.value.param, caught.value.code) == ("model", "model_not_supported")
