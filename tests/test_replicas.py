"""Several engines as one, over real sockets: who gets a request, and what becomes of it when one of them fails."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from adapters.base import Call
from adapters.breaker import FIRST_PAUSE, LONGEST_PAUSE, THRESHOLD
from adapters.canonical import ChatRequest, Delta, EmbeddingRequest, Message
from adapters.engine_calls import Endpoint, EngineCalls
from adapters.engine_health import Health
from adapters.errors import Fault, InvalidRequest, RelayError
from adapters.profiles import PROFILES
from adapters.replica import FRESH, LOOKS, Replica, State, replica_of
from adapters.replicas import IDLE, Replicas
from adapters.transport import open_transport
from auth.principal import Principal
from proxy.boundary import Preconditions
from tests.support.servers import DEADLINE, Served, serving
from tests.support.simulated_time import simulate
from tests.support.vllm import MODEL, FakeVllm

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Cluster:
    """Some engines on sockets of their own, and the relay's view of them. Replica `n` is `engines[int(n)]`."""

    def __init__(self, engines: list[FakeVllm], served: list[Served], replicas: Replicas, clock: Clock) -> None:
        self.engines = engines
        self.served = served
        self.replicas = replicas
        self.clock = clock

    async def ask(self, text: str = "Hi", call: Call | None = None) -> str:
        """A whole answer's text."""
        result = await self.replicas.chat(asking(text), call or Call("id"))
        return result.choices[0].text

    async def stream(self, text: str = "Hi", call: Call | None = None) -> str:
        async with self.replicas.stream_chat(asking(text), call or Call("id")) as batches:
            return "".join([event.text async for batch in batches for event in batch if isinstance(event, Delta)])

    async def embed(self) -> None:
        await self.replicas.embed(EmbeddingRequest(model=MODEL, texts=("a",)), Call("id"))

    def home(self, text: str) -> int:
        """Where the conversation would go now."""
        replica = self.replicas._choose(self.replicas._key(asking(text), Call("id")))
        assert replica is not None
        return int(replica.name)

    def text_at(self, home: int) -> str:
        """The beginning of a conversation that is at home there."""
        return next(text for i in range(1000) if self.home(text := f"Question {i}") == home)

    @property
    def asked(self) -> list[int]:
        """How many requests each engine got."""
        return [len(engine.chats) for engine in self.engines]

    @property
    def states(self) -> list[State]:
        return [status.state for status in self.replicas.status()]


def asking(text: str, *later: Message) -> ChatRequest:
    return ChatRequest(model=MODEL, messages=(Message(role="user", content=text), *later), max_tokens=9)


@asynccontextmanager
async def cluster(
    size: int = 2,
    *,
    places: int | None = None,
    weights: tuple[float, ...] = (),
    queue: int = 64,
    profile: str = "vllm",
) -> AsyncIterator[Cluster]:
    clock = Clock()
    engines = [FakeVllm() for _ in range(size)]
    async with AsyncExitStack() as stack:
        transport = open_transport(connect_timeout=5)
        stack.push_async_callback(transport.aclose)
        served = [await stack.enter_async_context(serving(engine)) for engine in engines]
        replicas = []
        for number, server in enumerate(served):
            endpoint = Endpoint(
                name="farm",
                base_url=f"{server.url}/v1",
                profile=PROFILES[profile],
                max_concurrency=places,
                queue=queue,
            )
            weight = weights[number] if weights else 1.0
            replicas.append(replica_of(str(number), EngineCalls(transport, endpoint), weight=weight, clock=clock))
        farm = Replicas("farm", replicas, interval=0.001, clock=clock, draw=random.Random(7).random)
        yield Cluster(engines, served, farm, clock)


async def until(done: Callable[[], bool]) -> None:
    """Wait for what the other tasks and the sockets bring about."""
    async with asyncio.timeout(DEADLINE):
        for _ in iter(done, True):
            await asyncio.sleep(0)


# ---------------------------------------------------------------- choice


async def test_load_goes_to_the_idle_one() -> None:
    async with cluster() as farm, asyncio.TaskGroup() as tasks:
        release = farm.engines[0].tokens_held = asyncio.Event()
        busy = [tasks.create_task(farm.stream(farm.text_at(0))) for _ in range(3)]
        await until(lambda: farm.engines[0].running == 3)
        before = farm.asked
        for _ in range(5):
            await farm.embed()
        assert farm.asked == [before[0], before[1] + 5]
        release.set()
        assert [await task for task in busy] == ["Hello there"] * 3


