"""The OpenAPI document of Cloudflare's surfaces, made from the catalogue and the types that check requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from adapters.catalogue import Catalogue, Model
from adapters.wire.json_text import encode
from adapters.wire.native.forms import form_of
from adapters.wire.native.schemas import BLOB, schema_of
from adapters.wire.openai_embeddings import EmbeddingBody
from adapters.wire.openai_responses_types import ResponsesBody
from adapters.wire.openai_types import ChatBody
from wrangler_compat.finetune_routes import NewFinetune
from wrangler_compat.finetunes import FILES, Finetune
from wrangler_compat.markdown.options import Options
from wrangler_compat.openapi_parts import (
    ANY_OBJECT,
    FORM,
    JSON,
    SCRIPT,
    STREAM,
    Operation,
    Parameter,
    Schema,
    document,
    reference,
    types_of,
)

_V4 = "/client/v4"
_AI = f"{_V4}/accounts/{{account}}/ai"
_GATEWAY = "/v1/{account}/{gateway}"
_ANYTHING = "application/octet-stream"
_FILE: dict[str, Any] = {"contentMediaType": _ANYTHING}

_FLAG: Schema = {"type": "boolean"}
_WHOLE: Schema = {"type": "integer", "minimum": 1, "maximum": 1000}
_PAGED = (
    Parameter("page", "Counted from 1; past the last page the result is empty.", {"type": "integer", "minimum": 1}),
    Parameter("per_page", "Rows of a page.", _WHOLE),
)
_SEARCH = (
    Parameter("search", "Words that have to be in name, description or task."),
    Parameter("task", "A task's name."),
    Parameter("author", "An author's name."),
    Parameter("source", "1 for @cf, 2 for @hf.", {"type": "integer", "minimum": 0}),
    Parameter("hide_experimental", "Without what is being tried.", _FLAG),
    Parameter("include_deprecated", "With what ended in the last three months.", _FLAG),
    Parameter("format", "OpenRouter's form of the rows.", {"type": "string", "enum": ["openrouter"]}),
)
_QUEUE = Parameter("queueRequest", "Take the body as a batch, or as the question after one.", _FLAG)
_WINDOW = (
    Parameter("limit", "Rows.", _WHOLE),
    Parameter("offset", "Rows before the first.", {"type": "integer", "minimum": 0}),
    Parameter("orderBy", "A field of the rows."),
)
_INNER = "The inner address: a route, never fetched."
_INNER_ADDRESS: Schema = {"type": "string", "pattern": r"^https://workers-binding\.ai/"}
_BATCH: Schema = {
    "title": "A batch, or the question after one.",
    "oneOf": [
        {
            "type": "object",
            "required": ["requests"],
            "properties": {"requests": {"type": "array", "items": ANY_OBJECT}},
        },
        {"type": "object", "required": ["request_id"], "properties": {"request_id": {"type": "string"}}},
    ],
}
_COMPLAINTS: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
    },
}


def _failed(key: str) -> Schema:
    return {
        "type": "object",
        "required": ["success", key],
        "properties": {"success": {"const": False}, key: _COMPLAINTS},
    }


_ERROR: Schema = {
    "description": "The API says `errors`, AI Gateway `error`; below /v1 what is no gateway's is told as OpenAI does.",
    "anyOf": [
        _failed("errors"),
        _failed("error"),
        {"type": "object", "required": ["error"], "properties": {"error": {"type": "object", "required": ["message"]}}},
    ],
}


def describe_cloudflare(catalogue: Catalogue, *, version: str, root_path: str = "") -> dict[str, Any]:
    """The document as of this catalogue: a model that can be used has a path of its own, with its schemas."""
    _, schemas = types_of(ChatBody, EmbeddingBody, ResponsesBody, NewFinetune, Finetune, Options)
    models = _Models()
    operations = [
        *models.operations(catalogue),
        *_inference(),
        *_openai(),
        *_catalogue(),
        *_finetunes(),
        *_conversion(),
        *_identity(),
        *_bindings(),
        *_gateways(),
    ]
    return document(
        title="Workers AI, as this relay emulates it",
        version=version,
        description="Cloudflare's REST API for Workers AI, the forms of its AI Gateway and of the binding of Workers.",
        operations=operations,
        schemas={**schemas, **models.schemas},
        error=_ERROR,
        root_path=root_path,
    )


class _Models:
    """Operations of single models, and the schemas that they share."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._names: dict[bytes, str] = {}

    def operations(self, catalogue: Catalogue) -> Iterator[Operation]:
        for model in catalogue:
            if model.id.startswith("@") and not model.is_retired:
                yield self._operation(model)

    def _operation(self, model: Model) -> Operation:
        parts = _schemas(model.native_result, model.task, model.input_kinds)
        base = _camel(model.native_result or model.task)
        form = None if model.is_chat else form_of(model.native_result, model.task, model.input_kinds)
        in_form = form is not None and form.multipart
        given = self._shared(f"{base}Inputs", _with_files(parts["input"]) if in_form else parts["input"])
        body = {FORM if in_form else JSON: given}
        if form is not None and form.raw is not None:
            body[_ANYTHING] = {}
        if form is not None and form.media_types:
            # An encoding that the caller asked for, or the simulator's own, is of the same kind.
            answer: dict[str, Schema] = {f"{media_type.partition('/')[0]}/*": {} for media_type in form.media_types}
        else:
            answer = {JSON: _enveloped(self._shared(f"{base}Result", parts["output"]))}
        if model.is_chat or model.streaming:
            answer[STREAM] = {}
        return Operation(
            method="POST",
            path=f"{_AI}/run/{model.id}",
            summary=f"{model.task}: {model.id}",
            tag=model.task,
            body=body,
            answer=answer,
        )

    def _shared(self, name: str, schema: Schema) -> Schema:
        """The schema under a name, which equal ones share."""
        plain = {key: value for key, value in schema.items() if key != "$schema"}
        text = encode(plain)
        if text not in self._names:
            taken = sum(known.rstrip("0123456789") == name for known in self.schemas)
            self._names[text] = unique = f"{name}{taken + 1}" if taken else name
            self.schemas[unique] = plain
        return reference(self._names[text])


