"""What OpenAPI documents are made of: operations as data, and the types that check requests as their schemas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from adapters.wire.openai_request import RANGES, WHOLE_RANGES
from adapters.wire.openai_types import ChatBody

Schema = dict[str, Any]

JSON = "application/json"
STREAM = "text/event-stream"
FORM = "multipart/form-data"
ANY_OBJECT: Schema = {"type": "object"}

_REF = "#/components/schemas/{name}"


class Parameter(msgspec.Struct, frozen=True):
    """`place` is `query` or `header`; those of the path are read from it."""

    name: str
    description: str
    schema: Schema = msgspec.field(default_factory=lambda: {"type": "string"})
    place: str = "query"
    required: bool = False


SCRIPT = Parameter(
    "x-relay-script", "What the simulator shall do: an answer, an error, a delay, a cut.", place="header"
)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of a path. `body` and `answer` map media types to schemas; no answer is a JSON object of any form.

    `segments` are parameters of the path that may hold slashes, and what to say of them.
    """

    method: str
    path: str
    summary: str
    tag: str
    body: Mapping[str, Schema] | None = None
    body_required: bool = True
    answer: Mapping[str, Schema] = msgspec.field(default_factory=lambda: {JSON: ANY_OBJECT})
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    public: bool = False


def types_of(*types: type) -> tuple[dict[type, Schema], dict[str, Schema]]:
    """References to the schemas of types, `ChatBody` among them, and the schemas themselves with all that they need."""
    references, schemas = msgspec.json.schema_components(types, schema_hook=lambda kind: {}, ref_template=_REF)
    _narrow(schemas[ChatBody.__name__]["properties"])
    return dict(zip(types, references, strict=True)), schemas


def _narrow(properties: dict[str, Schema]) -> None:
    """The ranges of a chat's numbers, which are checked apart from their types."""
    for kind, ranges in (("number", RANGES), ("integer", WHOLE_RANGES)):
        for name, (low, high) in ranges.items():
            properties[name]["anyOf"] = [{"type": kind, "minimum": low, "maximum": high}, {"type": "null"}]


def reference(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


def document(
    *,
    title: str,
    version: str,
    description: str,
    operations: Iterable[Operation],
    schemas: Mapping[str, Schema],
    error: Schema,
    root_path: str = "",
) -> dict[str, Any]:
    """An OpenAPI 3.1 document. `error` is what every failure looks like; `root_path` is in front of all paths."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _dump(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": root_path or "/"}],
        "security": [{scheme: []} for scheme in _SECURITY],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": error},
            "responses": {
                "Error": {"description": "What went wrong.", "content": {JSON: {"schema": reference("Error")}}}
            },
            "securitySchemes": _SECURITY,
        },
    }


_SECURITY: Mapping[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "authKey": {"type": "apiKey", "in": "header", "name": "X-Auth-Key"},
}


def _dump(operation: Operation) -> dict[str, Any]:
    dumped: dict[str, Any] = {
        "operationId": _id_of(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            str(operation.status): {"description": "Done.", "content": _content(operation.answer)},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if parameters := [*_of_path(operation.path), *map(_parameter, operation.parameters)]:
        dumped["parameters"] = parameters
    if operation.body is not None:
        dumped["requestBody"] = {"required": operation.body_required, "content": _content(operation.body)}
    if operation.public:
        dumped["security"] = []
    return dumped


def _content(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {media_type: {"schema": schema} if schema else {} for media_type, schema in schemas.items()}


def _id_of(operation: Operation) -> str:
    words = re.findall(r"[A-Za-z0-9]+", operation.path.removeprefix("/client/v4/accounts/{account}"))
    slash = "Slash" if operation.path.endswith("/") else ""
    return operation.method.lower() + "".join(word[0].upper() + word[1:] for word in words) + slash


_NAMED = {
    "account": "Any account id: there is one account, whatever it is called.",
    "model": "A model's id; its slashes raw or as %2F.",
}


def _of_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        | ({"description": _NAMED[name]} if name in _NAMED else {})
        for name in re.findall(r"{(\w+)}", path)
    ]


def _path_schema(name: str) -> Schema:
    return (
        {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"} if name == "account" else {"type": "string", "minLength": 1}
    )


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }
