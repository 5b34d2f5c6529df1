"""The bodies of `POST /ai/run/{model}`, save text generation's: bytes to a checked struct.

Sources: Cloudflare's provider packages (cloudflare/ai, 2026-07), which send nova-3 raw bytes with options in the
query, flux-2 a multipart form, and everything else JSON, whatever the content type says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from adapters.errors import InvalidRequest
from adapters.wire.mismatch import refusal
from adapters.wire.native.blob import Blob, read_blob
from adapters.wire.native.forms import Form
from adapters.wire.native.inputs import Inputs
from adapters.wire.native.multipart import fields_of, filename_of, parse_multipart
from adapters.wire.native.rules import check
from adapters.wire.validation import BOM, decode

_OBJECT = msgspec.json.Decoder(dict[str, Any])
_BYTES = ("audio/", "image/", "video/", "application/octet-stream")
_BLANK = b" \t\r\n"
_WITHOUT_EFFECT = ("metadata", "model", "options", "queueRequest", "service_tier", "store", "user")
_SHOWN = 64  # characters of a field's name that an answer repeats
_ONLY_FORMS = "Bad input: Error: required properties at '/' are 'multipart'"
"""Cloudflare's own words to whoever sends JSON (or nothing) to flux-2 (field reports, 2026)."""


class Payload(msgspec.Struct, frozen=True):
    """A body, its content type as the client wrote it, and the other inputs: the query's, or a binding's own.

    `disposition` is the Content-Disposition header of a body of bytes, as the client wrote it.
    """

    body: bytes
    content_type: str = ""
    params: Mapping[str, Any] = {}
    disposition: str = ""


class Reading(msgspec.Struct, frozen=True):
    """What was read: the inputs, and the names of the fields that such a model does not have."""

    inputs: Inputs
    unknown: tuple[str, ...] = ()


def read_inputs(form: Form, payload: Payload) -> Reading:
    """What is in a body: a multipart form, bytes for the field `form.raw`, or JSON.

    `params` count beside a form and beside bytes, where text may stand for numbers; beside JSON they are left alone,
    for Cloudflare's provider puts settings of its own there. A form is all that some models take. Raises
    InvalidRequest naming the field.
    """
    kind = payload.content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        parts = parse_multipart(payload.body, payload.content_type)
        return _struct(form, {**payload.params, **fields_of(parts)}, strict=False)
    if form.raw is not None and payload.body and _is_raw(kind, payload.body):
        blob = Blob.named(payload.body, filename_of(payload.disposition))
        return _struct(form, {**payload.params, form.raw: blob}, strict=False)
    if form.multipart:
        raise InvalidRequest(_ONLY_FORMS, param="multipart", code="missing_required_parameter")
    if not payload.body or payload.body.isspace():
        return _struct(form, {}, strict=True)  # says what is missing
    return _struct(form, decode(payload.body, _OBJECT), strict=True)


def _is_raw(kind: str, body: bytes) -> bool:
    """Whether the body is the image or sound itself; without a word about it, what begins no object is."""
    if kind.startswith(_BYTES):
        return True
    if kind == "application/json" or kind.endswith("+json"):
        return False
    head = body[:64].removeprefix(BOM).lstrip(_BLANK)
    return head != b"" and not head.startswith(b"{")


def _struct(form: Form, fields: Any, *, strict: bool) -> Reading:
    unknown: tuple[str, ...] = ()
    if isinstance(fields, dict):
        optional = _optional(form.inputs)
        fields = {k: _whole(v) for k, v in fields.items() if v is not None or k not in optional}
        known = {*form.inputs.__struct_fields__, *_WITHOUT_EFFECT}
        unknown = tuple(name[:_SHOWN] for name, value in fields.items() if value is not None and name not in known)
    try:
        inputs: Inputs = msgspec.convert(fields, form.inputs, strict=strict, dec_hook=_read)
    except msgspec.ValidationError as exc:
        raise refusal(exc, fields, form.inputs, strict=strict, read=_read, ranges=form.bounds) from None
    check(inputs, form.needs, form.bounds)
    return Reading(inputs, unknown)


def _whole(value: Any) -> Any:
    """`20.0` is an integer to JSON Schema, and to JavaScript there is no other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read(kind: type, value: Any) -> Any:
    """A Blob of its three forms in JSON, or of a form's part."""
    return value if isinstance(value, Blob) else read_blob(value)


@cache
def _optional(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(struct) if not field.required)