def _with_files(schema: Schema) -> Schema:
    """The fields of a form: what is base64 or a list of bytes in JSON is a file there."""
    fields = {
        name: _FILE if BLOB in field.get("anyOf", (field,)) else field for name, field in schema["properties"].items()
    }
    return {**schema, "properties": fields}


@cache
def _schemas(native_result: str | None, task: str, input_kinds: tuple[str, ...]) -> dict[str, Schema]:
    """Made once: it takes some twenty milliseconds."""
    return schema_of(native_result, task, input_kinds)


def _camel(name: str) -> str:
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", name))


def _enveloped(result: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["result", "success", "errors", "messages"],
        "properties": {
            "result": result,
            "success": {"const": True},
            "errors": {"type": "array"},
            "messages": {"type": "array"},
        },
    }


def _list_of(item: Schema) -> dict[str, Schema]:
    return {JSON: _enveloped({"type": "array", "items": item})}


def _inference() -> Iterator[Operation]:
    tag = "Any model"
    yield Operation(
        method="POST",
        path=f"{_AI}/run/{{model}}",
        summary="Run a model",
        tag=tag,
        body={JSON: {"anyOf": [_BATCH, ANY_OBJECT]}, _ANYTHING: {}, FORM: ANY_OBJECT},
        answer={JSON: _enveloped({}), STREAM: {}, "image/*": {}, "audio/*": {}},
        parameters=(_QUEUE, SCRIPT),
    )
    yield Operation(
        method="POST",
        path=f"{_AI}/run",
        summary="Run the model that the body names",
        tag=tag,
        body={
            JSON: {
                "type": "object",
                "required": ["model", "input"],
                "properties": {"model": {"type": "string"}, "input": ANY_OBJECT},
            }
        },
        answer={JSON: _enveloped({}), STREAM: {}, "image/*": {}, "audio/*": {}},
        parameters=(_QUEUE, SCRIPT),
    )


