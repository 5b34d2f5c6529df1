"""Who one is, as `wrangler whoami`, its choice of an account and the SDKs' checks ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.lists import V4, client_of, error_of, lists_app, result_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(lists_app(tmp_path)) as client:
        yield client


@pytest.mark.parametrize("path", ["/user/tokens/verify", "/accounts/local/tokens/verify"])
async def test_a_token_that_got_here_is_active(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(V4 + path)
    assert result_of(answer)["status"] == "active" and len(result_of(answer)["id"]) == 32
    assert answer.json()["messages"] == [{"code": 10000, "message": "This API Token is valid and active", "type": None}]


async def test_the_user_has_an_address(client: httpx.AsyncClient) -> None:
    user = result_of(await client.get(f"{V4}/user"))
    assert len(user["id"]) == 32 and "@" in user["email"]


async def test_there_is_one_account_and_one_membership_of_it(client: httpx.AsyncClient) -> None:
    """wrangler takes the account that is in both lists, if it is the only one."""
    (account,) = result_of(await client.get(f"{V4}/accounts", params={"page": 1}))
    (membership,) = result_of(await client.get(f"{V4}/memberships", params={"page": 1}))
    assert (account["id"], account["type"]) == ("local", "standard")
    assert membership["account"] == {"id": "local", "name": account["name"]}
    assert membership["roles"] and membership["status"] == "accepted"


@pytest.mark.parametrize("path", ["/accounts", "/memberships"])
async def test_past_the_last_page_there_is_nothing(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(V4 + path, params={"page": 2})
    assert result_of(answer) == []
    assert answer.json()["result_info"] == {"page": 2, "per_page": 20, "count": 0, "total_count": 1}


async def test_an_account_may_be_called_anything_that_an_id_can_be(client: httpx.AsyncClient) -> None:
    assert result_of(await client.get(f"{V4}/accounts/0f1e2d3c"))["id"] == "0f1e2d3c"
    assert error_of(await client.get(f"{V4}/accounts/not.an.id"))[:2] == (404, 7003)


async def test_answers_do_not_add_up_their_headers(client: httpx.AsyncClient) -> None:
    first, second = [len((await client.get(f"{V4}/user")).headers.raw) for _ in range(2)]
    assert first == second
