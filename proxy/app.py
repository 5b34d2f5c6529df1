"""The relay, assembled: every route, middleware and resource on one screen."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TypeVar

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from adapters.catalogue import Catalogue, Model, load_snapshot
from adapters.cloudflare import Cloudflare
from adapters.cloudflare_account import Access, check_models_permission
from adapters.cloudflare_calls import Account, CloudflareCalls, Timeouts
from adapters.cloudflare_embeddings import CloudflareEmbedder
from adapters.cloudflare_native import CloudflareNative
from adapters.errors import RelayError
from adapters.local.control import EngineClient
from adapters.local.drain_watch import DrainWatch
from adapters.local.folders import control_socket
from adapters.simulator.chat import SIMULATOR_MODEL, Simulator
from adapters.simulator.director import Director
from adapters.simulator.offer import current
from adapters.simulator.rules import RulesError, read_playbook
from adapters.simulator.scripted import ScriptedChat, ScriptedTasks
from adapters.simulator.tasks import SimulatedTasks
from adapters.transport import open_transport
from adapters.wire import openai_chat
from auth.bearer import BearerAuth
from auth.keys import StaticKeys
from proxy import problems
from proxy.backends import Backends, Upstream
from proxy.boundary import ErrorBoundary, Preconditions
from proxy.chat import ChatEndpoint
from proxy.cors import Cors
from proxy.dialects import Dialects
from proxy.dispatch import Dispatcher, Shelf
from proxy.drain import Drain
from proxy.embeddings import EmbeddingsEndpoint
from proxy.engine_readings import EngineReadings
from proxy.engines import Engines, served_by
from proxy.eventstream import KeepAlive
from proxy.handover import Retries
from proxy.health import Health, Readiness
from proxy.metrics import Metrics, MetricsEndpoint
from proxy.model_rules import Candidate
from proxy.models import ModelDetail, ModelList
from proxy.modes import Modes
from proxy.offer import Offer
from proxy.openapi import document_routes
from proxy.refresh import keep_fresh
from proxy.scripted_wire import ScriptedWire
from proxy.serving import Serving
from proxy.settings import Settings, SettingsError
from proxy.stored_catalogue import StoredCatalogueError, read_catalogue
from proxy.telemetry import Telemetry
from wrangler_compat import problems as cloudflare_problems
from wrangler_compat.finetunes import Finetunes
from wrangler_compat.gateway_logs import Logs
from wrangler_compat.list_routes import Lists
from wrangler_compat.lora import Adapters
from wrangler_compat.markdown.conversion import Converter
from wrangler_compat.routes import Emulator
from wrangler_compat.routes import routes as emulator_routes
from wrangler_compat.run import Runner
from wrangler_compat.seams import Forward

log = logging.getLogger("relay")

T = TypeVar("T")

VERSION = version("workers-ai-relay")
USER_AGENT = f"workers-ai-relay/{VERSION}"
PUBLIC = ("/healthz", "/readyz")
KEYED = ("/remote-bindings/",)
"""Below these a token is the first segment of the path: the clients of these routes can send no header."""
DEFAULT_MODEL = "@cf/meta/llama-3.2-1b-instruct"
"""What a request of the older form gets that names no model, unless there is an alias `default`."""
_EXPOSED = (
    "x-request-id",
    "retry-after",
    "x-should-retry",
    "cf-ai-req-id",
    "cf-ai-neurons",
    "cf-aig-log-id",
    "cf-aig-step",
    "cf-aig-cache-status",
    "x-relay-upstream",
    "x-relay-changes",
    "x-relay-handover",
    "server-timing",
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
)
_PREFLIGHT_AGE = 86400  # seconds for which a browser may remember what it was allowed


def create_app(
    settings: Settings,
    tokens: Iterable[str],
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    drain: Drain | None = None,
    hop: str | None = None,
    retries: Retries | None = None,
) -> Starlette:
    """Wire the relay. Does no I/O: sockets and files open in the lifespan. Raises SettingsError.

    `hop` marks our upstream calls; it is the same in every worker of one relay. `transport` and `retries`
    take the place of what the settings would have built.
    """
    hop = hop or secrets.token_hex(8)
    drain = drain or Drain()
    transport = transport or open_transport(connect_timeout=settings.connect_timeout)
    aliases = {openai_chat.OLD_FORM_MODEL: DEFAULT_MODEL, **settings.aliases}
    offer = Offer(settings.engines, settings.model_rules, aliases)
    shelf = Shelf(offer.of(load_snapshot()))
    leases = EngineClient(control_socket(settings.state_dir))

    def learn(engine: str, context: int) -> None:
        shelf.catalogue = offer.learn(engine, context)

    engines = _engines(settings, transport, leases, hop, learn)
    backends = Backends(
        _upstreams(settings, transport, shelf, hop) | engines.upstreams(),
        settings.upstream,
        {
            SIMULATOR_MODEL.id: [Candidate("simulator")],
            **served_by(settings.engines, load_snapshot(), default=settings.upstream, prefer=settings.prefer),
        },
        _by_id(settings.model_rules, shelf.catalogue),
    )
    backend = Dispatcher(
        shelf,
        backends,
        Modes(settings.stream, _by_id(settings.model_streams, shelf.catalogue)),
        retries=retries or Retries(settings.retries),
        max_tokens=settings.max_tokens,
    )
    metrics = Metrics(
        lambda id: shelf.catalogue.get(id) is not None,
        open_breakers=backend.count_open_breakers,
        engines=EngineReadings(
            engines.replicas, engines.alone, leases.status if any(spec.is_local for spec in settings.engines) else None
        ),
    )
    keep_alive = KeepAlive(settings.keepalive, settings.keepalive_form)
    serving = Serving(drain=drain, keep_alive=keep_alive, max_body=settings.max_body)
    chat = ChatEndpoint(openai_chat, backend, serving)
    emulator = _emulator(settings, shelf, backend, backends, serving)
    keys = StaticKeys(tokens)
    dialects = Dialects(problems, cloudflare_problems.BY_PATH)

    def owner_of(model: Model) -> str:
        first = backends.first(model).name
        return "relay-simulator" if first == "simulator" else first

    async def check_upstream() -> None:
        if settings.upstream == "cloudflare":
            await check_models_permission(_access(settings, transport))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(transport.aclose)
            await stack.enter_async_context(engines.running())
            await stack.enter_async_context(leases)
            if settings.engines:
                watch = DrainWatch(control_socket(settings.state_dir), [*engines.replicas, *engines.alone])
                await stack.enter_async_context(watch.running())
            _read_stored(shelf, settings, offer)
            _check_aliases(shelf, settings)
            if settings.upstream == "cloudflare":
                tasks = await stack.enter_async_context(asyncio.TaskGroup())
                refresh = tasks.create_task(
                    keep_fresh(shelf, _access(settings, transport), settings.state_dir, offer.of)
                )
                stack.callback(refresh.cancel)
            await stack.enter_async_context(emulator.runner.batches.running())
            await stack.enter_async_context(metrics.running())
            yield

    app = _Relay(
        routes=[  # hottest first: matching is linear
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/embeddings", EmbeddingsEndpoint(backend, serving), methods=["POST"]),
            Route("/v1/models", ModelList(shelf, owner_of), methods=["GET"]),
            Route("/v1/models/{model:path}", ModelDetail(shelf, owner_of), methods=["GET"]),
            Route("/healthz", Health(settings.upstream), methods=["GET"]),
            Route("/readyz", Readiness(settings.state_dir, check_upstream, drain), methods=["GET"]),
            Route("/metrics", MetricsEndpoint(metrics), methods=["GET"]),
            *emulator_routes(emulator),
            *document_routes(lambda: shelf.catalogue, VERSION),
        ],
        middleware=[
            Middleware(
                Telemetry,
                strict=settings.strict,
                hop=hop,
                access=settings.access_log,
                keyed=KEYED,
                is_token=lambda segment: keys.resolve(segment) is not None,
                observer=metrics,
            ),
            Middleware(
                Cors,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST", "DELETE", "OPTIONS"],
                allow_headers=["*"],
                expose_headers=list(_EXPOSED),
                max_age=_PREFLIGHT_AGE,
            ),
            Middleware(ErrorBoundary, dialects),
            Middleware(BearerAuth, keys.resolve, PUBLIC, keyed=KEYED),
            Middleware(Preconditions),
            Middleware(ScriptedWire, lambda path: dialects.of_path(path) is not problems),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


class _Relay(Starlette):
    """Starlette without its own error middleware, whose work ErrorBoundary does: two layers less around each chunk."""

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = self.router
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app


def _upstreams(settings: Settings, transport: httpx.AsyncBaseTransport, shelf: Shelf, hop: str) -> dict[str, Upstream]:
    upstreams = {"simulator": _simulator(settings, shelf)}
    if settings.account_id and settings.api_token:
        account = Account(
            account_id=settings.account_id,
            api_token=settings.api_token,
            base_url=settings.api_base_url,
            gateway=settings.ai_gateway,
            gateway_token=settings.ai_gateway_token,
        )
        calls = CloudflareCalls(transport, account, timeouts=_timeouts(settings), hop=hop, user_agent=USER_AGENT)
        upstreams["cloudflare"] = Upstream(
            chat=Cloudflare(calls, model_of=shelf.model),
            embedder=CloudflareEmbedder(calls, model_of=shelf.model),
            native=CloudflareNative(calls),
        )
    return upstreams


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        connect=settings.connect_timeout, first_byte=settings.first_byte_timeout, idle=settings.idle_timeout
    )


def _engines(
    settings: Settings,
    transport: httpx.AsyncBaseTransport,
    leases: EngineClient,
    hop: str,
    learn: Callable[[str, int], None],
) -> Engines:
    return Engines(
        settings.engines,
        transport=transport,
        leases=leases,
        timeouts=_timeouts(settings),
        hop=hop,
        user_agent=USER_AGENT,
        learn=learn,
    )


def _simulator(settings: Settings, shelf: Shelf) -> Upstream:
    """Raises SettingsError for a script that has become unreadable."""
    try:
        playbook = None if settings.script is None else read_playbook(settings.script)
    except RulesError as exc:
        raise SettingsError(tuple(f"{settings.names['script']}: {problem}" for problem in exc.problems)) from None
    director = Director(playbook, first_byte=settings.first_byte_timeout, idle=settings.idle_timeout)
    simulated = SimulatedTasks(lambda: shelf.catalogue, allow_retired=settings.allow_retired)
    tasks = ScriptedTasks(simulated, simulated, director, model_of=shelf.model)
    simulator = Simulator(lambda: shelf.catalogue, allow_retired=settings.allow_retired)
    return Upstream(chat=ScriptedChat(simulator, director), embedder=tasks, task=tasks)


def _emulator(settings: Settings, shelf: Shelf, backend: Dispatcher, backends: Backends, serving: Serving) -> Emulator:
    """Workers AI's own surfaces, in front of whatever backend the relay has."""

    def catalogue() -> Catalogue:
        return shelf.catalogue

    def forward_of(model: Model) -> Forward | None:
        native = backends.native(model)
        return native.forward if native else None

    def check(model: Model) -> None:
        simulated = all(route.name == "simulator" for route in backends.routes(model))
        if simulated and not settings.allow_retired:
            current(model, shelf.catalogue)

    finetunes = Finetunes(settings.state_dir)
    runner = Runner(catalogue, backend, forward_of, check, Adapters(finetunes))
    native = backends.native()
    serving = msgspec.structs.replace(serving, problems=cloudflare_problems.REST, cut=True)
    return Emulator(
        runner=runner,
        serving=serving,
        lists=Lists(
            catalogue=catalogue,
            finetunes=finetunes,
            converter=Converter(runner.describe),
            serving=serving,
            forward=native.forward if native else None,
        ),
        logs=Logs(),
    )


def _access(settings: Settings, transport: httpx.AsyncBaseTransport) -> Access:
    return Access(transport, settings.api_base_url, settings.account_id or "", settings.api_token or "")


def _read_stored(shelf: Shelf, settings: Settings, offer: Offer) -> None:
    try:
        shelf.catalogue = offer.of(read_catalogue(settings.state_dir))
    except StoredCatalogueError as exc:
        log.warning("%s; the shipped list of models is used", exc)


def _check_aliases(shelf: Shelf, settings: Settings) -> None:
    for alias in settings.aliases:
        try:
            shelf.catalogue.resolve(alias)
        except RelayError as exc:  # no error: the account may come to list it
            log.warning("an alias leads nowhere: %s", exc.message)


def _by_id(wishes: Mapping[str, T], catalogue: Catalogue) -> dict[str, T]:
    """What the operator wishes for models, by their ids, whatever names the settings used. Raises SettingsError."""
    found, problems = {}, []
    for name, wish in wishes.items():
        try:
            found[catalogue.resolve(name).id] = wish
        except RelayError as exc:
            problems.append(f'[models."{name}"]: {exc.message}')
    if problems:
        raise SettingsError(tuple(problems))
    return found