_FORMS = {
    "chat/completions": ("Chat completions", "ChatBody", {JSON: ANY_OBJECT, STREAM: {}}),
    "embeddings": ("Embeddings", "EmbeddingBody", {JSON: ANY_OBJECT}),
    "responses": ("Responses, for the GPT-OSS models and without streaming", "ResponsesBody", {JSON: ANY_OBJECT}),
}


def _openai() -> Iterator[Operation]:
    tag = "OpenAI's forms"
    for path, (summary, body, answer) in _FORMS.items():
        yield Operation(
            method="POST",
            path=f"{_AI}/v1/{path}",
            summary=summary,
            tag=tag,
            body={JSON: reference(body)},
            answer=answer,
            parameters=(SCRIPT,),
        )
    yield Operation(
        method="POST",
        path=f"{_AI}/v1/messages",
        summary="Anthropic's form, which no model of Workers AI takes (5007)",
        tag=tag,
        body={JSON: {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}},
    )


def _catalogue() -> Iterator[Operation]:
    def look(path: str, summary: str, answer: dict[str, Schema], *parameters: Parameter) -> Operation:
        return Operation(
            method="GET", path=_AI + path, summary=summary, tag="Catalogue", answer=answer, parameters=parameters
        )

    any_form: dict[str, Schema] = {JSON: {"anyOf": [*_list_of(ANY_OBJECT).values(), ANY_OBJECT]}}
    yield look("/models/search", "Models", any_form, *_SEARCH, *_PAGED)
    schemas = {JSON: _enveloped({"type": "object", "properties": {"input": ANY_OBJECT, "output": ANY_OBJECT}})}
    yield look("/models/schema", "What a model takes and gives", schemas, Parameter("model", "Its id.", required=True))
    yield look("/tasks/search", "Tasks", _list_of(ANY_OBJECT), *_PAGED)
    yield look("/authors/search", "Authors", _list_of(ANY_OBJECT), *_PAGED)


def _finetunes() -> Iterator[Operation]:
    tag, row = "Finetunes", reference("Finetune")
    yield Operation(
        method="GET",
        path=f"{_AI}/finetunes",
        summary="LoRA adapters",
        tag=tag,
        answer=_list_of(row),
        parameters=_PAGED,
    )
    yield Operation(
        method="POST",
        path=f"{_AI}/finetunes",
        summary="Make one, to be filled",
        tag=tag,
        body={JSON: reference("NewFinetune")},
        answer={JSON: _enveloped(row)},
    )
    yield Operation(
        method="GET",
        path=f"{_AI}/finetunes/public",
        summary="Those that are public",
        tag=tag,
        answer=_list_of(row),
        parameters=(*_WINDOW, *_PAGED),
    )
    yield Operation(
        method="DELETE",
        path=f"{_AI}/finetunes/{{finetune}}",
        summary="Remove one, files and all",
        tag=tag,
        answer={JSON: _enveloped(ANY_OBJECT)},
    )
    form: Schema = {
        "type": "object",
        "required": ["file_name", "file"],
        "properties": {"file_name": {"type": "string", "enum": list(FILES)}, "file": _FILE},
    }
    for slash in ("", "/"):
        yield Operation(
            method="POST",
            path=f"{_AI}/finetunes/{{finetune}}/finetune-assets{slash}",
            summary="Fill one: a file of the adapter",
            tag=tag,
            body={FORM: form},
            answer={JSON: _enveloped(ANY_OBJECT)},
        )


def _conversion() -> Iterator[Operation]:
    form: Schema = {
        "type": "object",
        "required": ["files"],
        "properties": {
            "files": {"type": "array", "minItems": 1, "items": _FILE},
            "conversionOptions": {"type": "string", "contentMediaType": JSON, "contentSchema": reference("Options")},
        },
    }
    row: Schema = {
        "type": "object",
        "required": ["id", "name", "mimeType", "format"],
        "properties": {
            "id": {"type": "string"},
            "name": {"type": "string"},
            "mimeType": {"type": "string"},
            "format": {"enum": ["markdown", "text", "error"]},
            "tokens": {"type": "integer"},
            "data": {"type": "string"},
            "error": {"type": "string"},
        },
    }
    tag = "Markdown"
    yield Operation(
        method="POST",
        path=f"{_AI}/tomarkdown",
        summary="Documents to Markdown: one row a file, whatever becomes of the others",
        tag=tag,
        body={FORM: form},
        answer=_list_of(row),
    )
    yield Operation(
        method="GET",
        path=f"{_AI}/tomarkdown/supported",
        summary="What can be converted",
        tag=tag,
        answer=_list_of(ANY_OBJECT),
    )