async def test_requests_without_a_history_are_spread() -> None:
    async with cluster(3) as farm:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(30):
                tasks.create_task(farm.embed())
        assert sum(farm.asked) == 30 and min(farm.asked) >= 5


async def test_what_an_engine_reports_as_waiting_counts_too() -> None:
    async with cluster() as farm:
        text = farm.text_at(0)
        farm.engines[0].backlog = 100  # of clients that the relay knows nothing of
        await farm.ask(text)
        assert farm.asked == [1, 0]
        await farm.replicas.look()
        assert farm.replicas.status()[0].waiting == 100
        assert farm.states == [State.BUSY, State.UP]
        await farm.ask(text)
        await farm.embed()
        assert farm.asked == [1, 2]
        farm.clock.now += FRESH + 1  # the news is too old to go by
        assert farm.replicas.status()[0].waiting == 0
        await farm.ask(text)
        assert farm.asked == [2, 2]


async def test_a_stronger_one_takes_its_share() -> None:
    async with cluster(weights=(1.0, 3.0)) as farm:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(40):
                tasks.create_task(farm.embed())
        assert farm.asked[1] == pytest.approx(30, abs=3)


async def test_a_conversation_stays_where_it_began_and_others_go_elsewhere() -> None:
    async with cluster(3) as farm:
        text = farm.text_at(1)
        turns: tuple[Message, ...] = ()
        for i in range(5):
            await farm.replicas.chat(asking(text, *turns), Call(f"turn-{i}"))
            turns += (Message(role="assistant", content="Hello"), Message(role="user", content=f"More {i}"))
        assert farm.asked == [0, 5, 0]
        for i in range(30):
            await farm.ask(f"Question {i}")
        assert min(farm.asked) >= 5


async def test_equal_beginnings_of_different_tenants_are_different_conversations() -> None:
    async with cluster() as farm:
        for i in range(20):
            call = Call("id")
            call.tenant = f"key-{i}"
            await farm.ask("Hi", call)
        assert min(farm.asked) >= 4
        before = farm.asked
        for i in range(8):
            call = Call("id")
            call.tenant, call.affinity = f"key-{i}", "the-same-session"
            await farm.ask("Hi", call)
        assert sorted(now - old for now, old in zip(farm.asked, before, strict=True)) == [0, 8]


async def test_a_tenant_is_known_by_its_token() -> None:
    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["call"].tenant)

    for state in ({}, {"principal": Principal("key-1a2b3c4d")}):
        scope = {"type": "http", "raw_path": b"/", "state": {"call": Call("id"), **state}}
        await Preconditions(app)(scope, _nothing, _nothing)
    assert seen == [None, "key-1a2b3c4d"]


async def _nothing(*arguments: object) -> Any:
    raise AssertionError("nobody reads or writes")


async def test_a_conversation_leaves_an_engine_that_is_much_busier_and_comes_back() -> None:
    async with cluster(places=4) as farm:
        text = farm.text_at(0)
        release = farm.engines[0].tokens_held = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(farm.stream(text))
                await asyncio.sleep(0)
            await until(lambda: farm.engines[0].running == 4)
            assert farm.asked == [4, 0], "the fifth waits in the relay, for its cache is there"
            assert await farm.stream(text) == "Hello there"
            assert farm.asked == [4, 1]
            release.set()
        assert await farm.ask(text) == "Hello there"
        assert farm.asked == [6, 1]


# ---------------------------------------------------------------- failures before the first event

ELSEWHERE: dict[str, tuple[int, str]] = {
    "a limit": (429, "rate_limit_exceeded"),
    "a bug": (500, "upstream_error"),
    "a bad gateway": (502, "upstream_error"),
    "no capacity": (503, "overloaded"),
    "a gateway's patience": (504, "upstream_timeout"),
    "a wrong key": (401, "upstream_auth"),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("status", "code"), ELSEWHERE.values(), ids=ELSEWHERE)
async def test_another_is_asked_where_one_fails(status: int, code: str, streamed: bool) -> None:
    async with cluster() as farm:
        text = farm.text_at(1)
        farm.engines[1].status = status
        call = Call("id")
        assert await (farm.stream if streamed else farm.ask)(text, call) == "Hello there"
        assert farm.asked == [1, 1]
        assert call.handovers == [f"farm/1={code}"]
        assert call.upstream == "farm"


async def test_it_is_asked_once() -> None:
    async with cluster(3) as farm:
        for engine in farm.engines:
            engine.status = 500
        with pytest.raises(RelayError) as caught:
            await farm.ask()
        assert caught.value.fault is Fault.UPSTREAM_ERROR
        assert sorted(farm.asked) == [0, 1, 1]


async def test_what_is_wrong_with_the_request_is_wrong_everywhere() -> None:
    async with cluster() as farm:
        for engine in farm.engines:
            engine.status = 400
        call = Call("id")
        with pytest.raises(RelayError) as caught:
            await farm.stream("Hi", call)
        assert caught.value.fault is Fault.INVALID_VALUE
        assert sum(farm.asked) == 1 and call.handovers == []


async def test_nobody_else_is_asked_for_a_client_that_waits_no_longer() -> None:
    async with cluster() as farm:
        with pytest.raises(RelayError) as caught:
            await farm.ask("Hi", Call("id", deadline=0.0))
        assert caught.value.fault is Fault.UPSTREAM_TIMEOUT
        assert sum(status.last_error is not None for status in farm.replicas.status()) == 1


async def test_a_full_queue_of_one_is_a_reason_to_ask_another() -> None:
    async with cluster(places=1, queue=0) as farm:
        text = farm.text_at(0)
        release = farm.engines[0].tokens_held = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(farm.stream(text))
            await until(lambda: farm.engines[0].running == 1)
            call = Call("id")
            assert await farm.stream(text, call) == "Hello there"
            assert call.handovers == ["farm/0=overloaded"]
            assert farm.states == [State.UP, State.UP], "it is the relay that has no more places, not the engine"
            release.set()
        assert first.result() == "Hello there"


async def test_one_that_dies_under_load_costs_no_request_that_had_not_begun() -> None:
    async with cluster(3) as farm:
        failures: list[tuple[RelayError, bool]] = []
        answers = 0

        async def client(number: int) -> None:
            nonlocal answers
            for turn in range(20):
                begun = False
                try:
                    if turn % 2:
                        await farm.ask(f"{number} {turn}")
                    else:
                        async with farm.replicas.stream_chat(asking(f"{number} {turn}"), Call("id")) as batches:
                            async for _ in batches:
                                begun = True
                    answers += 1
                except RelayError as exc:
                    failures.append((exc, begun))

        half_done = asyncio.Event()

        async def reader(text: str) -> None:
            async with farm.replicas.stream_chat(asking(text), Call("id")) as batches:
                await anext(batches)
                half_done.set()
                failures.append((await _failure(anext(batches)), True))

        async with asyncio.TaskGroup() as tasks:
            for number in range(12):
                tasks.create_task(client(number))
            await until(lambda: answers >= 60)
            farm.engines[1].tokens_held = asyncio.Event()
            tasks.create_task(reader(farm.text_at(1)))
            await until(lambda: farm.engines[1].running >= 4 and half_done.is_set())
            await farm.served[1].kill()
        assert failures and all(begun for _, begun in failures), "only what had begun is told of it"
        assert {exc.fault for exc, _ in failures} == {Fault.UPSTREAM_ERROR}
        assert answers + len(failures) == 241
        assert farm.states == [State.UP, State.DOWN, State.UP]


async def test_an_answer_that_breaks_off_is_not_begun_anew_but_counts() -> None:
    async with cluster() as farm:
        text, engine = farm.text_at(0), farm.engines[0]
        for failures in range(1, THRESHOLD + 1):
            engine.tokens_held = asyncio.Event()
            engine.begun.clear()
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(_failure(farm.stream(text)))
                await engine.begun.wait()
                await until(lambda: farm.replicas.status()[0].first_token is not None)
                farm.served[0].hang_up()
            assert task.result().fault is Fault.UPSTREAM_ERROR
            assert farm.asked == [failures, 0]
        assert farm.states == [State.DOWN, State.UP]
        engine.tokens_held = None
        farm.clock.now += FIRST_PAUSE
        assert await farm.stream(text) == "Hello there"
        assert farm.asked == [THRESHOLD + 1, 0] and farm.states == [State.UP, State.UP]


async def test_what_the_client_does_in_mid_answer_says_nothing_of_the_engine() -> None:
    async with cluster() as farm:
        text = farm.text_at(0)
        for _ in range(THRESHOLD):
            with pytest.raises(RelayError, match="shutting down"):
                async with farm.replicas.stream_chat(asking(text), Call("id")):
                    raise RelayError(Fault.OVERLOADED, "The relay is shutting down.")
        assert farm.states == [State.UP, State.UP] and farm.replicas.status()[0].open == 0


async def _failure(work: Awaitable[object]) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await work
    return caught.value


# ---------------------------------------------------------------- wishes to be left alone


async def test_retry_after_closes_it_to_new_work_that_long() -> None:
    async with cluster() as farm:
        text = farm.text_at(0)
        farm.engines[0].status, farm.engines[0].retry_after = 429, 7
        await farm.ask(text)
        farm.engines[0].status = None
        assert farm.states == [State.RESTING, State.UP]
        assert "no new work for 7 seconds" in farm.replicas.status()[0].reason
        farm.clock.now += 6.9
        await farm.ask(text)
        assert farm.asked == [1, 2]
        farm.clock.now += 0.2
        await farm.ask(text)
        assert farm.asked == [2, 2] and farm.states == [State.UP, State.UP]


async def test_where_all_ask_for_time_the_client_is_told_how_long() -> None:
    async with cluster() as farm:
        for engine, seconds in zip(farm.engines, (9, 20), strict=True):
            engine.status, engine.retry_after = 503, seconds
        with pytest.raises(RelayError):
            await farm.ask()
        farm.clock.now += 2
        asked, call = farm.asked, Call("id")
        with pytest.raises(RelayError, match=r"No replica of the engine 'farm' can take work \(2 resting\)") as caught:
            await farm.ask("Hi", call)
        assert caught.value.fault is Fault.OVERLOADED and caught.value.retry_after == pytest.approx(7)
        assert farm.asked == asked == [1, 1] and call.upstream == "farm"


# ---------------------------------------------------------------- draining


async def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    async with cluster() as farm:
        text = farm.text_at(0)
        release = farm.engines[0].tokens_held = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(farm.stream(text))
            await farm.engines[0].begun.wait()
            farm.replicas.drain(["0"])
            assert farm.states == [State.DRAINING, State.UP]
            for _ in range(5):
                await farm.ask(text)
                await farm.embed()
            assert farm.asked == [1, 10]
            assert farm.replicas.status()[0].open == 1
            release.set()
        assert running.result() == "Hello there" and farm.replicas.status()[0].open == 0
        farm.replicas.drain([])
        await farm.ask(text)
        assert farm.asked == [2, 10]


@pytest.mark.parametrize("size", [1, 2])
async def test_what_is_drained_is_not_asked_even_if_nobody_else_is_left(size: int) -> None:
    async with cluster(size) as farm:
        farm.replicas.drain(["0", "1"])
        call = Call("id")
        with pytest.raises(RelayError, match="^The engine 'farm' is drained: it takes no new requests") as caught:
            await farm.ask("Hi", call)
        assert (caught.value.fault, caught.value.retry_after) == (Fault.OVERLOADED, None)
        assert farm.asked == [0] * size and call.upstream == "farm" and farm.replicas.is_drained


async def test_who_is_drained_is_not_the_least_bad_of_those_in_trouble() -> None:
    async with cluster() as farm:
        farm.replicas.drain(["0"])
        farm.engines[1].status, farm.engines[1].retry_after = 503, 9
        for _ in range(2):
            with pytest.raises(RelayError) as caught:
                await farm.ask()
        assert "(1 draining, 1 resting)" in caught.value.message
        assert farm.asked == [0, 1] and not farm.replicas.is_drained


async def test_one_alone_is_asked_whatever_is_known_of_it() -> None:
    async with cluster(1) as farm:
        (engine,) = farm.engines
        engine.status, engine.retry_after = 503, 20
        for tries in range(1, THRESHOLD + 2):
            with pytest.raises(RelayError, match="^The engine"):
                await farm.ask()
            assert farm.asked == [tries]
        engine.status = None
        assert await farm.ask() == "Hello there" and farm.asked == [THRESHOLD + 2]


async def test_an_engine_that_is_told_to_stop_finishes_what_it_has() -> None:
    async with cluster() as farm:
        text = farm.text_at(0)
        release = farm.engines[0].tokens_held = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(farm.stream(text))
            await farm.engines[0].begun.wait()
            farm.engines[0].draining = True
            for _ in range(LOOKS):
                assert farm.states[0] is State.UP, "one look may be lost"
                await farm.replicas.look()
            assert farm.states == [State.DOWN, State.UP]
            assert farm.replicas.status()[0].reason == "it answers with status 503"
            await farm.ask(text)
            assert farm.asked == [1, 1]
            release.set()
        assert running.result() == "Hello there"


