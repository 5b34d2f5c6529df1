"""`GET .../ai/models/search`, `/ai/models/schema`, `/ai/tasks/search` and `/ai/authors/search`."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.catalogue import Catalogue, Model
from adapters.errors import InvalidRequest
from adapters.wire.native.schemas import schema_of
from wrangler_compat import catalogue_api
from wrangler_compat.catalogue_api import Search
from wrangler_compat.envelope import bare, enveloped, flag, page_of, whole_number
from wrangler_compat.naming import known

CatalogueOf = Callable[[], Catalogue]


class Look:
    """A `GET` that only looks at the catalogue as it is now: its query to an answer."""

    __slots__ = ("_answer", "_catalogue")

    def __init__(self, catalogue: CatalogueOf, answer: Callable[[Catalogue, QueryParams], Response]) -> None:
        self._catalogue = catalogue
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer(self._catalogue(), Request(scope).query_params)
        await answer(scope, receive, send)


def search_models(catalogue: Catalogue, query: QueryParams) -> Response:
    """Raises InvalidRequest for a number, a flag or a format that is none."""
    search = Search(
        words=query.get("search", ""),
        task=query.get("task", "").strip(),
        author=query.get("author", "").strip(),
        source=whole_number(query, "source", 0),
        hide_experimental=flag(query, "hide_experimental"),
        include_deprecated=flag(query, "include_deprecated"),
    )
    page = page_of(query)
    found = catalogue_api.find(catalogue, search)
    form = query.get("format", "").strip().lower()
    if form == "openrouter":
        start = (page.number - 1) * page.size
        chats = [model for model in found if model.is_chat][start : start + page.size]
        return bare({"data": [catalogue_api.dump_openrouter_row(model, catalogue.as_of) for model in chats]})
    if form:
        raise InvalidRequest("Invalid 'format': expected openrouter, or nothing.", param="format")
    return page.of([catalogue_api.dump_row(model, catalogue.as_of) for model in found])


def model_schema(catalogue: Catalogue, query: QueryParams) -> Response:
    """Raises InvalidRequest without a model, RelayError for one that is not known."""
    name = query.get("model", "").strip()
    if not name:
        raise InvalidRequest("Missing required parameter: 'model'.", param="model")
    model = known(catalogue, name)
    return enveloped(schema_of(model.native_result, model.task, model.input_kinds))


def search_tasks(catalogue: Catalogue, query: QueryParams) -> Response:
    return page_of(query).of(catalogue_api.task_rows(_offered(catalogue)))


def search_authors(catalogue: Catalogue, query: QueryParams) -> Response:
    return page_of(query).of(catalogue_api.author_rows(_offered(catalogue)))


def _offered(catalogue: Catalogue) -> list[Model]:
    return catalogue_api.find(catalogue, Search())


def catalogue_endpoints(catalogue: CatalogueOf) -> dict[str, ASGIApp]:
    """What each path below `/ai` does."""
    return {
        "/models/search": Look(catalogue, search_models),
        "/models/schema": Look(catalogue, model_schema),
        "/tasks/search": Look(catalogue, search_tasks),
        "/authors/search": Look(catalogue, search_authors),
    }
