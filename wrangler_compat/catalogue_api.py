"""The catalogue as `GET /ai/models/search` shows it: rows, filters and the other lists made from the same models.

Sources: Cloudflare's SDKs and wrangler (2026-08), readings of the live list (2026-09). What Cloudflare knows and the
catalogue does not - its words for a model, the day it was added - is made from what is known.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from adapters.catalogue import Catalogue, Model

AccountSource = Literal[1, 2, 3]
"""1 for @cf, 2 for @hf; 3, which Cloudflare does not have, for what only a relay has."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "workers-ai-relay:catalogue")
_RECENT = dt.timedelta(days=92)
"""How long after its end a model can still be asked for in the list."""

# Name: Cloudflare's id, where it has been seen, and what the task is.
_TASKS: Mapping[str, tuple[str | None, str]] = {
    "Text Generation": ("c329a1f9-323d-4e91-b2aa-582dd4188d34", "Writes text: answers, code, tool calls."),
    "Text Embeddings": ("0137cdcf-162a-4108-94f2-1ca59e8c65ee", "Turns texts into vectors that can be compared."),
    "Text-to-Image": ("3d6e1f35-341b-4915-a6c8-9a7142a9033a", "Makes an image from a description."),
    "Image-to-Text": ("882a91d1-c331-4eec-bdad-834c919942a8", "Tells what an image shows."),
    "Text Classification": (None, "Scores texts by label or by how well they fit a query."),
    "Automatic Speech Recognition": (None, "Turns speech into text."),
    "Text-to-Speech": (None, "Speaks a text."),
    "Translation": (None, "Translates a text into another language."),
    "Summarization": (None, "Shortens a text to what matters."),
    "Image Classification": (None, "Names what an image shows, with scores."),
    "Object Detection": (None, "Finds and names the objects in an image."),
    "Voice Activity Detection": (None, "Tells whether a speaker has finished."),
}

# Our field: Cloudflare's property. Absent means false or not known.
_FLAGS: Mapping[str, str] = {
    "function_calling": "function_calling",
    "reasoning": "reasoning",
    "vision": "vision",
    "lora": "lora",
    "async_queue": "async_queue",
    "partner": "partner",
    "beta": "beta",
    "realtime": "realtime",
    "requires_paid_plan": "require_workers_paid",
}
_COUNTS = ("context_window", "max_input_tokens", "output_dimensions")


class Search(NamedTuple):
    """What a caller looks for. `task` and `author` are names; `source` as in a row."""

    words: str = ""
    task: str = ""
    author: str = ""
    source: int | None = None
    hide_experimental: bool = False
    include_deprecated: bool = False


def find(catalogue: Catalogue, search: Search) -> list[Model]:
    """The models that fit, in the catalogue's order; ours, which Cloudflare does not have, last."""
    read = _day(catalogue.as_of)
    fitting = [model for model in catalogue if _offered(model, search, read) and _fits(model, search)]
    return sorted(fitting, key=lambda model: source_of(model) == 3)


def source_of(model: Model) -> AccountSource:
    return 1 if model.id.startswith("@cf/") else 2 if model.id.startswith("@hf/") else 3


def _offered(model: Model, search: Search, today: dt.date) -> bool:
    if not model.is_retired:
        return not (search.hide_experimental and model.beta)
    if not search.include_deprecated or model.retired_on is None:
        return False
    return today - _day(model.retired_on) <= _RECENT


def _fits(model: Model, search: Search) -> bool:
    if search.task and search.task.casefold() not in (model.task.casefold(), task_row(model.task)["id"]):
        return False
    if search.author and search.author.casefold() != model.author.casefold():
        return False
    if search.source is not None and search.source != source_of(model):
        return False
    text = f"{model.id} {describe(model)} {model.task}".casefold()
    return all(word in text for word in search.words.casefold().split())


def dump_row(model: Model, as_of: str) -> dict[str, Any]:
    """A row of the list. `as_of`, the day of the reading, stands in for the day on which the model was added."""
    return {
        "id": model.uuid or _made_id("model", model.id),
        "source": source_of(model),
        "name": model.id,
        "description": describe(model),
        "task": task_row(model.task),
        "created_at": _moment(as_of),
        "tags": [],
        "properties": _properties(model),
    }