# ---------------------------------------------------------------- the breaker


@pytest.mark.parametrize("way", [Cluster.ask, Cluster.stream])
async def test_callers_in_a_hurry_shut_out_nobody(way: Callable[..., Awaitable[str]]) -> None:
    async with cluster() as farm:
        for _ in range(2 * THRESHOLD):
            with pytest.raises(RelayError):
                await way(farm, call=Call("id", deadline=time.monotonic() - 1))
        assert farm.states == [State.UP, State.UP]


async def test_one_that_flaps_is_left_alone_longer_and_longer() -> None:
    async with cluster() as farm:
        text, flapping = farm.text_at(0), farm.engines[0]
        flapping.status = 500
        for _ in range(THRESHOLD + 4):
            assert await farm.ask(text) == "Hello there"
        assert farm.asked[0] == THRESHOLD and farm.states == [State.DOWN, State.UP]
        assert "it keeps failing" in farm.replicas.status()[0].reason
        pause, asked = FIRST_PAUSE, THRESHOLD
        for _ in range(6):
            await farm.replicas.look()  # it says that it is well, which is not what counts
            farm.clock.now += pause - 0.1
            await farm.ask(text)
            assert farm.asked[0] == asked
            farm.clock.now += 0.2
            await farm.ask(text)
            asked += 1
            assert farm.asked[0] == asked, "the trial"
            pause = min(2 * pause, LONGEST_PAUSE)
        flapping.status = None
        farm.clock.now += pause + 0.1
        await farm.ask(text)
        assert farm.states == [State.UP, State.UP]


async def test_a_trial_is_a_single_request() -> None:
    async with cluster() as farm:
        text, engine = farm.text_at(0), farm.engines[0]
        engine.status = 500
        for _ in range(THRESHOLD):
            await farm.ask(text)
        engine.status, engine.tokens_held = None, asyncio.Event()
        farm.clock.now += FIRST_PAUSE
        async with asyncio.TaskGroup() as tasks:
            trial = tasks.create_task(farm.ask(text))
            await until(lambda: engine.running == 1)
            before = farm.asked
            await farm.ask(text)
            assert farm.asked == [before[0], before[1] + 1]
            engine.tokens_held.set()
        assert trial.result() == "Hello there" and farm.states[0] is State.UP


async def test_one_that_was_gone_and_is_there_again_starts_anew() -> None:
    async with cluster() as farm:
        text, engine = farm.text_at(0), farm.engines[0]
        engine.status, engine.draining = 500, True
        for _ in range(THRESHOLD):
            await farm.ask(text)
        for _ in range(LOOKS):
            await farm.replicas.look()
        engine.status, engine.draining = None, False
        assert farm.states == [State.DOWN, State.UP]
        await farm.replicas.look()
        assert farm.states == [State.UP, State.UP]
        await farm.ask(text)
        assert farm.asked[0] == THRESHOLD + 1


async def test_with_nobody_in_order_the_least_bad_is_tried() -> None:
    async with cluster() as farm:
        text = farm.text_at(0)
        for engine in farm.engines:
            engine.draining = True
        for _ in range(LOOKS):
            await farm.replicas.look()
        assert farm.states == [State.DOWN, State.DOWN]
        assert await farm.ask(text) == "Hello there", "what the looks say may be wrong"
        assert sorted(state.value for state in farm.states) == ["down", "up"]


async def test_with_nobody_in_order_the_error_says_so() -> None:
    async with cluster() as farm:
        for server in farm.served:
            await server.kill()
        for _ in range(2 * THRESHOLD):
            with pytest.raises(RelayError):
                await farm.ask()
        with pytest.raises(RelayError) as caught:
            await farm.ask()
        assert caught.value.fault is Fault.UPSTREAM_UNREACHABLE
        assert caught.value.message == (
            "No replica of the engine 'farm' can take work (2 down). The upstream could not be reached."
        )
        before = farm.states
        with pytest.raises(InvalidRequest) as refused:  # the caller's mistake stays what it was
            await farm.replicas.chat(
                ChatRequest(model=MODEL, messages=asking("Hi").messages, unsupported=("verbosity",)),
                Call("id", strict=True),
            )
        assert refused.value.message.startswith("Strict mode") and before == [State.DOWN, State.DOWN]


