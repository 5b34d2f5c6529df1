"""Batches in memory, with an inference that the test holds in its hands; then over a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from adapters.base import Call
from adapters.canonical import Media, Usage
from adapters.catalogue import Model
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.wire.native.payload import Payload
from tests.support.emulator import AI, OTHER_KEY, SHORT, code_of, emulating
from tests.support.relay import MODEL
from tests.support.servers import DEADLINE
from wrangler_compat import batch
from wrangler_compat.answers import Binary, Inferred, Json, Through, Whole
from wrangler_compat.batch import Batches

pytestmark = pytest.mark.anyio

A_MODEL = Model(id="@cf/a/b", task="Text Generation", status="listed")
ANOTHER_MODEL = Model(id="@cf/a/c", task="Text Generation", status="listed")


class Inference:
    """Answers by the field `do` of an input; all answers wait for `gate`."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[Any] = []
        self.tenants: list[str | None] = []
        self.two = asyncio.Event()
        """Set once two inputs were seen."""

    def __call__(self, model: Model, payload: Payload, call: Call) -> Inferred:
        fields = json.loads(payload.body)
        self.seen.append(fields)
        self.tenants.append(call.tenant)
        if len(self.seen) == 2:
            self.two.set()
        if fields.get("do") == "refuse":
            raise InvalidRequest("Refused.")
        if fields.get("do") == "pass":
            return Through(None)  # type: ignore[arg-type]  # never entered
        return Whole(self._work(fields.get("do")))

    def _work(self, do: str | None) -> Callable[[], Awaitable[Json | Binary]]:
        async def work() -> Json | Binary:
            await self.gate.wait()
            match do:
                case "fail":
                    raise RelayError(Fault.RATE_LIMITED, "Busy.")
                case "break":
                    raise ZeroDivisionError("with words of the caller's")
                case "bytes":
                    return Binary(Media(b"x", "image/png"))
                case "free":
                    return Json(b"2")
            return Json(b'{"ok":true}', Usage(prompt_tokens=3, completion_tokens=2))

        return work


def submission(*items: Any) -> bytes:
    return json.dumps({"requests": items}).encode()


async def finished(batches: Batches, id: str, owner: str = "me") -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE):
        while True:
            told: dict[str, Any] = json.loads(batches.poll(id, owner, A_MODEL).body)
            if "responses" in told:
                return told
            await asyncio.sleep(0)


def submitted(batches: Batches, *items: Any, owner: str = "me") -> str:
    answer = batches.submit(A_MODEL, submission(*items), owner)
    told = json.loads(answer.body)
    assert (answer.status, told["status"], told["model"]) == (202, "queued", A_MODEL.id)
    id: str = told["request_id"]
    return id