_WHO = {
    "/user": "Who one is",
    "/user/tokens/verify": "Whether one's token is valid",
    "/accounts/{account}": "An account",
    "/accounts/{account}/tokens/verify": "Whether one's token is valid, for tokens of accounts",
}


def _identity() -> Iterator[Operation]:
    tag = "Identity"
    for path, summary in _WHO.items():
        answer = {JSON: _enveloped(ANY_OBJECT)}
        yield Operation(method="GET", path=_V4 + path, summary=summary, tag=tag, answer=answer)
    for path, summary in {"/accounts": "Accounts", "/memberships": "Memberships"}.items():
        answer = _list_of(ANY_OBJECT)
        yield Operation(method="GET", path=_V4 + path, summary=summary, tag=tag, answer=answer, parameters=_PAGED)


def _bindings() -> Iterator[Operation]:
    """What `env.AI` sends, whichever way it comes."""
    ways = {
        f"{_AI}/run/proxy": Parameter("X-Forwarded", _INNER, _INNER_ADDRESS, place="header", required=True),
        "/remote-bindings/{key}": Parameter("MF-URL", _INNER, _INNER_ADDRESS, place="header", required=True),
    }
    model = {"/run/proxy": "cf-consn-model-id", "/remote-bindings/{key}": "MF-Header-cf-consn-model-id"}
    for path, inner in ways.items():
        header = next(name for end, name in model.items() if path.endswith(end))
        named = Parameter(header, "The model of a run.", place="header")
        for method in ("GET", "POST", "PATCH"):
            yield Operation(
                method=method,
                path=path,
                summary="A call of the binding of a Worker",
                tag="Binding",
                body={JSON: {"properties": {"inputs": {}, "options": ANY_OBJECT}}} if method != "GET" else None,
                answer={"*/*": {}},
                parameters=(inner, named),
                public=path.endswith("{key}"),  # the key is in the path
            )


def _gateways() -> Iterator[Operation]:
    tag = "AI Gateway"
    chat: dict[str, Schema] = {JSON: ANY_OBJECT, STREAM: {}}
    for path, (summary, body, answer) in _FORMS.items():
        if path != "responses":
            whole = f"{_GATEWAY}/workers-ai/v1/{path}"
            yield Operation(
                method="POST", path=whole, summary=summary, tag=tag, body={JSON: reference(body)}, answer=answer
            )
    yield Operation(
        method="POST",
        path=f"{_GATEWAY}/compat/chat/completions",
        summary="Chat completions, the model as workers-ai/@cf/...",
        tag=tag,
        body={JSON: reference("ChatBody")},
        answer=chat,
    )
    yield Operation(method="GET", path=f"{_GATEWAY}/compat/models", summary="Models", tag=tag)
    yield Operation(
        method="POST",
        path=f"{_GATEWAY}/workers-ai/{{model}}",
        summary="Run a model",
        tag=tag,
        body={JSON: ANY_OBJECT, _ANYTHING: {}, FORM: ANY_OBJECT},
        answer={"*/*": {}},
    )
    step: Schema = {
        "type": "object",
        "required": ["provider", "endpoint", "query"],
        "properties": {
            "provider": {"type": "string"},
            "endpoint": {"type": "string"},
            "headers": ANY_OBJECT,
            "query": ANY_OBJECT,
        },
    }
    for slash in ("", "/"):
        yield Operation(
            method="POST",
            path=_GATEWAY + slash,
            summary="Calls that are tried in order",
            tag=tag,
            body={JSON: {"type": "array", "minItems": 1, "items": step}},
            answer={"*/*": {}},
        )
