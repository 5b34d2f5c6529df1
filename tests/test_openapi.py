"""Both OpenAPI documents: sound, complete, and to be read by people."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.routing import Route

from adapters.catalogue import CHAT_TASK, Catalogue, Model, load_snapshot
from adapters.errors import InvalidRequest
from adapters.wire.openai_request import parse_chat_request
from proxy.app import create_app
from proxy.openapi import CLOUDFLARES, OWN, PAGE, Document, describe_own
from tests.support.relay import AUTH, KEY, settings_for
from wrangler_compat.openapi import describe_cloudflare

pytestmark = pytest.mark.anyio

DOCUMENTS = {
    OWN: describe_own(version="1"),
    CLOUDFLARES: describe_cloudflare(load_snapshot(), version="1", root_path="/ai"),
}


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    return create_app(settings_for(tmp_path), [KEY])


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://relay", headers=AUTH) as client:
        yield client


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_is_valid(path: str) -> None:
    validate(DOCUMENTS[path])
    ids = [operation["operationId"] for _, _, operation in operations(DOCUMENTS[path])]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", [OWN, CLOUDFLARES])
async def test_a_document_is_served_as_of_now(client: httpx.AsyncClient, path: str) -> None:
    document = (await client.get(path)).json()
    assert document["openapi"] == "3.1.0" and document["servers"] == [{"url": "/"}]
    assert set(document["paths"]) == set(DOCUMENTS[path]["paths"])


def test_every_route_is_described(app: Starlette) -> None:
    described = {(path, method) for document in DOCUMENTS.values() for path, method, _ in operations(document)}
    ai = "/client/v4/accounts/{account}/ai"
    refused = {(f"{ai}/v1/models", "GET"), (f"{ai}/run/{{model}}", "GET")}  # routes that answer nothing but 405, 501
    same = {"/remote-bindings": "/remote-bindings/{key}", "/remote-bindings/": "/remote-bindings/{key}"}
    for route in app.routes:
        assert isinstance(route, Route)
        path = re.sub(r":path}", "}", same.get(route.path, route.path))
        for method in (route.methods or set()) - {"HEAD", "PUT", "DELETE", "OPTIONS"}:
            assert (path, method) in described | refused


def test_only_health_and_keyed_paths_need_no_token() -> None:
    public = {
        path
        for document in DOCUMENTS.values()
        for path, _, operation in operations(document)
        if operation.get("security") == []
    }
    assert public == {"/healthz", "/readyz", "/remote-bindings/{key}"}
    for document in DOCUMENTS.values():
        assert {"bearer": []} in document["security"] and "bearer" in document["components"]["securitySchemes"]


RANGES: dict[str, tuple[list[Any], list[Any]]] = {
    "max_tokens": ([1, 2**31 - 1, None], [0, 1.5, 2**31]),
    "n": ([1, 128], [0, 129]),
    "temperature": ([0, 0.5, 2], [-0.1, 2.1]),
    "seed": ([-(2**63), 0], [0.5, 2**63]),
}


@pytest.mark.parametrize("where", DOCUMENTS)
@pytest.mark.parametrize("name", RANGES)
def test_a_chats_numbers_have_the_ranges_that_are_checked(where: str, name: str) -> None:
    schema = DOCUMENTS[where]["components"]["schemas"]["ChatBody"]["properties"][name]
    model = {"model": "@cf/a/b", "messages": [{"role": "user", "content": "Hi"}]}
    for taken, values in zip((True, False), RANGES[name], strict=True):
        for value in values:
            assert Draft202012Validator(schema).is_valid(value) is taken
            try:
                parse_chat_request(json.dumps({**model, name: value}).encode())
            except InvalidRequest:
                assert not taken
            else:
                assert taken


def named(schema: dict[str, Any]) -> Any:
    return DOCUMENTS[CLOUDFLARES]["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


SCRIPTED = {
    OWN: ("/v1/chat/completions", "/v1/embeddings"),
    CLOUDFLARES: tuple(
        f"/client/v4/accounts/{{account}}/ai/{path}"
        for path in ("run", "run/{model}", "v1/chat/completions", "v1/embeddings", "v1/responses")
    ),
}


def test_what_can_be_scripted_says_so() -> None:
    for where, paths in SCRIPTED.items():
        for path in paths:
            parameters = DOCUMENTS[where]["paths"][path]["post"]["parameters"]
            assert ("x-relay-script", "header") in {(told["name"], told["in"]) for told in parameters}


def test_every_usable_model_has_a_path_with_its_schemas() -> None:
    paths = DOCUMENTS[CLOUDFLARES]["paths"]
    for model in load_snapshot():
        path = f"/client/v4/accounts/{{account}}/ai/run/{model.id}"
        assert (path in paths) == (not model.is_retired)
    bge = paths["/client/v4/accounts/{account}/ai/run/@cf/baai/bge-small-en-v1.5"]["post"]
    assert bge["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/DataShapeInputs"
    }
    whisper = paths["/client/v4/accounts/{account}/ai/run/@cf/openai/whisper"]["post"]
    assert set(whisper["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    llama = paths["/client/v4/accounts/{account}/ai/run/@cf/meta/llama-3.2-1b-instruct"]["post"]
    assert "text/event-stream" in llama["responses"]["200"]["content"]
    flux = paths["/client/v4/accounts/{account}/ai/run/@cf/black-forest-labs/flux-2-dev"]["post"]
    [form] = flux["requestBody"]["content"].items()
    assert form[0] == "multipart/form-data"
    fields = named(form[1]["schema"])["properties"]
    assert fields["input_image_0"] == {"contentMediaType": "application/octet-stream"}  # a file
    assert fields["prompt"]["type"] == "string"
    lightning = paths["/client/v4/accounts/{account}/ai/run/@cf/bytedance/stable-diffusion-xl-lightning"]["post"]
    assert set(lightning["responses"]["200"]["content"]) == {"image/*"}


def test_equal_schemas_are_shared_and_others_get_names_of_their_own() -> None:
    models = [
        Model(id=f"@cf/a/{name}", task="Text Classification", status="listed", native_result="labels")
        for name in ("one", "two")
    ]
    models.append(Model(id="@cf/a/three", task="Image Classification", status="listed", native_result="labels"))
    models.append(Model(id="relay/own", task=CHAT_TASK, status="listed"))
    document = describe_cloudflare(Catalogue(models, "2026-10-09"), version="1")
    named = [name for name in document["components"]["schemas"] if name.startswith("Labels")]
    assert named == ["LabelsInputs", "LabelsResult", "LabelsInputs2"]
    assert document["servers"] == [{"url": "/"}] and DOCUMENTS[CLOUDFLARES]["servers"] == [{"url": "/ai"}]
    assert not any("relay/own" in path for path in document["paths"])


class Links(HTMLParser):
    """What a page links to, which ids it has, and of which elements it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.ids: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.targets |= {told[name] for name in told if name in {"href", "src"}}
        self.ids |= {told[name] for name in told if name == "id"}