async def test_every_item_has_its_answer() -> None:
    infer = Inference()
    batches = Batches(infer)
    items = [
        {"a": 1, "external_reference": "r", "stream": True},
        {"do": "refuse", "external_reference": {"x": 1}},
        {"do": "fail"},
        {"do": "break"},
        {"do": "bytes"},
        {"do": "pass"},
        {"do": "free"},
        {},
    ]
    async with batches.running():
        told = await finished(batches, submitted(batches, *items))
    rows = told["responses"]
    assert [row["id"] for row in rows] == list(range(8))
    assert rows[0] == {"id": 0, "external_reference": "r", "result": {"ok": True}, "success": True}
    assert rows[1]["external_reference"] == {"x": 1} and rows[2]["external_reference"] is None
    assert [row["success"] for row in rows] == [True, False, False, False, False, False, True, True]
    assert [row["errors"][0]["code"] for row in rows if not row["success"]] == [5006, 3040, 3043, 5006, 5006]
    assert rows[3]["errors"][0]["message"] == "AiError: Internal server error"
    assert told["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
    assert infer.seen[0] == {"a": 1, "stream": False}
    assert infer.tenants == ["me"] * 8


async def test_a_batch_is_queued_then_running_then_done() -> None:
    infer = Inference()
    infer.gate.clear()
    batches = Batches(infer)
    ids = [submitted(batches, {}) for _ in range(3)]
    async with batches.running():
        await infer.two.wait()
        states = [json.loads(batches.poll(id, "me", A_MODEL).body)["status"] for id in ids]
        assert states == ["running", "running", "queued"]
        infer.gate.set()
        for id in ids:
            await finished(batches, id)


async def test_an_item_that_takes_too_long_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_LONGEST_ITEM", 0.01)
    infer = Inference()
    infer.gate.clear()
    batches = Batches(infer)
    async with batches.running():
        [row] = (await finished(batches, submitted(batches, {})))["responses"]
    assert row["errors"][0]["code"] == 3046


REFUSED: dict[str, tuple[Model, bytes, Fault]] = {
    "no requests": (A_MODEL, b"{}", Fault.INVALID_VALUE),
    "an empty list": (A_MODEL, submission(), Fault.INVALID_VALUE),
    "too many items": (A_MODEL, submission(*[{}] * (batch.MOST_ITEMS + 1)), Fault.INVALID_VALUE),
    "an item that is no object": (A_MODEL, submission(1), Fault.INVALID_VALUE),
    "too large": (A_MODEL, b" " * (10**7 + 1), Fault.REQUEST_TOO_LARGE),
    "a model that cannot": (
        Model(id="@cf/a/c", task="t", status="listed", async_queue=False),
        submission({}),
        Fault.INVALID_VALUE,
    ),
}


@pytest.mark.parametrize(("model", "body", "fault"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_batch_is_refused(model: Model, body: bytes, fault: Fault) -> None:
    with pytest.raises(RelayError) as caught:
        Batches(Inference()).submit(model, body, "me")
    assert caught.value.fault is fault


async def test_nobody_gets_the_batch_of_another() -> None:
    batches = Batches(Inference())
    id = submitted(batches, {})
    with pytest.raises(InvalidRequest) as theirs:
        batches.poll(id, "you", A_MODEL)
    with pytest.raises(InvalidRequest) as unknown:
        batches.poll("nobody's", "me", A_MODEL)
    assert theirs.value.message == unknown.value.message


async def test_a_batch_is_asked_for_by_its_own_model() -> None:
    batches = Batches(Inference())
    async with batches.running():
        id = submitted(batches, {})
        for state in ("waiting", "done"):
            if state == "done":
                await finished(batches, id)
            with pytest.raises(InvalidRequest, match="no batch of this 'request_id'"):
                batches.poll(id, "me", ANOTHER_MODEL)
        batches.poll(id, "me", A_MODEL)


async def test_a_finished_batch_is_forgotten_after_its_time() -> None:
    now = 0.0
    batches = Batches(Inference(), clock=lambda: now)
    async with batches.running():
        id = submitted(batches, {})
        await finished(batches, id)
        now = batch.KEPT
        batches.poll(id, "me", A_MODEL)
        now += 1
        with pytest.raises(InvalidRequest):
            batches.poll(id, "me", A_MODEL)


PLACES: dict[str, tuple[str, list[str]]] = {
    "of one owner": ("_MOST_PENDING_OF_ONE", ["me", "you", "me"]),
    "of all": ("_MOST_PENDING", ["me", "you"]),
}


@pytest.mark.parametrize(("limit", "owners"), PLACES.values(), ids=PLACES)
async def test_too_many_batches_have_to_wait(monkeypatch: pytest.MonkeyPatch, limit: str, owners: list[str]) -> None:
    monkeypatch.setattr(batch, limit, 2)
    batches = Batches(Inference())
    for owner in owners:
        submitted(batches, {}, owner=owner)
    with pytest.raises(RelayError) as caught:
        submitted(batches, {}, owner="me")
    assert caught.value.fault is Fault.RATE_LIMITED


async def test_inputs_that_never_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MOST_KEPT", 1)
    with pytest.raises(RelayError) as caught:
        submitted(Batches(Inference()), {})
    assert caught.value.fault is Fault.RATE_LIMITED


async def test_the_oldest_answers_of_an_owner_make_room_for_its_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MOST_KEPT_OF_ONE", 3 * batch._EACH)
    batches = Batches(Inference())
    async with batches.running():
        theirs = submitted(batches, {}, owner="you")
        await finished(batches, theirs, "you")
        first, second = submitted(batches, {}), submitted(batches, {})
        await finished(batches, first)
        await finished(batches, second)
        third = submitted(batches, {})
        with pytest.raises(InvalidRequest):
            batches.poll(first, "me", A_MODEL)
        batches.poll(second, "me", A_MODEL)
        batches.poll(theirs, "you", A_MODEL)
        await finished(batches, third)


async def test_who_holds_most_makes_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MOST_KEPT", 4 * batch._EACH)
    batches = Batches(Inference())
    async with batches.running():
        little = submitted(batches, {}, owner="you")
        await finished(batches, little, "you")
        first, second = submitted(batches, {}), submitted(batches, {})
        await finished(batches, first)
        await finished(batches, second)
        third = submitted(batches, {}, owner="they")
        with pytest.raises(InvalidRequest):
            batches.poll(first, "me", A_MODEL)
        for id, owner in ((little, "you"), (second, "me"), (third, "they")):
            await finished(batches, id, owner)


NO_ROOM = {
    "in its batch": ("_MOST_ANSWERS", 100),
    "with its owner": ("_MOST_KEPT_OF_ONE", batch._EACH + 3 * batch._ROW + 2 * len(submission({}, {}, {})) + 100),
}


@pytest.mark.parametrize(("limit", "size"), NO_ROOM.values(), ids=NO_ROOM)
async def test_an_answer_without_room_has_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch, limit: str, size: int
) -> None:
    monkeypatch.setattr(batch, limit, size)
    batches = Batches(Inference())
    async with batches.running():
        rows = (await finished(batches, submitted(batches, {}, {}, {})))["responses"]
    assert [row["success"] for row in rows] == [True, False, False]
    assert "no room" in rows[1]["errors"][0]["message"]
    assert len(json.dumps(rows[1])) < batch._ROW


async def test_inputs_that_fail_at_once_let_others_in() -> None:
    batches = Batches(Inference())
    async with batches.running():
        long = submitted(batches, *[{"do": "refuse"}] * 1000)
        short = submitted(batches, {}, owner="you")
        await finished(batches, short, "you")
        assert json.loads(batches.poll(long, "me", A_MODEL).body)["status"] == "running"
        assert len((await finished(batches, long))["responses"]) == 1000


async def test_an_owner_does_not_keep_all_workers() -> None:
    infer = Inference()
    infer.gate.clear()
    batches = Batches(infer)
    async with batches.running():
        slow = [submitted(batches, {}) for _ in range(5)]
        await infer.two.wait()
        quick = submitted(batches, {"do": "refuse"}, owner="you")
        await finished(batches, quick, "you")
        infer.gate.set()
        for id in slow:
            await finished(batches, id)


# ---------------------------------------------------------------- over a socket


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with emulating(tmp_path_factory.mktemp("state")) as client:
        yield client


async def test_a_batch_goes_round_over_a_socket(client: httpx.AsyncClient) -> None:
    path = f"{AI}/run/{MODEL}?queueRequest=true"
    body = {"requests": [SHORT | {"external_reference": "a"}, {"prompt": 1}]}
    queued = await client.post(path, json=body)
    assert queued.status_code == 202
    question = {"request_id": queued.json()["result"]["request_id"]}
    while "responses" not in (told := (await client.post(path, json=question)).json()["result"]):
        pass
    good, bad = told["responses"]
    assert good["success"] and good["external_reference"] == "a" and good["result"]["response"]
    assert not bad["success"] and "'prompt'" in bad["errors"][0]["message"]
    theirs = await client.post(path, json=question, headers={"authorization": f"Bearer {OTHER_KEY}"})
    assert code_of(theirs) == (400, 5006)


PLAIN: dict[str, Any] = {"a plain input": SHORT, "no JSON": b"{", "a list": b"[]"}


@pytest.mark.parametrize("body", PLAIN.values(), ids=PLAIN)
async def test_what_is_no_batch_is_run_as_it_is(client: httpx.AsyncClient, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post(f"{AI}/run/{MODEL}?queueRequest=1", content=content)
    assert response.status_code == (400 if isinstance(body, bytes) else 200)


@pytest.mark.parametrize("id", ["1e400", "[1e400]"])
@pytest.mark.parametrize("query", ["", "?queueRequest=true"])
async def test_an_id_that_is_no_value_is_the_callers_mistake(client: httpx.AsyncClient, id: str, query: str) -> None:
    response = await client.post(f"{AI}/run/{MODEL}{query}", content=f'{{"request_id": {id}}}')
    assert code_of(response) == (400, 5006)