def describe(model: Model) -> str:
    """What the catalogue knows, as a sentence."""
    by = f" by {model.author}" if model.author else ""
    able = [name.replace("_", " ") for name in ("function_calling", "reasoning", "vision") if getattr(model, name)]
    facts = [f"a context of {model.context_window:,} tokens"] if model.context_window else []
    facts += [f"vectors of {model.output_dimensions} dimensions"] if model.output_dimensions else []
    known = f" with {', '.join([*facts, *able])}" if facts or able else ""
    end = f"; retired on {model.retired_on}" if model.retired_on else ""
    return f"{model.task} model{by}{known}{end}."


def _properties(model: Model) -> list[dict[str, Any]]:
    told: dict[str, Any] = {name: str(count) for name in _COUNTS if (count := getattr(model, name)) is not None}
    told |= {property_id: "true" for field, property_id in _FLAGS.items() if getattr(model, field)}
    if model.retired_on is not None:
        told["planned_deprecation_date"] = model.retired_on
    priced = [price for price in model.price if price.price_usd is not None]
    if priced:
        told["price"] = [{"unit": row.unit, "price": row.price_usd, "currency": "USD"} for row in priced]
    if model.reasoning_efforts:
        told["reasoning_effort"] = {"supported_efforts": list(model.reasoning_efforts)}
    return [{"property_id": property_id, "value": value} for property_id, value in told.items()]


def task_row(name: str) -> dict[str, str]:
    """A task by its name: Cloudflare's id where it is known, else one that is always the same."""
    id, description = _TASKS.get(name, (None, f"{name}."))
    return {"id": id or _made_id("task", name), "name": name, "description": description}


def task_rows(models: Iterable[Model]) -> list[dict[str, str]]:
    """The tasks of these models, each once."""
    return [task_row(name) for name in dict.fromkeys(model.task for model in models)]


def author_rows(models: Iterable[Model]) -> list[dict[str, Any]]:
    """The authors of these models by name, and how many each has. Cloudflare does not say what its rows hold."""
    count: dict[str, int] = {}
    for model in models:
        count[model.author] = count.get(model.author, 0) + 1
    return [{"id": _made_id("author", name), "name": name, "models": count[name]} for name in sorted(count)]


def _made_id(kind: str, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))


def _moment(as_of: str) -> str:
    """In Cloudflare's form: `2025-08-05 10:27:29.131`."""
    return f"{_instant(as_of):%Y-%m-%d %H:%M:%S}.000"


def _day(text: str) -> dt.date:
    return _instant(text).date()


def _instant(text: str) -> dt.datetime:
    try:
        read = dt.datetime.fromisoformat(text)
    except ValueError:  # no day that can be read: long ago
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return read if read.tzinfo else read.replace(tzinfo=dt.UTC)


# `format=openrouter`: chat models alone, prices in US dollars a token, as text.
_TOKEN_PRICES: Mapping[str, str] = {
    "per M input tokens": "prompt",
    "per M output tokens": "completion",
    "per M cached input tokens": "input_cache_read",
}
_PARAMETERS = ("max_tokens", "temperature", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty")


def dump_openrouter_row(model: Model, as_of: str) -> dict[str, Any]:
    """A chat model in OpenRouter's form; what is not known is null, and a price not known is left out."""
    prices = {
        key: _per_token(price.price_usd)
        for price in model.price
        if price.price_usd is not None and (key := _TOKEN_PRICES.get(price.unit))
    }
    tools = ["tools", "tool_choice"] if model.function_calling else []
    reasoning = ["reasoning", "include_reasoning"] if model.reasoning else []
    return {
        "id": model.id,
        "name": model.id,
        "created": int(_instant(as_of).timestamp()),
        "description": describe(model),
        "context_length": model.context_window,
        "architecture": {
            "modality": "text+image->text" if model.vision else "text->text",
            "input_modalities": ["text", "image"] if model.vision else ["text"],
            "output_modalities": ["text"],
        },
        "pricing": prices,
        "top_provider": {"context_length": model.context_window, "max_completion_tokens": model.max_output},
        "supported_parameters": [*_PARAMETERS, "response_format", *tools, *reasoning],
    }


def _per_token(dollars_per_million: float) -> str:
    """Plain digits, as OpenRouter has them: `0.00000035`, never `3.5e-07`."""
    text = f"{Decimal(str(dollars_per_million)) / 10**6:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
