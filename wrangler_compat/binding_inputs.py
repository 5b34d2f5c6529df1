"""What a `run` of the binding holds: the model, its inputs, its options. Sources as in `binding`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import msgspec
from starlette.datastructures import QueryParams

from adapters.errors import InvalidRequest
from adapters.wire.json_text import NotJson, encode, loads
from adapters.wire.native.payload import Payload
from adapters.wire.validation import decode

HOST = "workers-binding.ai"
_SHOWN = 100  # characters of a header that an error repeats
Raws = dict[str, msgspec.Raw]
_FIELDS = msgspec.json.Decoder(Raws)


class _Run(msgspec.Struct):
    inputs: msgspec.Raw
    options: dict[str, Any] | None = None


_RUN = msgspec.json.Decoder(_Run)


class Run(msgspec.Struct, frozen=True):
    """`query` is what the API takes beside a body of bytes, for it has no other place for the rest."""

    payload: Payload
    options: Mapping[str, Any]
    query: bytes = b""

    @property
    def queued(self) -> bool:
        return self.options.get("queueRequest") in (True, "true")

    @property
    def gateway(self) -> Mapping[str, Any] | None:
        """The options of the gateway that the run names, if it does."""
        return named_gateway(self.options.get("gateway"))


def named_gateway(option: Any) -> Mapping[str, Any] | None:
    """The option `gateway`, if it names one."""
    return option if isinstance(option, dict) and isinstance(option.get("id"), str) else None


def read_url(text: str, header: str) -> SplitResult:
    """The inner URL, which is a name for a route and is never fetched.

    Raises InvalidRequest naming the header and what is wrong with it.
    """
    try:
        url = urlsplit(text)
        host = url.hostname
    except ValueError:
        raise _bad_address(header, "it is no address") from None
    if url.scheme != "https":
        raise _bad_address(header, f"its scheme is {_quoted(url.scheme)}" if url.scheme else "it has no scheme")
    if host != HOST:
        raise _bad_address(header, f"its host is {_quoted(host)}" if host else "it has no host")
    return url


def _bad_address(header: str, reason: str) -> InvalidRequest:
    message = f"Invalid header '{header}': expected an address at https://{HOST}, but {reason}."
    return InvalidRequest(message, param=header)


def _quoted(text: str) -> str:
    return repr(text[:_SHOWN])


def model_of(headers: Mapping[str, str]) -> str:
    """The model's header, without the caller's prefix. Raises InvalidRequest."""
    name = headers.get("cf-consn-model-id", "").strip()
    if not name:
        raise InvalidRequest("Missing header 'cf-consn-model-id'.", param="cf-consn-model-id")
    _, colon, rest = name.partition(":@")
    return f"@{rest}" if colon else name


def read_run(query: QueryParams, headers: Mapping[str, str], body: bytes) -> Run:
    """A run's request. Raises InvalidRequest naming the field.

    Where an input is a stream, it is the body; the others and the options come in the query, options as text: what was
    an object there says `[object Object]`, and nothing else. A caller's `extraHeaders` may name the stream's file.
    """
    content_type = headers.get("content-type", "")
    if "userInputs" not in query and is_json(content_type):
        run = decode(body, _RUN)
        options = run.options or {}
        return Run(Payload(_with_options(bytes(run.inputs), options), "application/json"), options)
    options = {name: value for name, value in query.items() if value != "[object Object]"}
    others = decode((query.get("userInputs") or "{}").encode(errors="replace"), _FIELDS)
    params = {name: _value(name, bytes(raw)) for name, raw in others.items()}
    payload = Payload(body, content_type, params, headers.get("content-disposition", ""))
    return Run(payload, options, _as_query(others))


def _value(name: str, raw: bytes) -> Any:
    """Raises InvalidRequest for what is JSON and no value: a number out of any range."""
    try:
        return loads(raw)
    except NotJson as exc:
        at = f"userInputs.{name[:_SHOWN]}"
        raise InvalidRequest(f"Invalid '{at}': {exc}.", param=at) from None


def is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in ("", "application/json")


def _with_options(inputs: bytes, options: Mapping[str, Any]) -> bytes:
    """The inputs with those options that the API takes inside of them."""
    if options.get("rejectIfBusy") is not True:
        return inputs
    try:
        fields = decode(inputs, _FIELDS)
    except InvalidRequest:
        return inputs  # whoever reads it for the model says what is wrong
    return encode({**fields, "options": {"rejectIfBusy": True}})


def _as_query(fields: Raws) -> bytes:
    """Text as it is, all else as JSON."""
    texts = {name: bytes(raw).decode() for name, raw in fields.items()}
    texts = {name: loads(text.encode()) if text.startswith('"') else text for name, text in texts.items()}
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in texts.items()).encode()
