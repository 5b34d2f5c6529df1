"""The measurements of one target, and of the upstream without any, as the figures that the report prints."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.load import Latency, Result, Spec
from benchmarks.processes import ROOT, Account, clean_environment
from benchmarks.targets import TOKEN, Running, Target


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. Requests count for a target of weight 1. `hold` is in seconds; chunks come every
    `interval` milliseconds, then every `busy`; of the `rounds` of streams the middle one counts."""

    alone: int
    together: int
    connections: int
    streams: int
    chunks: int
    interval: int
    busy: int
    rounds: int
    held: int
    hold: int
    starts: int


FULL = Plan(
    alone=5000,
    together=10000,
    connections=32,
    streams=50,
    chunks=200,
    interval=20,
    busy=5,
    rounds=5,
    held=1000,
    hold=10,
    starts=5,
)
QUICK = Plan(
    alone=1000,
    together=2000,
    connections=32,
    streams=50,
    chunks=60,
    interval=20,
    busy=5,
    rounds=3,
    held=200,
    hold=3,
    starts=3,
)


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """`alone` and `together`: whole answers at 1 and at many connections. `chunk`: the transit of one of a stream."""

    alone: Latency
    together: Latency
    first_chunk: Latency
    chunk: Latency


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a target costs. CPU in microseconds, memory in megabytes, start in seconds; latencies are beyond the
    upstream's own."""

    name: str
    cpu_request_alone: float
    cpu_request_together: float
    cpu_chunk: float
    cpu_chunk_busy: float
    added: Latencies
    requests_per_second: float
    requests: int
    memory_at_start: float
    memory_after: float
    memory_after_twice: float
    streams_wanted: int
    streams_held: int
    memory_holding: float
    startup: float
    failures: dict[str, int]


class Bench:
    """Measures against one running upstream. Raises RuntimeError when a target or the load fails altogether."""

    def __init__(self, plan: Plan, upstream: int) -> None:
        self._plan = plan
        self._upstream = upstream
        self._failures: dict[str, int] = {}

    def baseline(self) -> Latencies:
        """What the upstream takes when it is asked directly."""
        specs = self._specs(Spec(port=self._upstream), 1.0)
        alone, together, streamed = (self._load(spec) for spec in specs)
        return _latencies(alone, together, streamed)

    def figures(self, target: Target, baseline: Latencies) -> Figures:
        """Starts the target as often as the plan says, and ends it."""
        self._failures = {}
        startup = self._startup(target)
        with tempfile.TemporaryDirectory() as folder, target.start(self._upstream, Path(folder)) as running:
            return self._figures(target, running, startup, baseline)

    def _startup(self, target: Target) -> float:
        times = []
        for _ in range(self._plan.starts if target.weight == 1.0 else 1):
            with tempfile.TemporaryDirectory() as folder, target.start(self._upstream, Path(folder)) as running:
                times.append(running.startup)
        return median(times)

    def _figures(self, target: Target, running: Running, startup: float, baseline: Latencies) -> Figures:
        spec = Spec(port=running.port, token=TOKEN, model=target.model)
        one, many, stream = self._specs(spec, target.weight)
        memory = [running.account.resident_megabytes()]
        self._load(msgspec.structs.replace(many, requests=many.connections * 4))  # what is lazy, is done now
        alone, cpu_alone = self._counted(running.account, one)
        memory_runs = []
        for _ in range(2):
            memory_runs.append(self._counted(running.account, many))
            memory.append(running.account.resident_megabytes())
        together, cpu_together = memory_runs[0][0], sum(cpu for _, cpu in memory_runs) / 2
        streamed, cpu_stream = self._middle(running.account, stream)
        _, cpu_busy = self._middle(running.account, msgspec.structs.replace(stream, interval=self._plan.busy))
        held, memory_holding = self._hold(running, spec, target.weight)
        return Figures(
            name=target.name,
            cpu_request_alone=cpu_alone,
            cpu_request_together=cpu_together,
            cpu_chunk=cpu_stream / stream.chunks,
            cpu_chunk_busy=cpu_busy / stream.chunks,
            added=_difference(_latencies(alone, together, streamed), baseline),
            requests_per_second=together.answered / together.seconds,
            requests=many.requests,
            memory_at_start=memory[0],
            memory_after=memory[1],
            memory_after_twice=memory[2],
            streams_wanted=self._held(target.weight),
            streams_held=held,
            memory_holding=memory_holding,
            startup=startup,
            failures=self._failures,
        )

    def _specs(self, spec: Spec, weight: float) -> tuple[Spec, Spec, Spec]:
        plan = self._plan
        return (
            msgspec.structs.replace(spec, requests=max(50, round(plan.alone * weight))),
            msgspec.structs.replace(
                spec, requests=max(100, round(plan.together * weight)), connections=plan.connections
            ),
            msgspec.structs.replace(
                spec, requests=plan.streams, connections=plan.streams, chunks=plan.chunks, interval=plan.interval
            ),
        )

    def _counted(self, account: Account, spec: Spec) -> tuple[Result, float]:
        """The result, and the CPU microseconds that each request took."""
        before = account.cpu_seconds()
        result = self._load(spec)
        return result, (account.cpu_seconds() - before) / spec.requests * 1e6

    def _middle(self, account: Account, spec: Spec) -> tuple[Result, float]:
        """Of several rounds the one whose CPU time is in the middle."""
        rounds = [self._counted(account, spec) for _ in range(self._plan.rounds)]
        return sorted(rounds, key=lambda counted: counted[1])[len(rounds) // 2]

    def _held(self, weight: float) -> int:
        return max(50, round(self._plan.held * weight))

    def _hold(self, running: Running, spec: Spec, weight: float) -> tuple[int, float]:
        """Open streams that say something once a second; how many ran at once, and the memory with them open."""
        wanted = self._held(weight)
        spec = msgspec.structs.replace(spec, requests=wanted, connections=wanted, chunks=self._plan.hold, interval=1000)
        peak = 0.0
        with _loading(spec) as process:
            while process.poll() is None:
                peak = max(peak, running.account.resident_megabytes())
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
            return self._result(process, spec).held, peak

    def _load(self, spec: Spec) -> Result:
        with _loading(spec) as process:
            return self._result(process, spec)

    def _result(self, process: subprocess.Popen[bytes], spec: Spec) -> Result:
        try:
            output, _ = process.communicate(timeout=spec.patience + 10)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the load on port {spec.port} did not end") from None
        if process.returncode:
            raise RuntimeError(f"the load on port {spec.port} ended with status {process.returncode}")
        result = msgspec.json.decode(output, type=Result)
        for failure, count in result.failures.items():
            self._failures[failure] = self._failures.get(failure, 0) + count
        if not result.answered:
            raise RuntimeError(f"no request succeeded: {result.failures}")
        return result


@contextmanager
def _loading(spec: Spec) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "benchmarks.load", msgspec.json.encode(spec).decode()]
    with subprocess.Popen(command, env=clean_environment(), cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()  # a no-op where it has ended


def _latencies(alone: Result, together: Result, streamed: Result) -> Latencies:
    return Latencies(alone=alone.whole, together=together.whole, first_chunk=streamed.first, chunk=streamed.transit)


def _difference(measured: Latencies, baseline: Latencies) -> Latencies:
    return Latencies(
        alone=measured.alone - baseline.alone,
        together=measured.together - baseline.together,
        first_chunk=measured.first_chunk - baseline.first_chunk,
        chunk=measured.chunk - baseline.chunk,
    )
