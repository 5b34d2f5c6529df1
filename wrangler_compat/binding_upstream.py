"""The binding in front of the real Cloudflare: an inner request in the API's form, its answer in the binding's."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from adapters.errors import InvalidRequest
from adapters.wire.json_text import NotJson, encode, loads
from adapters.wire.native.blob import read_blob
from adapters.wire.validation import decode
from adapters.wire.workers_ai_errors import complaint
from wrangler_compat.answers import JSON, Header, Inferred, Through
from wrangler_compat.binding_inputs import Run, is_json, named_gateway
from wrangler_compat.problems import BINDING
from wrangler_compat.seams import Forwarded, Headers

# Options of a gateway, and the header that says the same to the API.
_GATEWAY: Mapping[str, str] = {
    "id": "cf-aig-gateway-id",
    "cacheKey": "cf-aig-cache-key",
    "cacheTtl": "cf-aig-cache-ttl",
    "skipCache": "cf-aig-skip-cache",
    "metadata": "cf-aig-metadata",
    "collectLog": "cf-aig-collect-log",
    "eventId": "cf-aig-event-id",
    "requestTimeoutMs": "cf-aig-request-timeout",
}
_RETRIES: Mapping[str, str] = {
    "maxAttempts": "cf-aig-max-attempts",
    "retryDelayMs": "cf-aig-retry-delay",
    "backoff": "cf-aig-backoff",
}
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LARGEST = 4096  # characters of a header's value


def headers_for_rest(run: Run, inner: Mapping[str, str]) -> list[Header]:
    """The inner request's headers as the API takes them: the body's own type, the gateway that the options name."""
    told = {name: value for name, value in inner.items() if name != "content-type" and not name.startswith("cf-consn-")}
    told |= _of_gateway(run.gateway)
    told["content-type"] = run.payload.content_type
    return _headers(told)


def _of_gateway(gateway: Mapping[str, Any] | None) -> dict[str, str]:
    """What the options of a gateway say, as headers."""
    options = gateway or {}
    retries = options.get("retries")
    told: dict[str, str] = {}
    for given, names in ((options, _GATEWAY), (retries if isinstance(retries, dict) else {}, _RETRIES)):
        told |= {header: _text(given[name]) for name, header in names.items() if given.get(name) is not None}
    return told


def _headers(told: Mapping[str, str]) -> list[Header]:
    pairs = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in told.items()]
    return [(name, value) for name, value in pairs if _plain(value)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _plain(value: bytes) -> bool:
    """Whether a header can carry it."""
    return len(value) <= _LARGEST and not any(byte < 0x20 or byte == 0x7F for byte in value)


def query_for_rest(run: Run) -> bytes:
    """A batch is asked for in the query, and the binding asks for its answers with nothing but `request_id`."""
    if not (run.queued or _polls(run.payload.body)):
        return run.query
    return b"&".join(filter(None, (run.query, b"queueRequest=true")))


def _polls(body: bytes) -> bool:
    try:
        return decode(body, _OBJECT).keys() == {"request_id"} if b'"request_id"' in body else False
    except InvalidRequest:
        return False


class Passing(msgspec.Struct):
    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


def unwrapped(answer: Inferred) -> Inferred:
    """An answer of Cloudflare's API in the binding's form: no envelope, errors in both shapes."""
    return Through(_unwrapped(answer.upstream)) if isinstance(answer, Through) else answer


@asynccontextmanager
async def _unwrapped(upstream: AbstractAsyncContextManager[Forwarded]) -> AsyncIterator[Forwarded]:
    async with upstream as answer:
        media_type = next((value for name, value in answer.headers if name == b"content-type"), b"")
        if not is_json(media_type.decode("latin-1")) and answer.status < 400:
            yield answer
            return
        body = b"".join([chunk async for chunk in answer.chunks])
        status, body = _bare(answer.status, body)
        headers = [(name, value) for name, value in answer.headers if name not in (b"content-type", b"content-length")]
        length = str(len(body)).encode()
        yield Passing(status, [*headers, (b"content-type", JSON), (b"content-length", length)], _once(body))


class _Envelope(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"null")
    success: Any = True


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def _bare(status: int, body: bytes) -> tuple[int, bytes]:
    try:
        if status < 400 and (envelope := _ENVELOPE.decode(body)).success is not False:
            return status, bytes(envelope.result)
        code, text = complaint(loads(body))
    except (msgspec.DecodeError, NotJson, RecursionError):
        code, text = None, ""
    if status < 400:
        status = 500
    message = text or "AiError: Workers AI failed to answer."
    return status, BINDING.of_upstream(status, code or 3043, message).body()


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


class _File(msgspec.Struct):
    name: str
    data: Any
    mimeType: str = "application/octet-stream"


class _Options(msgspec.Struct):
    conversionOptions: msgspec.Raw = msgspec.Raw(b"{}")
    gateway: Any = None


class _Files(msgspec.Struct):
    files: list[_File]
    options: _Options | None = None


_FILES = msgspec.json.Decoder(_Files)


def as_form(body: bytes) -> tuple[list[Header], bytes]:
    """The binding's files for `toMarkdown` as the form that the API takes, and its headers: its type, the gateway.

    Raises InvalidRequest naming the field.
    """
    wanted = decode(body, _FILES)
    boundary = secrets.token_hex(16)
    options = wanted.options or _Options()
    parts = [_part(boundary, b'name="conversionOptions"', bytes(options.conversionOptions))]
    for index, file in enumerate(wanted.files):
        try:
            data = read_blob(file.data)
        except ValueError as exc:
            at = f"files[{index}].data"
            raise InvalidRequest(f"Invalid '{at}': {exc}.", param=at) from None
        name = b'name="files"; filename="%b"' % _quoted(file.name)
        parts.append(_part(boundary, name + b"\r\ncontent-type: " + _quoted(file.mimeType), data))
    told = _of_gateway(named_gateway(options.gateway))
    told["content-type"] = f"multipart/form-data; boundary={boundary}"
    return _headers(told), b"".join(parts) + f"--{boundary}--\r\n".encode()


def _part(boundary: str, disposition: bytes, data: bytes) -> bytes:
    return b"--%b\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (boundary.encode(), disposition, data)


def _quoted(text: str) -> bytes:
    """As browsers write it into a form: nothing ends the header or the quotes."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").encode(errors="replace")
