"""`adapters.cloudflare_account`: the calls that cost nothing, and every way in which they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from adapters.cloudflare_account import (
    Access,
    Refused,
    TokenStatus,
    check_models_permission,
    search_models,
    verify_token,
)
from adapters.errors import Fault, RelayError

pytestmark = pytest.mark.anyio

BASE = "https://api.example/client/v4"
TOKEN = "cfut_0123456789"
Respond = Callable[[httpx.Request], httpx.Response]


def access(respond: Respond) -> Access:
    return Access(httpx.MockTransport(respond), BASE, "acc", TOKEN)


def envelope(result: Any, status: int = 200, code: object = None, message: str = "no") -> httpx.Response:
    errors = [] if code is None else [{"code": code, "message": message}]
    return httpx.Response(status, json={"result": result, "success": code is None, "errors": errors, "messages": []})


ACTIVE = {"id": "x", "status": "active", "expires_on": "2027-01-01T00:00:00Z"}


async def test_a_users_token_is_verified_at_the_users_address() -> None:
    asked: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return envelope(ACTIVE)

    status = await verify_token(access(respond))
    assert status == TokenStatus(owner="user", status="active", expires_on="2027-01-01T00:00:00Z")
    assert [str(request.url) for request in asked] == [f"{BASE}/user/tokens/verify"]
    assert asked[0].headers["authorization"] == f"Bearer {TOKEN}"


async def test_an_accounts_token_is_verified_at_the_accounts_address() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/user/tokens/verify"):
            return envelope(None, 401, 1000, "Invalid API Token")
        assert request.url.path == "/client/v4/accounts/acc/tokens/verify"
        return envelope(ACTIVE)

    assert (await verify_token(access(respond))).owner == "account"


REFUSALS: dict[str, tuple[httpx.Response, Fault, int | None]] = {
    "bad token": (envelope(None, 401, 10000), Fault.UPSTREAM_AUTH, 10000),
    "code as text": (envelope(None, 403, "10000"), Fault.UPSTREAM_AUTH, 10000),
    "malformed token": (envelope(None, 400, 9106), Fault.UPSTREAM_AUTH, 9106),
    "malformed account": (envelope(None, 404, 7003), Fault.UPSTREAM_MISCONFIGURED, 7003),
    "failure under status 200": (envelope(None, 200, 7003), Fault.UPSTREAM_MISCONFIGURED, 7003),
    "unknown code": (envelope(None, 500, 424242), Fault.UPSTREAM_ERROR, 424242),
    "a gateway's form": (
        httpx.Response(401, json={"error": [{"code": 2009, "message": "x"}]}),
        Fault.UPSTREAM_AUTH,
        2009,
    ),
    "a bare text": (httpx.Response(404, json={"success": False, "error": "gone"}), Fault.UPSTREAM_ERROR, None),
    "a firewall's page": (httpx.Response(403, html="<html>"), Fault.UPSTREAM_AUTH, None),
    "bytes that are no UTF-8": (httpx.Response(500, content=b'{"success":"\xff"}'), Fault.UPSTREAM_ERROR, None),
    "no UTF-8, under status 200": (httpx.Response(200, content=b'{"result":"\xff"}'), Fault.UPSTREAM_ERROR, None),
    "nesting without end": (httpx.Response(401, content=b"[" * 100_000), Fault.UPSTREAM_AUTH, None),
    "a code of many digits": (envelope(None, 500, "9" * 5000), Fault.UPSTREAM_ERROR, None),
    "a code of odd digits": (envelope(None, 500, "\u00b2"), Fault.UPSTREAM_ERROR, None),
    "no reason at all": (httpx.Response(401, json={"success": False}), Fault.UPSTREAM_AUTH, None),
}


@pytest.mark.parametrize(("response", "fault", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_keeps_status_and_code(response: httpx.Response, fault: Fault, code: int | None) -> None:
    with pytest.raises(Refused) as caught:
        await check_models_permission(access(lambda _: response))
    assert (caught.value.fault, caught.value.upstream_code) == (fault, code)
    assert caught.value.http_status == response.status_code


async def test_a_refusal_never_repeats_the_token_and_never_writes_controls() -> None:
    response = envelope(None, 401, 10000, f"bad {TOKEN}\x1b[2J")
    with pytest.raises(Refused) as caught:
        await check_models_permission(access(lambda _: response))
    assert caught.value.message == "bad *** [2J"
    assert TOKEN not in repr(access(lambda _: response))


FAILURES: dict[str, tuple[httpx.HTTPError, Fault]] = {
    "no connection": (httpx.ConnectError("x"), Fault.UPSTREAM_UNREACHABLE),
    "no answer": (httpx.ReadTimeout("x"), Fault.UPSTREAM_TIMEOUT),
    "half an answer": (httpx.RemoteProtocolError("x"), Fault.UPSTREAM_ERROR),
}


@pytest.mark.parametrize(("failure", "fault"), FAILURES.values(), ids=FAILURES)
async def test_a_broken_connection_is_a_relay_error(failure: httpx.HTTPError, fault: Fault) -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(RelayError) as caught:
        await search_models(access(respond))
    assert caught.value.fault is fault


async def test_a_permission_check_takes_an_empty_list_for_a_yes() -> None:
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return envelope([])

    await check_models_permission(access(respond))
    assert asked[0].startswith(f"{BASE}/accounts/acc/ai/models/search?search=")


def paged(pages: list[list[Any]]) -> tuple[Respond, list[int]]:
    asked: list[int] = []

    def respond(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        asked.append(page)
        return envelope(pages[min(page, len(pages)) - 1])

    return respond, asked


A, B, C = ({"name": name} for name in ("@cf/x/a", "@cf/x/b", "@cf/x/c"))
PAGES: dict[str, tuple[list[list[Any]], list[Any], int]] = {
    "until a page is empty": ([[A, B], [C], []], [A, B, C], 3),
    "until a page repeats": ([[A, B, C]], [A, B, C], 2),
    "nothing": ([[]], [], 1),
    "rows that are none": ([[A, None, {"name": 1}, {}], []], [A], 2),
    "a bounded number": (
        [[{"name": f"@cf/x/{n}"}] for n in range(99)],
        [{"name": f"@cf/x/{n}"} for n in range(50)],
        50,
    ),
}


@pytest.mark.parametrize(("pages", "rows", "calls"), PAGES.values(), ids=PAGES)
async def test_models_are_read_page_by_page(pages: list[list[Any]], rows: list[Any], calls: int) -> None:
    respond, asked = paged(pages)
    assert await search_models(access(respond)) == rows
    assert asked == list(range(1, calls + 1))


@pytest.mark.parametrize("result", [None, {}, "x"])
async def test_a_list_that_is_none_is_an_error(result: object) -> None:
    with pytest.raises(RelayError, match="not a list"):
        await search_models(access(lambda _: envelope(result)))


async def test_an_endless_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.cloudflare_account._MAX_BODY", 100)
    body = json.dumps({"result": ["x" * 200]}).encode()
    with pytest.raises(RelayError, match="too long"):
        await search_models(access(lambda _: httpx.Response(200, content=body)))
