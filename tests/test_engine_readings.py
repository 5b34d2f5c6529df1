"""What the metrics tell of engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from adapters.engine_calls import Endpoint, EngineCalls
from adapters.errors import Fault, RelayError
from adapters.local.status import EngineStatus, State
from adapters.profiles import PROFILES
from adapters.replica import replica_of
from adapters.replicas import Replicas
from adapters.transport import open_transport
from proxy.engine_readings import EngineReadings, LocalStatus
from proxy.metrics import EngineReading
from tests.support.simulated_time import simulate

GPU = EngineStatus(
    name="gpu",
    state=State.STARTING,
    seconds=1.0,
    pid=None,
    address=None,
    waiting=2,
    busy=False,
    idle_for=None,
    starts=1,
    failures=0,
    retry_in=None,
    progress="",
    error=None,
    memory=None,
)


async def well() -> Sequence[EngineStatus]:
    return [GPU]


async def refused() -> Sequence[EngineStatus]:
    raise RelayError(Fault.UPSTREAM_UNREACHABLE, "The supervisor is gone.")


async def hanging() -> Sequence[EngineStatus]:
    await asyncio.Event().wait()
    return []


SOURCES: dict[str, tuple[LocalStatus | None, list[EngineReading]]] = {
    "no local engines": (None, []),
    "a local engine": (well, [EngineReading(engine="gpu", state="starting")]),
    "a supervisor that refuses": (refused, []),
    "a supervisor that hangs": (hanging, []),
}


@pytest.mark.parametrize(("local", "expected"), SOURCES.values(), ids=SOURCES)
def test_engines_are_read_as_far_as_they_can_be(local: LocalStatus | None, expected: list[EngineReading]) -> None:
    async def scene() -> None:
        transport = open_transport(connect_timeout=1)
        endpoint = Endpoint(name="farm", base_url="http://127.0.0.1:9/v1", profile=PROFILES["vllm"])
        farm = Replicas("farm", [replica_of("1", EngineCalls(transport, endpoint))])
        farm.drain(["1"])
        drained = EngineReading(engine="farm", replica="1", state="draining", open=0, waiting=0)
        assert await EngineReadings([farm], local=local)() == [*expected, drained]
        await transport.aclose()

    simulate(scene())


@pytest.mark.parametrize(("drained", "state"), [((), "starting"), (("",), "draining")])
def test_a_local_engine_has_its_state_of_the_supervisor_and_its_requests_of_this_process(
    drained: tuple[str, ...], state: str
) -> None:
    async def scene() -> None:
        transport = open_transport(connect_timeout=1)
        endpoint = Endpoint(name="gpu", base_url="http://127.0.0.1:9/v1", profile=PROFILES["vllm"])
        replica = replica_of("", EngineCalls(transport, endpoint))
        gpu = Replicas("gpu", [replica])
        gpu.drain(drained)
        with replica.occupied():
            assert await EngineReadings([], [gpu], well)() == [EngineReading(engine="gpu", state=state, open=1)]
        await transport.aclose()

    simulate(scene())
