"""`models/search`, `models/schema`, `tasks/search` and `authors/search`, as wrangler and the SDKs ask for them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from adapters.catalogue import CHAT_TASK, Catalogue, Model, Price
from tests.support.lists import AI, SNAPSHOT, client_of, error_of, lists_app, result_of
from wrangler_compat.catalogue_api import Search, describe, dump_openrouter_row, dump_row, find

pytestmark = pytest.mark.anyio

CHAT = Model(
    id="@cf/meta/talker-1b",
    task=CHAT_TASK,
    status="listed",
    context_window=8000,
    max_output=2000,
    native_result="response",
    function_calling=True,
    reasoning=True,
    vision=True,
    requires_paid_plan=True,
    beta=False,
    reasoning_efforts=("low", "high"),
    price=(
        Price(unit="per M input tokens", price_usd=0.35, neurons=31818),
        Price(unit="per M output tokens", price_usd=20),
        Price(unit="per M cached input tokens"),
        Price(unit="per step", price_usd=0.1),
    ),
    uuid="f9f2250b-1048-4a52-9910-d0bf976616a1",
)
VECTORS = Model(
    id="@cf/baai/vectors", task="Text Embeddings", status="listed", output_dimensions=384, native_result="data_shape"
)
TRIAL = Model(id="@hf/acme/trial", task=CHAT_TASK, status="listed", beta=True)
GONE = Model(id="@cf/acme/gone", task=CHAT_TASK, status="retired", retired_on="2026-08-01")
LONG_GONE = Model(id="@cf/acme/long-gone", task=CHAT_TASK, status="retired", retired_on="2026-01-01")
NEVER_SAID = Model(id="@cf/acme/never-said", task=CHAT_TASK, status="retired")
OURS = Model(id="relay/simulator", task=CHAT_TASK, status="listed")
CATALOGUE = Catalogue([OURS, CHAT, VECTORS, TRIAL, GONE, LONG_GONE, NEVER_SAID], "2026-10-09")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(lists_app(tmp_path, catalogue=CATALOGUE)) as client:
        yield client


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(lists_app(tmp_path)) as client:
        yield client


async def test_a_row_is_cloudflares(client: httpx.AsyncClient) -> None:
    (row,) = result_of(await client.get(f"{AI}/models/search", params={"search": "talker"}))
    assert row == {
        "id": "f9f2250b-1048-4a52-9910-d0bf976616a1",
        "source": 1,
        "name": "@cf/meta/talker-1b",
        "description": "Text Generation model by meta with a context of 8,000 tokens, "
        "function calling, reasoning, vision.",
        "task": {
            "id": "c329a1f9-323d-4e91-b2aa-582dd4188d34",
            "name": "Text Generation",
            "description": "Writes text: answers, code, tool calls.",
        },
        "created_at": "2026-10-09 00:00:00.000",
        "tags": [],
        "properties": [
            {"property_id": "context_window", "value": "8000"},
            {"property_id": "function_calling", "value": "true"},
            {"property_id": "reasoning", "value": "true"},
            {"property_id": "vision", "value": "true"},
            {"property_id": "require_workers_paid", "value": "true"},
            {
                "property_id": "price",
                "value": [
                    {"unit": "per M input tokens", "price": 0.35, "currency": "USD"},
                    {"unit": "per M output tokens", "price": 20, "currency": "USD"},
                    {"unit": "per step", "price": 0.1, "currency": "USD"},
                ],
            },
            {"property_id": "reasoning_effort", "value": {"supported_efforts": ["low", "high"]}},
        ],
    }


SEARCHES: dict[str, tuple[dict[str, str], list[str]]] = {
    "all that can be used, ours last": ({}, [CHAT.id, VECTORS.id, TRIAL.id, OURS.id]),
    "words of the name": ({"search": "TALK"}, [CHAT.id]),
    "words of the description": ({"search": "384 dimensions"}, [VECTORS.id]),
    "words of the task": ({"search": "embeddings"}, [VECTORS.id]),
    "every word has to be there": ({"search": "talker 384"}, []),
    "nothing that fits": ({"search": "no-such-model"}, []),
    "the task's name": ({"task": "text generation"}, [CHAT.id, TRIAL.id, OURS.id]),
    "the task's id": ({"task": "0137cdcf-162a-4108-94f2-1ca59e8c65ee"}, [VECTORS.id]),
    "the author": ({"author": "Meta"}, [CHAT.id]),
    "of @cf": ({"source": "1"}, [CHAT.id, VECTORS.id]),
    "of @hf": ({"source": "2"}, [TRIAL.id]),
    "without what is being tried": ({"hide_experimental": "true"}, [CHAT.id, VECTORS.id, OURS.id]),
    "with what ended lately": (
        {"include_deprecated": "1"},
        [CHAT.id, VECTORS.id, TRIAL.id, GONE.id, OURS.id],
    ),
    "empty filters": (
        {"search": "", "task": "", "author": "", "source": "", "hide_experimental": "", "format": "", "page": ""},
        [CHAT.id, VECTORS.id, TRIAL.id, OURS.id],
    ),
    "unknown filters": ({"colour": "blue"}, [CHAT.id, VECTORS.id, TRIAL.id, OURS.id]),
    "a page": ({"per_page": "3", "page": "1"}, [CHAT.id, VECTORS.id, TRIAL.id]),
    "the last page": ({"per_page": "3", "page": "2"}, [OURS.id]),
    "past the last page": ({"per_page": "3", "page": "3"}, []),
    "far past the last page": ({"page": "999999999"}, []),
}


@pytest.mark.parametrize(("query", "names"), SEARCHES.values(), ids=SEARCHES)
async def test_a_search_finds(client: httpx.AsyncClient, query: dict[str, str], names: list[str]) -> None:
    rows = result_of(await client.get(f"{AI}/models/search", params=query))
    assert [row["name"] for row in rows] == names


REFUSED = {
    "a page that is no number": ({"page": "two"}, "page"),
    "page nought": ({"page": "0"}, "page"),
    "a number of another script": ({"page": "٣"}, "page"),
    "a number beyond reason": ({"page": "9" * 5000}, "page"),
    "too large a page": ({"per_page": "1001"}, "per_page"),
    "a source that is no number": ({"source": "@cf"}, "source"),
    "a flag that is none": ({"hide_experimental": "perhaps"}, "hide_experimental"),
    "a format that is not known": ({"format": "xml"}, "format"),
}


@pytest.mark.parametrize(("query", "field"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_query_is_told_by_its_field(client: httpx.AsyncClient, query: dict[str, str], field: str) -> None:
    status, code, message = error_of(await client.get(f"{AI}/models/search", params=query))
    assert (status, code) == (400, 5006) and f"'{field}'" in message


async def test_pages_tell_how_much_there_is(client: httpx.AsyncClient) -> None:
    body = (await client.get(f"{AI}/models/search", params={"per_page": "3", "page": "2"})).json()
    assert body["result_info"] == {"page": 2, "per_page": 3, "count": 1, "total_count": 4}


@pytest.mark.parametrize("path", ["models/search", "tasks/search", "authors/search", "finetunes", "finetunes/public"])
async def test_asking_for_page_after_page_ends(real: httpx.AsyncClient, path: str) -> None:
    """As the SDKs do, whatever `result_info` says."""
    seen: list[Any] = []
    page = 1
    while rows := result_of(await real.get(f"{AI}/{path}", params={"page": page, "per_page": 50})):
        assert rows[0] not in seen
        seen += rows
        page += 1
    assert page < 10


async def test_every_model_of_the_snapshot_has_a_row_that_reads_back(real: httpx.AsyncClient) -> None:
    rows = result_of(await real.get(f"{AI}/models/search", params={"per_page": "1000"}))
    listed = [model for model in SNAPSHOT if model.status == "listed"]
    assert len({row["id"] for row in rows}) == len(rows) and all(uuid.UUID(row["id"]) for row in rows)
    assert {model.id for model in listed} <= {row["name"] for row in rows}
    again = SNAPSHOT.overlaid(rows, SNAPSHOT.as_of)
    for model in listed:
        read = again.get(model.id)
        assert read is not None
        assert (read.task, read.context_window, read.function_calling) == (
            model.task,
            model.context_window,
            model.function_calling,
        )
        assert [price.price_usd for price in read.price] == [p.price_usd for p in model.price]


def test_ids_that_cloudflare_has_not_told_are_always_the_same() -> None:
    row = dump_row(VECTORS, "2026-10-09T12:30:00Z")
    assert row["id"] == dump_row(VECTORS, "2026-10-10")["id"] != dump_row(TRIAL, "2026-10-10")["id"]
    assert row["created_at"] == "2026-10-09 12:30:00.000"
    assert dump_row(VECTORS, "no day")["created_at"] == "1970-01-01 00:00:00.000"


def test_a_model_of_an_unknown_task_or_no_author_is_listed_too() -> None:
    model = Model(id="engine-model", task="Time Travel", status="listed")
    row = dump_row(model, "2026-10-09")
    assert (row["source"], row["task"]["name"], row["description"]) == (3, "Time Travel", "Time Travel model.")
    assert row["properties"] == []


def test_a_retired_model_says_when() -> None:
    assert describe(GONE).endswith("; retired on 2026-08-01.")
    assert {"property_id": "planned_deprecation_date", "value": "2026-08-01"} in dump_row(GONE, "2026-10-09")[
        "properties"
    ]
    assert find(CATALOGUE, Search(words="gone")) == []


async def test_openrouters_form_has_prices_a_token_and_chat_models_alone(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{AI}/models/search", params={"format": "openrouter"})
    rows = {row["id"]: row for row in answer.json()["data"]}
    assert list(rows) == [CHAT.id, TRIAL.id, OURS.id]
    row = rows[CHAT.id]
    assert row["pricing"] == {"prompt": "0.00000035", "completion": "0.00002"}
    assert (row["context_length"], row["top_provider"]["max_completion_tokens"]) == (8000, 2000)
    assert row["architecture"]["input_modalities"] == ["text", "image"]
    assert {"tools", "reasoning", "temperature"} <= set(row["supported_parameters"])
    past = await client.get(f"{AI}/models/search", params={"format": "openrouter", "page": "2"})
    assert past.json() == {"data": []}


PER_TOKEN = {0: "0", 1_000_000: "1", 0.011: "0.000000011", 100: "0.0001", 5e-05: "0.00000000005"}


@pytest.mark.parametrize(("dollars", "text"), PER_TOKEN.items())
def test_a_price_a_token_is_written_in_plain_digits(dollars: float, text: str) -> None:
    model = Model(id="@cf/a/b", task=CHAT_TASK, status="listed", price=(Price("per M input tokens", dollars),))
    assert dump_openrouter_row(model, "2026-10-09")["pricing"] == {"prompt": text}


@pytest.mark.parametrize("model", [m for m in SNAPSHOT if not m.is_retired], ids=lambda model: model.id)
async def test_every_model_has_schemas_of_its_own(real: httpx.AsyncClient, model: Model) -> None:
    result = result_of(await real.get(f"{AI}/models/schema", params={"model": model.id}))
    assert set(result) == {"input", "output"}
    for schema in result.values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_a_schema_is_that_of_the_model(real: httpx.AsyncClient) -> None:
    result = result_of(await real.get(f"{AI}/models/schema", params={"model": "@cf/baai/bge-small-en-v1.5"}))
    checker = jsonschema.Draft202012Validator(result["input"])
    assert checker.is_valid({"text": "a"}) and not checker.is_valid({"prompt": "a"})


NO_SCHEMA = {
    "nothing": ({}, 5006, "'model'"),
    "an empty name": ({"model": " "}, 5006, "'model'"),
    "a name that means nothing": ({"model": "no-such-model"}, 5007, "no-such-model"),
    "an id that is not in the catalogue": ({"model": "@cf/meta/none"}, 5007, "@cf/meta/none"),
}


@pytest.mark.parametrize(("query", "code", "word"), NO_SCHEMA.values(), ids=NO_SCHEMA)
async def test_no_schema_for(real: httpx.AsyncClient, query: dict[str, str], code: int, word: str) -> None:
    status, told, message = error_of(await real.get(f"{AI}/models/schema", params=query))
    assert (status, told) == (400, code) and word in message


async def test_tasks_and_authors_are_those_of_the_models(client: httpx.AsyncClient) -> None:
    tasks = result_of(await client.get(f"{AI}/tasks/search"))
    assert [task["name"] for task in tasks] == ["Text Generation", "Text Embeddings"]
    authors = result_of(await client.get(f"{AI}/authors/search"))
    assert [(author["name"], author["models"]) for author in authors] == [
        ("acme", 1),
        ("baai", 1),
        ("meta", 1),
        ("relay", 1),
    ]


@pytest.mark.parametrize("account", ["a.b", "a%20b", "ü"])
async def test_an_account_id_that_none_can_have_is_no_route(client: httpx.AsyncClient, account: str) -> None:
    status, code, _ = error_of(await client.get(f"/client/v4/accounts/{account}/ai/models/search"))
    assert (status, code) == (404, 7003)
