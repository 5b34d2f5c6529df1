"""Requests in and answers out, straight on ASGI: what each of the server's endpoints needs and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.types import Receive, Send

from adapters.local.serving.problems import Problem

T = TypeVar("T")

LARGEST_BODY = 256 * 2**20
"""Bytes. The relay in front has a bound of its own, which is the operator's."""

JSON = b"application/json"


class ClientLeft(Exception):
    """The caller has closed the connection before all of its request was there."""


async def read_body(receive: Receive) -> bytes:
    """The request's whole body. Raises HTTPException 413, ClientLeft."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST_BODY:
            raise HTTPException(413, f"A request may have {LARGEST_BODY} bytes.")
        if not message.get("more_body", False):
            return b"".join(chunks)


class Client:
    """Whoever asked, once its request is read: still there, or gone."""

    def __init__(self) -> None:
        self.gone = False
        self._cancels: list[Callable[[], object]] = []

    def cares_for(self, cancel: Callable[[], object]) -> None:
        """`cancel` is called when the client leaves; at once if it has."""
        self._cancels.append(cancel)
        if self.gone:
            cancel()

    def release(self) -> None:
        """Nobody cares any more: cancel all that is still under way."""
        self.gone = True
        for cancel in self._cancels:
            cancel()

    async def leaves(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.release()


async def beside_client(receive: Receive, work: Callable[[Client], Awaitable[None]]) -> None:
    """Do `work` while watching its client. Whatever the work leaves under way at its end is cancelled."""
    client = Client()
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(client.leaves(receive))
        try:
            await work(client)
        except Exception as exc:  # noqa: BLE001 - raised again below, outside the group that would wrap it
            failure = exc
        finally:
            watcher.cancel()
            client.release()
    if failure is not None:
        raise failure


async def unless_gone(client: Client, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, which is cancelled when the client leaves; `None` for one that has left."""
    failure: list[Exception] = []

    async def kept() -> T | None:
        try:
            return await work
        except Exception as exc:  # noqa: BLE001 - raised again below, outside the group that would wrap it
            failure.append(exc)
            return None

    async with asyncio.TaskGroup() as group:
        task = group.create_task(kept())
        client.cares_for(task.cancel)
    if failure:
        raise failure[0]
    return None if task.cancelled() else task.result()


async def send_start(send: Send, status: int, media_type: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", media_type), *headers],
        }
    )


async def send_body(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    media_type: bytes = JSON,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """One whole answer."""
    await send_start(send, status, media_type, [(b"content-length", str(len(body)).encode()), *headers])
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    await send_body(send, problem.body(), status=problem.status, headers=problem.headers())
