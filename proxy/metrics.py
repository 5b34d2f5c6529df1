"""What the relay counts, for Prometheus: one set of figures however many worker processes there are.

Nothing here happens for each chunk; a request costs a handful of additions. With several processes each keeps its
figures in files of a folder that all of them share (prometheus_client's multiprocess mode, which `shared_figures`
prepares), and whoever is asked adds them up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, Literal, Protocol, TypeVar

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import Receive, Scope, Send

from adapters.base import Call
from proxy.answers import send_body
from proxy.scratch_folder import scratch_folder

M = TypeVar("M", bound=MetricWrapperBase)

_MOST_MODELS = 1000  # each is a series of its own for ever
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_REFRESH = 5.0  # seconds; so old may be what another process says of its engines
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable in which prometheus_client looks for the folder, as it is imported."""

_Merge = Literal["livemax", "livesum"]


class EngineReading(msgspec.Struct, frozen=True, kw_only=True):
    """One engine, or one of its replicas, at this moment.

    `open` are this process's requests, `waiting` those in the engine's own queue; `None` where nobody counts.
    """

    engine: str
    replica: str = ""
    state: str
    open: int | None = None
    waiting: int | None = None


class EngineSource(Protocol):
    """Reads the engines. Costs little, raises nothing."""

    def __call__(self) -> Awaitable[Iterable[EngineReading]]: ...


class _Children(dict[tuple[str, ...], M], Generic[M]):
    """The series of one metric by their labels: a third of what `labels()` costs."""

    def __init__(self, metric: M) -> None:
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child = self[labels] = self._metric.labels(*labels)
        return child


class Metrics:
    """An observer of requests, and the page that tells of them.

    `is_known` says whether a model's id is one of the catalogue's or an engine's: callers may ask for anything, and
    every name is kept for ever.
    """

    def __init__(
        self,
        is_known: Callable[[str], bool],
        *,
        open_breakers: Callable[[], Mapping[str, int]] = dict,
        engines: EngineSource | None = None,
    ) -> None:
        self._is_known = is_known
        self._open_breakers = open_breakers
        self._engine_source = engines
        self._registry = registry = CollectorRegistry()
        # Else there is one more series for each of ours, of which the text format makes nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        self._is_shared = values.ValueClass is not values.MutexValue
        self._models: dict[str, str] = {}
        self._states: dict[tuple[str, str], str] = {}

        def counter(name: str, text: str, *labels: str) -> _Children[Counter]:
            return _Children(Counter(name, text, labels, registry=registry))

        def gauge(name: str, text: str, *labels: str, merge: _Merge) -> _Children[Gauge]:
            return _Children(Gauge(name, text, labels, registry=registry, multiprocess_mode=merge))

        def histogram(name: str, text: str, *labels: str) -> _Children[Histogram]:
            return _Children(Histogram(name, text, labels, registry=registry, buckets=_SECONDS))

        self._requests = counter("relay_requests_total", "Requests, by the route's path.", "route", "status")
        self._answers = counter(
            "relay_answers_total",
            "Requests that came to an upstream, by who answered last and how that ended.",
            *("upstream", "model", "outcome"),
        )
        self._handovers = counter(
            "relay_handovers_total", "Upstreams passed over for the next, by why.", "upstream", "reason"
        )
        self._tokens = counter("relay_tokens_total", "Tokens of whole answers.", "upstream", "direction")
        self._seconds = histogram("relay_request_seconds", "From a request's head to its answer's end.", "route")
        self._first_event = histogram(
            "relay_first_event_seconds", "From a request's head to a stream's first event.", "upstream"
        )
        self._breakers = gauge(
            "relay_breakers_open", "Models that an upstream keeps failing for.", "upstream", merge="livemax"
        )
        self._engines = gauge(
            "relay_engine_state", "1 for the state that it is in.", "engine", "replica", "state", merge="livemax"
        )
        self._open = gauge(
            "relay_engine_open_requests", "The relay's requests there.", "engine", "replica", merge="livesum"
        )
        self._waiting = gauge(
            "relay_engine_waiting_requests", "Requests in its own queue.", "engine", "replica", merge="livemax"
        )
        if self._is_shared:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]  # as above

    def finished(self, call: Call, route: str, status: int, started: float, ended: float) -> None:
        """As `proxy.telemetry.Observer`."""
        self._requests[route, str(status or "none")].inc()
        self._seconds[(route,)].observe(ended - started)
        for handover in call.handovers:
            upstream, _, reason = handover.rpartition("=")
            self._handovers[upstream, reason].inc()
        upstream_name = call.upstream
        if upstream_name is None:
            return
        outcome = call.outcome or ("ok" if status < 400 else f"status_{status}")
        self._answers[upstream_name, self._model(call.model), outcome].inc()
        if call.first_event_at is not None:
            self._first_event[(upstream_name,)].observe(call.first_event_at - started)
        if call.prompt_tokens:
            self._tokens[upstream_name, "prompt"].inc(call.prompt_tokens)
        if call.completion_tokens:
            self._tokens[upstream_name, "completion"].inc(call.completion_tokens)

    async def refresh(self) -> None:
        """Read what is not counted but is: breakers and engines, as this process sees them."""
        breakers = self._open_breakers()
        for upstream in {*breakers, *(labels[0] for labels in self._breakers)}:
            self._breakers[(upstream,)].set(breakers.get(upstream, 0))
        for reading in await self._engine_source() if self._engine_source is not None else ():
            key = reading.engine, reading.replica
            before = self._states.get(key, reading.state)
            if before != reading.state:
                self._engines[*key, before].set(0)
            self._states[key] = reading.state
            self._engines[*key, reading.state].set(1)
            if reading.open is not None:
                self._open[key].set(reading.open)
            if reading.waiting is not None:
                self._waiting[key].set(reading.waiting)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep what other processes tell of this one up to date, until the block is left."""
        async with asyncio.TaskGroup() as tasks:
            refreshing = tasks.create_task(self._keep_fresh()) if self._is_shared else None
            try:
                yield
            finally:
                if refreshing is not None:
                    refreshing.cancel()

    async def page(self) -> bytes:
        """All figures in the text format 0.0.4. In a thread: with many processes there are many files to read."""
        await self.refresh()
        return await asyncio.to_thread(generate_latest, self._registry)

    async def _keep_fresh(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(_REFRESH)

    def _model(self, model: str | None) -> str:
        if model is None:
            return ""
        label = self._models.get(model)
        if label is None:
            if len(self._models) >= _MOST_MODELS or not self._is_known(model):
                return "other"
            label = self._models[model] = model
        return label


class MetricsEndpoint:
    """`/metrics`, for a Prometheus that bears a token."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_body(send, await self._metrics.page(), media_type=CONTENT_TYPE_PLAIN_0_0_4.encode())


def keep_figures_in_memory() -> None:
    """For a process that serves alone: the variable may be there for somebody else, with a folder of theirs."""
    values.ValueClass = values.MutexValue


@contextmanager
def shared_figures() -> Iterator[Callable[[int], None]]:
    """A private folder for the figures of the processes that this one starts within the block, gone behind it.

    Gives what is to be called with the id of each of them that has ended.
    """
    with scratch_folder("relay-metrics-") as path:
        folder = str(path)
        # Past os.environ: engines get a copy of that, and vLLM would write its own figures there.
        os.putenv(_FOLDER, folder)
        try:
            yield lambda process: mark_process_dead(process, folder)  # type: ignore[no-untyped-call]  # as above
        finally:
            os.unsetenv(_FOLDER)
