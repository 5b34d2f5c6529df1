"""The bodies of `POST /ai/run/{model}`, save text generation's: bytes to a checked struct.

Sources: Cloudflare's provider packages (cloudflare/ai, 2026-07), which send nova-3 raw bytes with options in the
query, flux-2 a multipart form, and everything else JSON, whatever the content type says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from adapters.errors import InvalidRequest
from adapters.wire.native.blob import Blob, read_blob
from adapters.wire.native.forms import Form
from adapters.wire.native.inputs import Inputs
from adapters.wire.native.multipart import fields_of, parse_multipart
from adapters.wire.native.rules import check
from adapters.wire.validation import BOM, complaint, decode

_OBJECT = msgspec.json.Decoder(dict[str, Any])
_BYTES = ("audio/", "image/", "video/", "application/octet-stream")
_BLANK = b" \t\r\n"


class Payload(msgspec.Struct, frozen=True):
    """A body, its content type as the client wrote it, and the other inputs: the query's, or a binding's own."""

    body: bytes
    content_type: str = ""
    params: Mapping[str, Any] = {}


def parse_inputs(form: Form, payload: Payload) -> Inputs:
    """The inputs in a body: a multipart form, bytes for the field `form.raw`, or JSON.

    `params` count beside a form and beside bytes, where text may stand for numbers; beside JSON they are left alone,
    for Cloudflare's provider puts settings of its own there. Raises InvalidRequest naming the field.
    """
    kind = payload.content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        parts = parse_multipart(payload.body, payload.content_type)
        return _struct(form, {**payload.params, **fields_of(parts)}, strict=False)
    if form.raw is not None and payload.body and _is_raw(kind, payload.body):
        return _struct(form, {**payload.params, form.raw: Blob(payload.body)}, strict=False)
    if not payload.body or payload.body.isspace():
        return inputs_from(form, {})  # says what is missing
    return inputs_from(form, decode(payload.body, _OBJECT))


def inputs_from(form: Form, fields: Any) -> Inputs:
    """The inputs in a value that came out of JSON. Raises InvalidRequest naming the field."""
    return _struct(form, fields, strict=True)


def _is_raw(kind: str, body: bytes) -> bool:
    """Whether the body is the image or sound itself; without a word about it, what begins no object is."""
    if kind.startswith(_BYTES):
        return True
    if kind == "application/json" or kind.endswith("+json"):
        return False
    head = body[:64].removeprefix(BOM).lstrip(_BLANK)
    return head != b"" and not head.startswith(b"{")


def _struct(form: Form, fields: Any, *, strict: bool) -> Inputs:
    if isinstance(fields, dict):
        optional = _optional(form.inputs)
        fields = {k: _whole(v) for k, v in fields.items() if v is not None or k not in optional}
    try:
        inputs: Inputs = msgspec.convert(fields, form.inputs, strict=strict, dec_hook=_read)
    except msgspec.ValidationError as exc:
        raise _refusal(form, exc) from None
    check(inputs, form.needs)
    return inputs


def _whole(value: Any) -> Any:
    """`20.0` is an integer to JSON Schema, and to JavaScript there is no other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read(kind: type, value: Any) -> Any:
    """A Blob of its three forms in JSON, or of a form's part."""
    return value if isinstance(value, Blob) else read_blob(value)


def _refusal(form: Form, exc: msgspec.ValidationError) -> InvalidRequest:
    refusal = complaint(exc)
    if choices := _choices(form.inputs).get(refusal.param or ""):
        message = f"Invalid value for '{refusal.param}': supported values are {choices}."
        return InvalidRequest(message, param=refusal.param)
    return refusal


@cache
def _optional(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(struct) if not field.required)


@cache
def _choices(struct: type[msgspec.Struct]) -> Mapping[str, str]:
    """The words that a field may hold, where it takes nothing else."""
    found = {}
    for name, hint in get_type_hints(struct).items():
        for literal in (hint, *get_args(hint)):
            if get_origin(literal) is Literal:
                words = [f"'{word}'" for word in get_args(literal)]
                found[name] = f"{', '.join(words[:-1])} and {words[-1]}"
    return found
