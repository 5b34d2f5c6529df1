"""With Cloudflare behind the relay, its own lists, finetunes and conversions are what callers see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.base import Call
from tests.support.lists import AI, V4, client_of, error_of, lists_app, result_of
from wrangler_compat.seams import Headers

pytestmark = pytest.mark.anyio


class Answered:
    """What came back, on its way through."""

    status = 202
    headers: Headers = ((b"content-type", b"application/json"), (b"cf-ray", b"1"))

    @property
    async def chunks(self) -> AsyncIterator[bytes]:
        yield b'{"result":'
        yield b"[]}"


class Cloudflare:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes, bytes]] = []

    @asynccontextmanager
    async def forward(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes, call: Call
    ) -> AsyncIterator[Answered]:
        assert (b"x-thing", b"1") in list(headers) and call.id
        self.asked.append((method, path, query, body))
        yield Answered()


PATHS: dict[str, tuple[str, str, str, bytes]] = {
    "/models/search?page=2&search=a%20b": ("GET", "models/search", "page=2&search=a%20b", b""),
    "/models/schema?model=%40cf%2Fa": ("GET", "models/schema", "model=%40cf%2Fa", b""),
    "/tasks/search": ("GET", "tasks/search", "", b""),
    "/authors/search": ("GET", "authors/search", "", b""),
    "/finetunes": ("POST", "finetunes", "", b'{"name":"a"}'),
    "/finetunes/public?limit=1": ("GET", "finetunes/public", "limit=1", b""),
    "/finetunes/a%20b/finetune-assets/": ("POST", "finetunes/a%20b/finetune-assets", "", b"form"),
    "/tomarkdown": ("POST", "tomarkdown", "", b"form"),
    "/tomarkdown/supported": ("GET", "tomarkdown/supported", "", b""),
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_call_goes_on_and_its_answer_comes_back_as_it_is(tmp_path: Path, path: str) -> None:
    method, onward, query, body = PATHS[path]
    cloudflare = Cloudflare()
    async with client_of(lists_app(tmp_path, forward=cloudflare.forward)) as client:
        answer = await client.request(method, AI + path, content=body, headers={"x-thing": "1"})
    assert cloudflare.asked == [(method, onward, query.encode(), body)]
    assert (answer.status_code, answer.content, answer.headers["cf-ray"]) == (202, b'{"result":[]}', "1")


async def test_who_one_is_the_relay_tells_itself(tmp_path: Path) -> None:
    cloudflare = Cloudflare()
    async with client_of(lists_app(tmp_path, forward=cloudflare.forward)) as client:
        assert result_of(await client.get(f"{V4}/accounts"))[0]["id"] == "local"
        assert error_of(await client.get(f"{V4}/accounts/a.b/ai/models/search"))[:2] == (404, 7003)
    assert cloudflare.asked == []
