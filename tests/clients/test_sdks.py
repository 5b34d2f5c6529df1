"""Cloudflare's SDKs for Python and Node, and the AI SDK's provider for Workers AI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudflare
import pytest
from cloudflare import Cloudflare

from tests.clients.conftest import Relay
from tests.clients.expectations import Like
from tests.clients.processes import DEADLINE, finished
from tests.clients.surroundings import Surroundings, initialise, make_project, node, pointed, printed_object
from tests.support.relay import KEY, MODEL

MESSAGES: Any = [{"role": "user", "content": "How warm is it in Oslo?"}]
PICTURE = "@cf/stabilityai/stable-diffusion-xl-base-1.0"
UNKNOWN = "@cf/example/no-such-model"
TEXT = Like(r"^\(simulated\) ")


# Python


@pytest.fixture
def client(relay: Relay) -> Iterator[Cloudflare]:
    with Cloudflare(api_token=KEY, base_url=relay.api, max_retries=0, timeout=DEADLINE) as client:
        yield client


def test_python_runs_text(client: Cloudflare) -> None:
    answer: Any = client.ai.run(MODEL, account_id="local", messages=MESSAGES, max_tokens=12)
    assert answer["response"] == TEXT and answer["usage"]["completion_tokens"] == 12


def test_python_reads_a_stream(client: Cloudflare) -> None:
    streaming = client.ai.with_streaming_response
    with streaming.run(MODEL, account_id="local", messages=MESSAGES, max_tokens=12, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
    assert response.headers["content-type"] == "text/event-stream"
    assert len(lines) > 3 and lines[-1] == "data: [DONE]"


def test_python_gets_embeddings(client: Cloudflare) -> None:
    answer: Any = client.ai.run("@cf/baai/bge-base-en-v1.5", account_id="local", text=["warm", "cold"])
    assert (answer["shape"], [len(vector) for vector in answer["data"]]) == ([2, 768], [768, 768])


def test_python_gets_a_picture(client: Cloudflare) -> None:
    with client.ai.with_streaming_response.run(PICTURE, account_id="local", prompt="a red square") as response:
        assert response.read().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("model", "key", "kind", "code"),
    [(UNKNOWN, KEY, cloudflare.BadRequestError, 5007), (MODEL, "wrong", cloudflare.AuthenticationError, 10000)],
)
def test_python_gets_errors_with_their_codes(
    client: Cloudflare, model: str, key: str, kind: type[cloudflare.APIStatusError], code: int
) -> None:
    with pytest.raises(kind) as caught:
        client.with_options(api_token=key).ai.run(model, account_id="local", prompt="hi")
    assert [error.code for error in caught.value.errors] == [code]


def test_python_comes_to_the_end_of_every_list(client: Cloudflare) -> None:
    models: list[Any] = list(client.ai.models.list(account_id="local", per_page=20))
    names = [model["name"] for model in models]
    assert len(names) > 20 and MODEL in names and len(set(names)) == len(names)
    assert len(list(client.ai.tasks.list(account_id="local"))) > 5
    assert len(list(client.ai.authors.list(account_id="local"))) > 5
    assert isinstance(list(client.ai.finetunes.public.list(account_id="local")), list)
    assert [account.id for account in client.accounts.list()] == ["local"]
    assert len(list(client.memberships.list())) == 1


def test_python_reads_schema_formats_and_identity(client: Cloudflare) -> None:
    schema: Any = client.ai.models.schema.get(account_id="local", model=MODEL)
    assert schema.input and schema.output
    formats = list(client.ai.to_markdown.supported(account_id="local"))
    assert "text/html" in [entry.mime_type for entry in formats]
    verified = client.user.tokens.verify()
    assert verified is not None and verified.status == "active"


# Node

NODE_SDK: dict[str, Any] = {
    "text": {"text": TEXT, "total": 26},
    "stream": {"text": TEXT, "last": "[DONE]", "type": "text/event-stream"},
    "embeddings": {"shape": [2, 768], "lengths": [768, 768]},
    "picture": {"type": "image/png", "begins": "PNG"},
    "error": {"error": "BadRequestError", "status": 400, "codes": [5007]},
    "bad_token": {"error": "AuthenticationError", "status": 401, "codes": [10000]},
    "models": {"several_pages": True, "unique": True, "known": True},
    "schema": {"type": "object"},
    "finetunes": {"mine": True, "ended": True},
    "names": {"tasks": True, "authors": True},
    "markdown": [{"name": "oslo.html", "data": "# Oslo"}],
    "supported": {"html": True},
    "identity": {"status": "active", "accounts": ["local"], "memberships": ["local"]},
}


@pytest.fixture(scope="module")
def node_sdk(relay: Relay, surroundings: Surroundings) -> dict[str, Any]:
    done = finished(node("cloudflare.mjs", relay.api, KEY), cwd=surroundings.home, env=surroundings.environ())
    assert done.returncode == 0, done.stderr
    return printed_object(done.stdout)


@pytest.mark.parametrize("scenario", NODE_SDK)
def test_node_sees(node_sdk: dict[str, Any], scenario: str) -> None:
    assert node_sdk[scenario] == NODE_SDK[scenario]
    assert {*node_sdk} == {*NODE_SDK}


# The AI SDK's provider

PROVIDER: dict[str, Any] = {
    "text": {"text": TEXT, "total": 26},
    "stream": {"text": TEXT, "several": True, "total": 26},
    "tools": [{"toolName": "weather", "keys": ["city"]}],
    "embeddings": [768, 768],
    "error": {"error": "AI_APICallError", "message": Like("5007.*No such model")},
}


@pytest.fixture(scope="module", params=["credentials", "binding"])
def provider(
    request: pytest.FixtureRequest,
    relay: Relay,
    surroundings: Surroundings,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    project: Path = make_project(tmp_path_factory.mktemp("provider") / "project")
    initialise(project, surroundings)
    words = node("provider.mjs", request.param, relay.api, KEY, str(project / "wrangler.jsonc"))
    done = finished(words, cwd=project, env=surroundings.environ(**pointed(relay.url)))
    assert done.returncode == 0, done.stderr
    return printed_object(done.stdout)


@pytest.mark.parametrize("scenario", PROVIDER)
def test_the_ai_sdk_sees(provider: dict[str, Any], scenario: str) -> None:
    assert provider[scenario] == PROVIDER[scenario]
    assert {*provider} == {*PROVIDER}
