"""Who the caller is, as wrangler and the SDKs ask before anything else. There is one account, whatever it is called.

Sources: wrangler's whoami and account choice (4.164), Cloudflare's SDKs (2026-08).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from wrangler_compat.envelope import Message, enveloped, page_of

ACCOUNT = "local"
"""Never the id of the account behind the relay: who may use the relay need not know whose it is."""

_SINCE = "2026-01-01T00:00:00Z"
_USER = "00000000000000000000000000000001"
_TOKEN = "00000000000000000000000000000002"
_MEMBERSHIP = "00000000000000000000000000000003"
_VALID = {"code": 10000, "message": "This API Token is valid and active", "type": None}


class Constant:
    """Answers always the same; each time with a response of its own, to whose headers others add."""

    __slots__ = ("_messages", "_result")

    def __init__(self, result: Mapping[str, Any], *messages: Message) -> None:
        self._result = result
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await enveloped(self._result, messages=self._messages)(scope, receive, send)


class OnePage:
    """A list of few rows, by the page: those past the last are empty."""

    __slots__ = ("_rows",)

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await page_of(Request(scope).query_params, size=20).of(self._rows)(scope, receive, send)


class Account:
    """An account by its id, which may be any."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await enveloped(account_row(scope["path_params"]["account"]))(scope, receive, send)


def account_row(id: str) -> dict[str, Any]:
    return {
        "id": id,
        "name": "Workers AI relay",
        "type": "standard",
        "settings": {"enforce_twofactor": False},
        "created_on": _SINCE,
    }


def identity_endpoints() -> dict[str, ASGIApp]:
    """What each path below `/client/v4` does; every caller that comes here holds a token of the relay's."""
    user = {"id": _USER, "email": "relay@localhost", "first_name": None, "last_name": None, "created_on": _SINCE}
    account = account_row(ACCOUNT)
    membership = {
        "id": _MEMBERSHIP,
        "status": "accepted",
        "roles": ["Administrator"],
        "account": {"id": account["id"], "name": account["name"]},
    }
    verified = Constant({"id": _TOKEN, "status": "active"}, _VALID)
    return {
        "/user": Constant(user),
        "/user/tokens/verify": verified,
        "/accounts": OnePage([account]),
        "/accounts/{account}": Account(),
        "/accounts/{account}/tokens/verify": verified,
        "/memberships": OnePage([membership]),
    }
