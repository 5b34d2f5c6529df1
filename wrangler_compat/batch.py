"""Cloudflare's asynchronous batches: many inputs at once, fetched later. Kept in this process's memory alone.

Source: Cloudflare's pages on its batch API (2026-03). How long it keeps results, what it says of an id that it does
not know and how it tells of one failed item are not established; what is done here is ours.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from adapters.base import Call
from adapters.canonical import Usage
from adapters.catalogue import Model
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.wire.json_text import encode
from adapters.wire.native.payload import Payload
from adapters.wire.validation import decode
from wrangler_compat.answers import Inferred, Json, Whole
from wrangler_compat.problems import REST, Problem

log = logging.getLogger("relay")

MOST_BYTES = 10 * 10**6
"""Of one batch, as Cloudflare has it."""
KEPT = 3600.0
"""Seconds for which finished batches can be fetched."""
_WORKERS = 2
_MOST_PENDING = 100
_MOST_KEPT_BYTES = 256 * 2**20
_LONGEST_ITEM = 300.0  # seconds

Infer = Callable[[Model, Payload, Call], Inferred]


Item = dict[str, msgspec.Raw]
"""An input's fields as they came: nobody looks into them before the model's turn."""


class _Submission(msgspec.Struct):
    requests: list[Item]


_SUBMISSION = msgspec.json.Decoder(_Submission)


class _Batch:
    """`owner` is the label of the principal: nobody else can fetch it."""

    __slots__ = ("finished", "id", "items", "model", "owner", "responses", "size", "started", "usage")

    def __init__(self, model: Model, owner: str, items: list[Item], size: int) -> None:
        self.id = str(uuid.uuid4())
        self.model = model
        self.owner = owner
        self.items = items
        self.size = size
        self.started = False
        self.finished: float | None = None
        """When its last item was done, on the clock of `time.monotonic()`."""
        self.responses: list[dict[str, Any]] = []
        self.usage = Usage()


class Batches:
    """The batches of all callers, worked off a few at a time while `running` is entered. `infer` answers one input."""

    def __init__(self, infer: Infer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._infer = infer
        self._clock = clock
        self._by_id: dict[str, _Batch] = {}
        self._queue: asyncio.Queue[_Batch] = asyncio.Queue()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work batches off until the block is left; what is not done by then is lost."""
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(self._work()) for _ in range(_WORKERS)]
            try:
                yield
            finally:
                for worker in workers:
                    worker.cancel()

    def submit(self, model: Model, body: bytes, owner: str) -> Json:
        """Queue `{"requests": [..]}`. Raises RelayError for too large a body, InvalidRequest, or RATE_LIMITED."""
        if model.async_queue is False:
            raise InvalidRequest(f"The model '{model.id}' does not take batches.", param="requests")
        if len(body) > MOST_BYTES:
            raise RelayError(Fault.REQUEST_TOO_LARGE, f"A batch may have at most {MOST_BYTES} bytes.")
        items = decode(body, _SUBMISSION).requests
        if not items:
            raise InvalidRequest("Invalid 'requests': empty array.", param="requests")
        self._forget(room_for=len(body))
        batch = _Batch(model, owner, items, len(body))
        self._by_id[batch.id] = batch
        self._queue.put_nowait(batch)
        return Json(encode({"status": "queued", "request_id": batch.id, "model": model.id}), status=202)

    def poll(self, id: str, owner: str) -> Json:
        """How far a batch is, or all its answers. Raises InvalidRequest for an id that is not this owner's."""
        self._forget()
        batch = self._by_id.get(id)
        if batch is None or batch.owner != owner:
            raise InvalidRequest("There is no batch of this 'request_id', or no longer.", param="request_id")
        if batch.finished is None:
            status = "running" if batch.started else "queued"
            return Json(encode({"status": status, "request_id": batch.id, "model": batch.model.id}))
        usage = {
            "prompt_tokens": batch.usage.prompt_tokens,
            "completion_tokens": batch.usage.completion_tokens,
            "total_tokens": batch.usage.total_tokens,
        }
        return Json(encode({"responses": batch.responses, "usage": usage}), usage=batch.usage)

    def _forget(self, room_for: int | None = None) -> None:
        """Drop what is old, and what is oldest if a batch of `room_for` bytes would not fit otherwise.

        Raises RelayError (RATE_LIMITED) if it does not fit even so.
        """
        done = [batch for batch in self._by_id.values() if batch.finished is not None]
        done.sort(key=lambda batch: batch.finished or 0.0)
        size = sum(batch.size for batch in self._by_id.values()) + (room_for or 0)
        horizon = self._clock() - KEPT
        for batch in done:
            if (batch.finished or 0.0) < horizon or size > _MOST_KEPT_BYTES:
                size -= batch.size
                del self._by_id[batch.id]
        pending = sum(batch.finished is None for batch in self._by_id.values())
        if room_for is not None and (pending >= _MOST_PENDING or size > _MOST_KEPT_BYTES):
            raise RelayError(Fault.RATE_LIMITED, "Too many batches are waiting. Try again later.", retry_after=10)

    async def _work(self) -> None:
        while True:
            batch = await self._queue.get()
            batch.started = True
            for index, item in enumerate(batch.items):
                response = await self._answer(batch, index, item)
                batch.responses.append(response)
                batch.size += len(response.get("result", b""))
            batch.items = []
            batch.finished = self._clock()

    async def _answer(self, batch: _Batch, index: int, item: Item) -> dict[str, Any]:
        fields = {name: value for name, value in item.items() if name not in ("external_reference", "stream")}
        told: dict[str, Any] = {"id": index, "external_reference": item.get("external_reference", _NULL)}
        try:
            done = await self._result(batch, Payload(encode({**fields, "stream": False}), "application/json"))
        except RelayError as exc:
            return told | _failed(REST.of_relay_error(exc))
        except Exception as exc:  # noqa: BLE001 - one item's bug is its own; the frames are logged, never its text
            frames = "".join(traceback.format_tb(exc.__traceback__))
            log.error("bug: %s in batch %s\n%s", type(exc).__name__, batch.id, frames)
            return told | _failed(REST.INTERNAL)
        if done.usage is not None:
            batch.usage = batch.usage + done.usage
        return told | {"result": msgspec.Raw(done.body), "success": True}

    async def _result(self, batch: _Batch, payload: Payload) -> Json:
        call = Call(batch.id)
        answer = self._infer(batch.model, payload, call)
        if not isinstance(answer, Whole):
            raise InvalidRequest("A batch takes no streams.", param="stream")
        try:
            async with asyncio.timeout(_LONGEST_ITEM):
                done = await answer.work()
        except TimeoutError:
            raise RelayError(Fault.UPSTREAM_TIMEOUT, "The request took too long.") from None
        if not isinstance(done, Json):
            raise InvalidRequest("This model answers with bytes, which a batch cannot hold.")
        return done


_NULL = msgspec.Raw(b"null")


def _failed(problem: Problem) -> dict[str, Any]:
    return {"result": {}, "success": False, "errors": [{"code": problem.code, "message": problem.message}]}
