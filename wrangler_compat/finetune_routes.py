"""`.../ai/finetunes`: LoRA adapters listed, made, filled and removed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Annotated, Any

import anyio.to_thread
import msgspec
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.catalogue import Catalogue
from adapters.errors import InvalidRequest
from adapters.wire.validation import decode
from wrangler_compat.envelope import enveloped, page_of, whole_number
from wrangler_compat.finetunes import Finetune, Finetunes
from wrangler_compat.lora import base_model
from wrangler_compat.seams import Serving
from wrangler_compat.uploads import uploaded

_MAX_BODY = 2**16
_NAME = r"^[^\x00-\x1f\x7f/]+$"
"""A name stands in a path."""


class NewFinetune(msgspec.Struct, kw_only=True):
    """The body of `POST /ai/finetunes`; wrangler sends it as text/plain."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=_NAME)]
    description: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    public: bool | None = None


_decoder = msgspec.json.Decoder(NewFinetune)


class FinetuneList:
    """`GET /ai/finetunes` shows them, `POST` makes one, to be filled afterwards."""

    def __init__(self, finetunes: Finetunes, catalogue: Callable[[], Catalogue], serving: Serving) -> None:
        self._finetunes = finetunes
        self._catalogue = catalogue
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            answer = enveloped(await self._create(scope, receive))
        else:
            page = page_of(Request(scope).query_params)
            answer = page.of(await anyio.to_thread.run_sync(self._finetunes.all))
        await answer(scope, receive, send)

    async def _create(self, scope: Scope, receive: Receive) -> Finetune:
        """Raises InvalidRequest, and RelayError for a model that is not known or takes no adapters."""
        wanted = decode(await self._serving.body(scope, receive, _MAX_BODY), _decoder)
        model = base_model(self._catalogue(), wanted.model)
        create = partial(
            self._finetunes.create,
            model=model.id,
            name=wanted.name,
            description=wanted.description or "",
            public=bool(wanted.public),
        )
        return await anyio.to_thread.run_sync(create)


class PublicFinetunes:
    """`GET /ai/finetunes/public`: those that were made public; `limit` and `offset`, or pages."""

    def __init__(self, finetunes: Finetunes) -> None:
        self._finetunes = finetunes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = Request(scope).query_params
        start, end = _window(query)
        rows = [finetune for finetune in await anyio.to_thread.run_sync(self._finetunes.all) if finetune.public]
        await enveloped(_ordered(rows, query)[start:end])(scope, receive, send)


def _window(query: QueryParams) -> tuple[int, int]:
    page = page_of(query)
    size = whole_number(query, "limit", 1) or page.size
    start = (whole_number(query, "offset", 0) or 0) + (page.number - 1) * size
    return start, start + size


def _ordered(rows: list[Finetune], query: QueryParams) -> list[Finetune]:
    """By a field of the record, where `orderBy` names one."""
    field = query.get("orderBy", "")
    return sorted(rows, key=lambda row: str(getattr(row, field))) if field in Finetune.__struct_fields__ else rows


class OneFinetune:
    """`DELETE /ai/finetunes/{id or name}`: ours, for Cloudflare documents none; it makes room for another."""

    def __init__(self, finetunes: Finetunes) -> None:
        self._finetunes = finetunes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = await anyio.to_thread.run_sync(self._finetunes.delete, scope["path_params"]["finetune"])
        await enveloped({"id": gone.id})(scope, receive, send)


class FinetuneAssets:
    """`POST /ai/finetunes/{id or name}/finetune-assets`: one of the files of an adapter, as a form."""

    def __init__(self, finetunes: Finetunes, serving: Serving) -> None:
        self._finetunes = finetunes
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        finetune: str = scope["path_params"]["finetune"]
        async with uploaded(self._serving, scope, receive, max_files=1) as form:
            file_name, file = _asset(form)
            kept = await anyio.to_thread.run_sync(self._finetunes.keep_asset, finetune, file_name, file)
        await enveloped({"id": kept.id, "file_name": file_name, "modified_at": kept.modified_at})(scope, receive, send)


def _asset(form: FormData) -> tuple[str, Any]:
    """The name and the file. Raises InvalidRequest."""
    name, file = form.get("file_name"), form.get("file")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("Missing required parameter: 'file_name'.", param="file_name")
    if file is None:
        raise InvalidRequest("Missing required parameter: 'file'.", param="file")
    return name, file.file if isinstance(file, UploadFile) else BytesIO(file.encode(errors="replace"))


def finetune_endpoints(
    finetunes: Finetunes, catalogue: Callable[[], Catalogue], serving: Serving
) -> dict[str, tuple[list[str], ASGIApp]]:
    """Methods and endpoint of each path below `/ai`. Cloudflare's page has a slash at the end, wrangler none."""
    assets = FinetuneAssets(finetunes, serving)
    return {
        "/finetunes": (["GET", "POST"], FinetuneList(finetunes, catalogue, serving)),
        "/finetunes/public": (["GET"], PublicFinetunes(finetunes)),
        "/finetunes/{finetune}": (["DELETE"], OneFinetune(finetunes)),
        "/finetunes/{finetune}/finetune-assets": (["POST"], assets),
        "/finetunes/{finetune}/finetune-assets/": (["POST"], assets),
    }
