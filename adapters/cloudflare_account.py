"""What Cloudflare's API says of a token, an account and its models. None of these calls costs anything.

Source of the shapes: Cloudflare's API documentation and SDKs, and field reports, to 2026-10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import msgspec

from adapters.errors import BY_UPSTREAM_CODE, Fault, RelayError
from adapters.http import exchange, read_body
from adapters.wire.json_text import NotJson, loads
from adapters.wire.workers_ai_errors import complaint

_PAGE_SIZE = 100
_MAX_PAGES = 50
_MAX_BODY = 32 * 2**20  # bytes; the whole catalogue is well under one MiB
_NO_MATCH = "no-such-model-5f0c"
"""A search without a hit is answered by an empty list of about 120 bytes: the cheapest call that needs
the AI permission."""


class Access(NamedTuple):
    """How to reach an account: `base_url` is the root of the v4 API, `timeout` is in seconds for one call."""

    transport: httpx.AsyncBaseTransport
    base_url: str
    account_id: str
    api_token: str
    timeout: float = 15.0

    def __repr__(self) -> str:
        return f"Access({self.base_url!r}, {self.account_id!r}, api_token='***')"


class Refused(RelayError):
    """The API answered, and not with success. `upstream_code` is its own number, if it named one."""

    def __init__(self, fault: Fault, message: str, *, http_status: int, upstream_code: int | None) -> None:
        super().__init__(fault, message, upstream_code=upstream_code)
        self.http_status = http_status


class TokenStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`owner` is `user` or `account`, `status` is `active`, `disabled` or `expired`."""

    owner: str
    status: str
    expires_on: str | None = None
    not_before: str | None = None


async def verify_token(access: Access) -> TokenStatus:
    """Ask whether the token is valid. Raises RelayError, and Refused if the API says no.

    A token that belongs to the account is unknown to the user's address (code 1000), so that the
    account's is asked next; where both refuse, the account's answer is the one that is told.
    """
    try:
        return _token_status("user", await _get(access, "/user/tokens/verify"))
    except Refused as exc:
        if exc.fault is not Fault.UPSTREAM_AUTH:
            raise
    return _token_status("account", await _get(access, f"/accounts/{quote(access.account_id)}/tokens/verify"))


async def check_models_permission(access: Access) -> None:
    """Prove that the account exists and that the token may use its AI. Raises RelayError, Refused."""
    await _search(access, {"search": _NO_MATCH})


async def search_models(access: Access) -> list[dict[str, Any]]:
    """Every model of the account, as the API describes each. Raises RelayError, Refused.

    Pages end at an empty one or at one that repeats: the live API has ignored `per_page` and answered
    all at once.
    """
    rows: dict[str, dict[str, Any]] = {}
    for page in range(1, _MAX_PAGES + 1):
        known = len(rows)
        for row in await _search(access, {"per_page": str(_PAGE_SIZE), "page": str(page)}):
            if isinstance(row, dict) and isinstance(name := row.get("name"), str):
                rows.setdefault(name, row)
        if len(rows) == known:
            break
    return list(rows.values())


async def _search(access: Access, query: Mapping[str, str]) -> list[Any]:
    path = f"/accounts/{quote(access.account_id)}/ai/models/search?{urlencode(query)}"
    result = await _get(access, path)
    if not isinstance(result, list):
        raise RelayError(Fault.UPSTREAM_ERROR, "The list of models is not a list.")
    return result


def _token_status(owner: str, result: Any) -> TokenStatus:
    fields = result if isinstance(result, dict) else {}
    texts = {name: fields[name] for name in ("expires_on", "not_before") if isinstance(fields.get(name), str)}
    return TokenStatus(owner=owner, status=str(fields.get("status", "unknown")), **texts)


async def _get(access: Access, path: str) -> Any:
    """The `result` of the v4 envelope. Raises RelayError, Refused."""
    headers = {
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {access.api_token}",
        "user-agent": "workers-ai-relay",
    }
    try:
        async with (
            asyncio.timeout(access.timeout),
            exchange(
                access.transport,
                "GET",
                httpx.URL(access.base_url + path),
                httpx.Headers(headers),
                limits={"connect": access.timeout},
            ) as response,
        ):
            body = await read_body(response, _MAX_BODY)
    except TimeoutError as exc:
        raise RelayError(Fault.UPSTREAM_TIMEOUT, f"No answer within {access.timeout:g} seconds.") from exc
    return _result(access, response.status_code, body)


def _result(access: Access, http_status: int, body: bytes) -> Any:
    try:
        envelope = loads(body)
    except NotJson:
        envelope = None
    if isinstance(envelope, dict):
        if 200 <= http_status < 300 and envelope.get("success") is not False:
            return envelope.get("result")
        code, text = complaint(envelope)
        message = text or "The answer names no error."
    else:
        code, message = None, "The answer is not JSON."
    fault = BY_UPSTREAM_CODE.get(code, Fault.UPSTREAM_ERROR) if code is not None else Fault.UPSTREAM_ERROR
    if code is None and http_status in (401, 403):
        fault = Fault.UPSTREAM_AUTH
    # Nothing that an API echoes may show the token.
    message = "".join(c if c.isprintable() else " " for c in message.replace(access.api_token, "***")[:300])
    raise Refused(fault, message, http_status=http_status, upstream_code=code)
