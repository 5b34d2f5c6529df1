"""The operator's engines as upstreams, and who answers for the models that they have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from adapters.catalogue import Catalogue
from adapters.cloudflare_calls import Timeouts
from adapters.engine_calls import QUEUE, Endpoint, EngineCalls
from adapters.local.address import EngineAddress
from adapters.local.leased import LeasedEngine, Leases
from adapters.local.spec import EngineSpec
from adapters.profiles import PROFILES
from adapters.replica import Replica, replica_of
from adapters.replicas import Replicas
from adapters.transport import Transport, open_transport
from proxy.backends import Upstream
from proxy.engine_models import engines_of
from proxy.model_rules import Candidate
from proxy.own_engines import groups

_UNIX = "unix:"


class Engines:
    """Makes an upstream of each engine; `running` holds what they need while the server does.

    `learn` is told the name of an engine of our own that runs, and how many tokens a request to it may have.
    """

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        *,
        transport: Transport,
        leases: Leases,
        timeouts: Timeouts,
        hop: str,
        user_agent: str,
        learn: Callable[[str, int], None],
    ) -> None:
        self._specs = specs
        self._transport = transport
        self._leases = leases
        self._timeouts = timeouts
        self._hop = hop
        self._user_agent = user_agent
        self._learn = learn
        self._own: dict[str | None, Transport] = {}
        self._replicas: list[Replicas] = []
        self._alone: list[Replicas] = []

    def upstreams(self) -> dict[str, Upstream]:
        return {name: self._upstream(name, specs) for name, specs in groups(self._specs).items()}

    @property
    def replicas(self) -> Sequence[Replicas]:
        """The remote engines, and those on several devices: the relay looks at them itself."""
        return self._replicas

    @property
    def alone(self) -> Sequence[Replicas]:
        """The other local engines: the supervisor looks at them."""
        return self._alone

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch over replicas until the block is left, then close the sockets."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            for replicas in self._replicas:
                await stack.enter_async_context(replicas.running())
            yield

    async def _close(self) -> None:
        async with AsyncExitStack() as stack:
            for transport in self._own.values():
                stack.push_async_callback(transport.aclose)

    def _upstream(self, name: str, specs: Sequence[EngineSpec]) -> Upstream:
        """`specs` is one engine, or one of ours for each of several devices."""
        spec = specs[0]
        if spec.group is not None:
            engine = Replicas(name, [self._on_device(member, member.name) for member in specs])
        elif spec.is_local:
            engine = Replicas(name, [self._on_device(spec, "")])
        else:
            engine = self._remote(spec)
        (self._alone if spec.is_local and spec.group is None else self._replicas).append(engine)
        return Upstream(
            chat=engine,
            embedder=engine,
            engine=True,
            context_window=spec.context_window,
            is_drained=lambda: engine.is_drained,
        )

    def _local(self, spec: EngineSpec) -> LeasedEngine:
        learn = partial(self._learn, spec.name) if spec.own is not None else None
        return LeasedEngine(spec.name, self._leases, lambda address: self._calls(spec, address), learn)

    def _on_device(self, spec: EngineSpec, name: str) -> Replica:
        engine = self._local(spec)
        return Replica(name, engine, engine.look)

    def _remote(self, spec: EngineSpec) -> Replicas:
        weights = spec.weights or (1.0,) * len(spec.urls)
        replicas = [
            replica_of(str(place), self._calls(spec, _address(url)), weight=weight)  # clients hear of it: no addresses
            for place, (url, weight) in enumerate(zip(spec.urls, weights, strict=True), 1)
        ]
        return Replicas(spec.name, replicas)

    def _calls(self, spec: EngineSpec, address: EngineAddress) -> EngineCalls:
        endpoint = Endpoint(
            name=spec.upstream,
            base_url=address.url,
            profile=PROFILES[spec.profile],
            api_key=spec.api_key,
            models=spec.models,
            max_concurrency=spec.max_concurrency,
            queue=QUEUE if spec.queue is None else spec.queue,
            context_window=spec.context_window,
        )
        transport = self._near(address.uds) if spec.is_local or address.uds else self._transport
        return EngineCalls(transport, endpoint, timeouts=self._timeouts, hop=self._hop, user_agent=self._user_agent)

    def _near(self, uds: str | None) -> Transport:
        """The transport to this machine, which no proxy may come between; one for each Unix socket."""
        transport = self._own.get(uds)
        if transport is None:
            transport = open_transport(connect_timeout=self._timeouts.connect, direct=True, uds=uds)
            self._own[uds] = transport
        return transport


def _address(url: str) -> EngineAddress:
    return (
        EngineAddress("http://localhost/v1", url.removeprefix(_UNIX)) if url.startswith(_UNIX) else EngineAddress(url)
    )


def served_by(
    specs: Sequence[EngineSpec], catalogue: Catalogue, *, default: str, prefer: str
) -> dict[str, list[Candidate]]:
    """Who answers for each model that an engine has, by the model's id, the first of them in front.

    `catalogue` is one without the engines' own models. `default` answers for all others, and takes part here only if
    it is Cloudflare and has the model.
    """
    served: dict[str, list[Candidate]] = {}
    for id, engines in engines_of(specs, catalogue).items():
        candidates = served[id] = list(engines)
        if default == "cloudflare" and any(model.id == id and not model.is_retired for model in catalogue):
            candidates.insert(0 if prefer == "cloudflare" else len(candidates), Candidate(default))
    return served
