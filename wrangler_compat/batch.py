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
from collections import Counter, defaultdict, deque
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
MOST_ITEMS = 10_000
"""Inputs of one batch."""
KEPT = 3600.0
"""Seconds for which finished batches can be fetched."""
_WORKERS = 4
_MOST_AT_ONCE = 2
"""Inputs of one owner that are answered at the same time: the other workers are for the others."""
_MOST_PENDING = 100
_MOST_PENDING_OF_ONE = 10
# Bytes of inputs that wait and of answers that can be fetched: of a batch (answers alone), an owner, and all of them.
_MOST_ANSWERS = 64 * 2**20
_MOST_KEPT_OF_ONE = 96 * 2**20
_MOST_KEPT = 384 * 2**20
_EACH = 2**14
"""Bytes that a batch counts for beside what it holds, so that small ones are bounded, too."""
_ROW = 512
"""Bytes of a row without an answer, beside its `external_reference`: room for these is held from the start."""
_LONGEST_ITEM = 300.0  # seconds

Infer = Callable[[Model, Payload, Call], Inferred]

_ITEM = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Submission(msgspec.Struct):
    """Nobody looks into an input before its turn."""

    requests: list[msgspec.Raw]


_SUBMISSION = msgspec.json.Decoder(_Submission)


class _Batch:
    """`owner` is the label of the principal: nobody else can fetch it. `size` is what it counts for, in bytes."""

    __slots__ = ("answers", "finished", "id", "items", "model", "next", "owner", "size", "started", "usage")

    def __init__(self, model: Model, owner: str, items: list[msgspec.Raw], size: int) -> None:
        self.id = str(uuid.uuid4())
        self.model = model
        self.owner = owner
        self.items = items
        self.next = 0
        self.size = size
        self.started = False
        self.finished = 0.0
        """When its last item was done, on the clock of `time.monotonic()`."""
        self.answers = bytearray()
        """JSON: the rows so far, with commas between them; in the end the whole result."""
        self.usage = Usage()

    def complete(self) -> None:
        usage = {
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "total_tokens": self.usage.total_tokens,
        }
        self.answers[:0] = b'{"responses":['
        self.answers += b'],"usage":' + encode(usage) + b"}"
        self.items = []


