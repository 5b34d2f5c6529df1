"""`GET /v1/models`: what can be asked for, and what each model can do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from adapters.catalogue import Catalogue, Model
from adapters.errors import RelayError
from adapters.wire.json_text import encode
from proxy.answers import send_body
from proxy.dispatch import Shelf

_FLAGS = ("function_calling", "reasoning", "vision", "streaming", "lora", "async_queue", "partner", "beta")


class ModelList:
    """All models that are not retired, then the operator's aliases. `owner_of` says who answers for one."""

    def __init__(self, shelf: Shelf, owner_of: Callable[[Model], str]) -> None:
        self._shelf = shelf
        self._owner_of = owner_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        catalogue = self._shelf.catalogue
        created = _created(catalogue)
        rows = [
            dump_model(model, model.id, self._owner_of(model), created) for model in catalogue if not model.is_retired
        ]
        rows += [row for alias in catalogue.aliases if (row := self._alias(catalogue, alias, created))]
        await send_body(send, encode({"object": "list", "data": rows}))

    def _alias(self, catalogue: Catalogue, alias: str, created: int) -> dict[str, Any] | None:
        try:
            model = catalogue.resolve(alias)
        except RelayError:  # it leads nowhere; a request that uses it is told so
            return None
        return dump_model(model, alias, self._owner_of(model), created) | {"alias_of": model.id}


class ModelDetail:
    """One model, by any name that a request may use for it. Raises RelayError if it is none."""

    def __init__(self, shelf: Shelf, owner_of: Callable[[Model], str]) -> None:
        self._shelf = shelf
        self._owner_of = owner_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name: str = scope["path_params"]["model"]
        if not name:
            raise HTTPException(404)
        catalogue = self._shelf.catalogue
        model = catalogue.resolve(name)
        if model.status == "unknown" and name not in catalogue.aliases:  # there is nothing to tell of it
            raise catalogue.not_found(name)
        row = dump_model(model, model.id, self._owner_of(model), _created(catalogue))
        if name in catalogue.aliases:
            row["alias_of"] = row["id"]
            row["id"] = name
        await send_body(send, encode(row))


def dump_model(model: Model, id: str, owner: str, created: int) -> dict[str, Any]:
    """A row of OpenAI's model list with what else is known: limits in tokens, flags where they are known."""
    row: dict[str, Any] = {
        "id": id,
        "object": "model",
        "created": created,
        "owned_by": model.author if model.id.startswith("relay/") else owner,
        "task": model.task,
        "status": model.status,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output,
        "capabilities": {flag: value for flag in _FLAGS if (value := getattr(model, flag)) is not None},
    }
    if model.reasoning_efforts:
        row["reasoning_efforts"] = model.reasoning_efforts
    if model.output_dimensions is not None:
        row["output_dimensions"] = model.output_dimensions
    if model.is_retired:
        row["retired_on"] = model.retired_on
    if model.replaced_by is not None:
        row["replaced_by"] = model.replaced_by
    return row


def _created(catalogue: Catalogue) -> int:
    """Clients want a whole number of Unix seconds; ours is the date of the reading."""
    try:
        read = dt.datetime.fromisoformat(catalogue.as_of)
    except ValueError:
        return 0
    return int((read if read.tzinfo else read.replace(tzinfo=dt.UTC)).timestamp())