async def test_news_that_are_old_are_no_news() -> None:
    async with cluster() as farm:
        farm.engines[0].draining = True
        for _ in range(LOOKS):
            await farm.replicas.look()
        assert farm.states == [State.DOWN, State.UP]
        farm.clock.now += FRESH + 1
        assert farm.states == [State.UP, State.UP]


async def test_a_single_one_is_no_worse_for_being_one_of_several() -> None:
    async with cluster(1) as farm:
        assert await farm.stream() == "Hello there"
        farm.engines[0].status = 500
        for tries in range(1, 3):
            with pytest.raises(RelayError, match="^The engine failed"):
                await farm.ask()
            assert farm.asked == [1 + tries]


# ---------------------------------------------------------------- looks


async def test_the_status_tells_what_an_operator_asks() -> None:
    async with cluster() as farm:
        before = farm.replicas.status()[0]
        assert (before.looked, before.first_token, before.failed, before.reason) == (None, None, None, "")
        text = farm.text_at(0)
        await farm.stream(text)
        farm.engines[0].status = 500
        await farm.ask(text)
        await farm.replicas.look()
        farm.clock.now += 3
        status = farm.replicas.status()[0]
        assert (status.name, status.state, status.weight, status.open) == ("0", State.UP, 1.0, 0)
        assert (status.looked, status.failed, status.last_error) == (3.0, 3.0, Fault.UPSTREAM_ERROR)
        assert status.first_token == 0.0, "on a clock that stands still"


async def test_an_engine_of_no_known_kind_is_looked_at_by_its_list_of_models() -> None:
    async with cluster(profile="openai") as farm:
        farm.engines[0].backlog = 100
        await farm.served[1].kill()
        for _ in range(LOOKS):
            await farm.replicas.look()
        assert farm.states == [State.UP, State.DOWN]
        assert farm.replicas.status()[0].waiting == 0, "it does not say"


async def test_looks_go_on_while_anybody_asks(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster() as farm:
        async with farm.replicas.running():
            for _ in range(20):
                await asyncio.sleep(0)
            assert farm.engines[0].looks == 0, "nobody has asked for anything"
            await farm.ask()
            await until(lambda: min(engine.looks for engine in farm.engines) >= 3)
            farm.engines[1].draining = True
            await until(lambda: farm.states[1] is State.DOWN)
            farm.engines[1].draining = False
            await until(lambda: farm.states[1] is State.UP)
        assert [record.getMessage() for record in caplog.records] == [
            "replica farm/1 is down: it answers with status 503",
            "replica farm/1 is up",
        ]


def test_nobody_looks_at_engines_that_nobody_uses() -> None:
    looks = Counter[float]()

    async def scene() -> None:
        loop = asyncio.get_running_loop()

        async def look(open_requests: int) -> Health:
            looks[loop.time()] += 1
            return Health(ready=True)

        transport = open_transport(connect_timeout=1)
        endpoint = Endpoint(name="farm", base_url="http://127.0.0.1:9/v1", profile=PROFILES["vllm"])
        replica = replica_of("0", EngineCalls(transport, endpoint), clock=loop.time)
        replica = Replica("0", replica.engine, look, clock=loop.time)
        farm = Replicas("farm", [replica], interval=5.0, clock=loop.time, draw=lambda: 0.5)
        async with farm.running():
            await asyncio.sleep(3600)
            assert not looks
            with pytest.raises(InvalidRequest):  # refused before any engine is asked; it is a request all the same
                await farm.chat(
                    ChatRequest(model=MODEL, messages=(), unsupported=("verbosity",)), Call("id", strict=True)
                )
            await asyncio.sleep(3600)
            assert looks == {3600.0 + 5.0 * i: 1 for i in range(int(IDLE / 5) + 1)}
        await transport.aclose()

    simulate(scene())


async def test_a_bug_in_a_look_is_logged_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(1) as farm:
        prompt = "what " + "somebody asked"

        async def look(open_requests: int) -> Health:
            raise ZeroDivisionError(prompt)

        (replica,) = farm.replicas._replicas
        replica.look = look
        await farm.replicas.look()
        assert farm.states == [State.UP]
        assert "bug: ZeroDivisionError while replica farm/0 was looked at" in caplog.text
        assert prompt not in caplog.text