async def test_the_page_shows_every_operation_and_loads_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get(PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for document in DOCUMENTS.values():
        for path, method, operation in operations(document):
            assert f'<code class="method">{method}</code> <code>{path}</code>' in answer.text, operation
    links = Links()
    links.feed(answer.text)
    assert not links.tags & {"script", "link", "img", "iframe"}
    assert "url(" not in answer.text and "@import" not in answer.text
    assert links.targets <= {f"#{id}" for id in links.ids}
    assert "#0-ChatBody" in links.targets and "#1-NewFinetune" in links.targets


@pytest.mark.parametrize("path", [OWN, CLOUDFLARES, PAGE])
async def test_documents_need_a_token_like_all_else(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path, headers={"authorization": ""})).status_code in {400, 401}


@pytest.mark.parametrize("path", [OWN, CLOUDFLARES, PAGE])
async def test_who_has_a_document_gets_it_once(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    tag = first.headers["etag"]
    for has in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await client.get(path, headers={"if-none-match": has})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    for has in ('"other"', tag[1:-1], ""):
        again = await client.get(path, headers={"if-none-match": has})
        assert (again.status_code, again.content) == (200, first.content)


async def test_a_document_is_made_when_it_is_wanted_and_again_when_its_basis_is_another() -> None:
    made: list[str] = []
    basis = [object()]

    def make(root_path: str) -> bytes:
        made.append(root_path)
        return f"{len(made)} {root_path}".encode()

    document = Document(make, lambda: basis[0])
    assert made == []
    tags = []
    transport = httpx.ASGITransport(document)
    async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
        for said in ("1 ", "1 "):
            answer = await client.get("/")
            assert answer.text == said
            tags.append(answer.headers["etag"])
        basis[0] = object()
        answer = await client.get("/", headers={"if-none-match": tags[0]})
        assert (answer.status_code, answer.text) == (200, "2 ")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(document, root_path="/ai"), base_url="http://relay"
    ) as client:
        assert (await client.get("/ai/")).text == "3 /ai"
    assert tags[0] == tags[1]
    assert made == ["", "", "/ai"]