class Batches:
    """The batches of all callers, worked off while `running` is entered. `infer` answers one input.

    Owners take turns, an input each. Nobody's answers make room for an owner who holds more than they do.
    """

    def __init__(self, infer: Infer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._infer = infer
        self._clock = clock
        self._pending: dict[str, _Batch] = {}
        self._done: dict[str, _Batch] = {}  # in the order in which they were finished
        self._held: Counter[str] = Counter()  # bytes by owner
        self._waiting: defaultdict[str, deque[_Batch]] = defaultdict(deque)
        self._working: Counter[str] = Counter()
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        self._invited: set[str] = set()

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
        items = _items(body)
        self._expire()
        size = 2 * len(body) + len(items) * _ROW + _EACH
        theirs = sum(batch.owner == owner for batch in self._pending.values())
        full = theirs >= _MOST_PENDING_OF_ONE or len(self._pending) >= _MOST_PENDING
        if full or not self._make_room(owner, size):
            raise RelayError(Fault.RATE_LIMITED, "Too many batches are waiting. Try again later.", retry_after=10)
        batch = _Batch(model, owner, items, size)
        self._pending[batch.id] = batch
        self._held[owner] += size
        self._waiting[owner].append(batch)
        self._invite(owner)
        return Json(encode({"status": "queued", "request_id": batch.id, "model": model.id}), status=202)

    def poll(self, id: str, owner: str, model: Model) -> Json:
        """How far a batch is, or all its answers.

        Raises InvalidRequest for an id that is not this owner's, and for one that was given to another model's batch.
        """
        self._expire()
        batch = self._pending.get(id) or self._done.get(id)
        if batch is None or batch.owner != owner or batch.model.id != model.id:
            raise InvalidRequest("There is no batch of this 'request_id', or no longer.", param="request_id")
        if id in self._done:
            return Json(bytes(batch.answers), usage=batch.usage)
        status = "running" if batch.started else "queued"
        return Json(encode({"status": status, "request_id": batch.id, "model": batch.model.id}))

    # ------------------------------------------------------------ room

    def _expire(self) -> None:
        horizon = self._clock() - KEPT
        while self._done and (oldest := next(iter(self._done.values()))).finished < horizon:
            self._drop(oldest)

    def _make_room(self, owner: str, size: int) -> bool:
        """Drop finished batches until `size` more bytes of `owner` fit: its own, then those of who holds most."""
        while self._held[owner] + size > _MOST_KEPT_OF_ONE:
            own = next((batch for batch in self._done.values() if batch.owner == owner), None)
            if own is None:
                return False
            self._drop(own)
        while self._held.total() + size > _MOST_KEPT:
            droppable = [batch for batch in self._done.values() if self._held[batch.owner] >= self._held[owner]]
            if not droppable:
                return False
            self._drop(max(droppable, key=lambda batch: self._held[batch.owner]))  # the oldest of those
        return True

    def _drop(self, batch: _Batch) -> None:
        del self._done[batch.id]
        self._grow(batch, -batch.size)

    def _grow(self, batch: _Batch, size: int) -> None:
        batch.size += size
        self._held[batch.owner] += size
        if not self._held[batch.owner]:
            del self._held[batch.owner]

    def _keep(self, batch: _Batch, told: dict[str, Any], result: dict[str, Any]) -> None:
        """Keep a row, or one that says that there is no room for it: that one is small and always kept."""
        row = encode(told | result)
        if len(batch.answers) + len(row) > _MOST_ANSWERS or not self._make_room(batch.owner, len(row)):
            row = encode(told | _failed(_NO_ROOM))
        else:
            self._grow(batch, len(row))
        if batch.answers:
            batch.answers += b","
        batch.answers += row

    # ------------------------------------------------------------ work

    def _invite(self, owner: str) -> None:
        """Let an owner take its turn, if it has something to do and may do it."""
        if owner not in self._invited and self._waiting[owner] and self._working[owner] < _MOST_AT_ONCE:
            self._invited.add(owner)
            self._turns.put_nowait(owner)

    async def _work(self) -> None:
        while True:
            owner = await self._turns.get()
            self._invited.remove(owner)
            batch = self._waiting[owner].popleft()
            self._working[owner] += 1
            self._invite(owner)
            await self._step(batch)
            await asyncio.sleep(0)  # what fails at once has not let anybody else in
            self._working[owner] -= 1
            if batch.next < len(batch.items):
                self._waiting[owner].appendleft(batch)
            else:
                self._finish(batch)
            self._invite(owner)
            if not self._working[owner] and not self._waiting[owner]:
                del self._working[owner], self._waiting[owner]

    async def _step(self, batch: _Batch) -> None:
        batch.started = True
        index, item = batch.next, bytes(batch.items[batch.next])
        batch.next += 1
        told: dict[str, Any] = {"id": index, "external_reference": _NULL}
        self._keep(batch, told, await self._answer(batch, item, told))

    def _finish(self, batch: _Batch) -> None:
        batch.complete()
        batch.finished = self._clock()
        self._done[batch.id] = self._pending.pop(batch.id)
        self._grow(batch, len(batch.answers) + _EACH - batch.size)

    async def _answer(self, batch: _Batch, item: bytes, told: dict[str, Any]) -> dict[str, Any]:
        """A row's own fields; what the input wants to be known by goes into `told`."""
        try:
            fields = decode(item, _ITEM)
            told["external_reference"] = fields.pop("external_reference", _NULL)
            asked = encode({**fields, "stream": False})
            done = await self._result(batch, Payload(asked, "application/json"))
        except RelayError as exc:
            return _failed(REST.of_relay_error(exc))
        except Exception as exc:  # noqa: BLE001 - one item's bug is its own; the frames are logged, never its text
            frames = "".join(traceback.format_tb(exc.__traceback__))
            log.error("bug: %s in batch %s\n%s", type(exc).__name__, batch.id, frames)
            return _failed(REST.INTERNAL)
        if done.usage is not None:
            batch.usage = batch.usage + done.usage
        return {"result": msgspec.Raw(done.body), "success": True}

    async def _result(self, batch: _Batch, payload: Payload) -> Json:
        call = Call(batch.id)
        call.tenant = batch.owner
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
_NO_ROOM = REST.of_relay_error(
    RelayError(Fault.QUOTA_EXHAUSTED, "There is no room for this answer. Fetch what is finished, or send fewer inputs.")
)


def _items(body: bytes) -> list[msgspec.Raw]:
    """The inputs of a submission, each a JSON object. Raises InvalidRequest."""
    items = decode(body, _SUBMISSION).requests
    if not items:
        raise InvalidRequest("Invalid 'requests': empty array.", param="requests")
    if len(items) > MOST_ITEMS:
        raise InvalidRequest(
            f"Invalid 'requests': expected at most {MOST_ITEMS} items, but got {len(items)} instead.", param="requests"
        )
    for index, item in enumerate(items):
        if not bytes(item).startswith(b"{"):
            at = f"requests[{index}]"
            raise InvalidRequest(f"Invalid type for '{at}': expected an object.", param=at, code="invalid_type")
    return items


def _failed(problem: Problem) -> dict[str, Any]:
    return {"result": {}, "success": False, "errors": [{"code": problem.code, "message": problem.message}]}
