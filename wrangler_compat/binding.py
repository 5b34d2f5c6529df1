"""The inner request: what `env.AI` inside a Worker sends to `https://workers-binding.ai`, whatever brought it here.

Sources: cloudflare/workerd `ai-api.ts`, `aig-api.ts`, `to-markdown-api.ts`, `autorag-api.ts` (2026-08), each call run
with the real runtime.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import SplitResult, quote, unquote

import msgspec
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from adapters.base import Call
from adapters.wire.json_text import encode
from wrangler_compat.answers import Answer, Handed, Header, Inferred, Json, known
from wrangler_compat.binding_inputs import model_of, read_run
from wrangler_compat.binding_upstream import headers_for_rest, query_for_rest, unwrapped
from wrangler_compat.gateway_logs import Logs, Note, read_metadata
from wrangler_compat.rest import bare, enveloped
from wrangler_compat.run import Ask, Runner
from wrangler_compat.universal import Step, patience, read_entries, run_first, within

_SHOWN = 200  # characters of a path that an error repeats
_NO_SOCKETS = "WebSocket connections to models are not emulated."
_NO_SEARCH = "AI Search (AutoRAG) is not emulated."


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    """An inner request; header names in lower case. `origin` is the relay's own (`http://host:port`).

    `named_in` is the outer header that held its address.
    """

    method: str
    url: SplitResult
    named_in: str
    headers: Mapping[str, str]
    body: bytes
    origin: str
    account: str
    owner: str

    @property
    def query(self) -> QueryParams:
        return QueryParams(self.url.query)


class Reply(msgspec.Struct, frozen=True):
    """An answer with what its entrance has to know to send it: the envelope, more headers, what its log says."""

    answer: Answer
    wrap: Callable[[bytes], bytes] = bare
    headers: Iterable[Header] = ()
    note: Note | None = None


class Others(msgspec.Struct, frozen=True, kw_only=True):
    """What is not inference: the routes of the same name, and the answer to `toMarkdown`'s body, its result bare."""

    models: ASGIApp
    supported: ASGIApp
    transform: Callable[[bytes, Call], Inferred]


class Binding:
    """One function for all entrances: the inner request to its answer."""

    def __init__(self, runner: Runner, others: Others, logs: Logs) -> None:
        self._runner = runner
        self._others = others
        self._logs = logs
        # Method, path, and what answers; the groups of the path are its arguments.
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = [
            ("POST", re.compile(r"/run"), self._run),
            ("GET", re.compile(r"/run"), _refuse_socket),
            ("POST", re.compile(r"/ai-gateway/run"), self._run),
            ("GET", re.compile(r"/ai-gateway/run"), _refuse_socket),
            ("GET", re.compile(r"/ai-api/models/search"), self._models),
            ("POST", re.compile(r"/to-everything/markdown/transformer"), self._transform),
            ("GET", re.compile(r"/to-everything/markdown/supported"), self._supported),
            ("GET", re.compile(r"/ai-gateway/gateways/([^/]+)/url/([^/]+)"), self._url),
            ("GET", re.compile(r"/ai-gateway/gateways/([^/]+)/logs/([^/]+)"), self._log),
            ("PATCH", re.compile(r"/ai-gateway/gateways/([^/]+)/logs/([^/]+)"), self._patch_log),
            ("POST", re.compile(r"/ai-gateway/universal/run/([^/]+)"), self._universal),
            ("GET", re.compile(r"/autorag/.*", re.S), _refuse_search),
            ("POST", re.compile(r"/autorag/.*", re.S), _refuse_search),
        ]

    def binding_request(self, inner: Inner, call: Call) -> Reply:
        """The answer. Raises RelayError, and HTTPException for what there is no route for (404, 405, 501)."""
        path_known = False
        for method, pattern, answer in self._routes:
            match = pattern.fullmatch(inner.url.path)
            if match is None:
                continue
            if method == inner.method:
                return answer(inner, call, *map(unquote, match.groups()))
            path_known = True
        path = inner.url.path[:_SHOWN]
        if path_known:
            raise HTTPException(
                405, f"{inner.method} not supported for the path {path!r} of the header '{inner.named_in}'."
            )
        raise HTTPException(404, f"The binding has no path {path!r}, which the header '{inner.named_in}' names.")

    # ------------------------------------------------------------ run

    def _run(self, inner: Inner, call: Call) -> Reply:
        """`run(model, inputs, options)`; with a gateway in its options the path is another, and nothing else."""
        model = model_of(inner.headers)
        run = read_run(inner.query, inner.headers, inner.body)
        ask = Ask(
            model=model,
            payload=run.payload,
            query=query_for_rest(run),
            headers=headers_for_rest(run, inner.headers),
            queue=run.queued,
            owner=inner.owner,
        )
        answer = self._runner.run(ask, call)
        gateway = run.gateway
        if gateway is None:
            return Reply(unwrapped(answer))
        limit = patience(gateway.get("requestTimeoutMs"))
        if limit is not None:
            answer = within(limit, answer)
        note = Note(
            gateway=gateway["id"],
            model=model,
            path=inner.url.path,
            size=len(inner.body),
            content_type=run.payload.content_type,
            metadata=read_metadata(gateway.get("metadata")),
        )
        return Reply(unwrapped(answer), note=note)

    def _universal(self, inner: Inner, call: Call, gateway: str) -> Reply:
        """`gateway(id).run(requests)`, whose answer the Worker gets as it is: with its envelope."""
        entries = read_entries(inner.body)
        step = Step()
        answer = run_first(entries, self._runner, call, step)
        limit = patience(inner.headers.get("cf-aig-request-timeout"))
        if limit is not None:
            answer = within(limit, answer)
        note = Note(
            gateway=gateway,
            model=entries[0].endpoint,
            path=inner.url.path,
            size=len(inner.body),
            content_type=inner.headers.get("content-type", ""),
            metadata=read_metadata(inner.headers.get("cf-aig-metadata")),
        )
        return Reply(answer, enveloped, step, note)

    # ------------------------------------------------------------ all else

    def _models(self, inner: Inner, call: Call) -> Reply:
        path = f"/client/v4/accounts/{inner.account}/ai/models/search"
        return Reply(Handed(self._others.models, path, inner.url.query.encode("latin-1", "replace")))

    def _supported(self, inner: Inner, call: Call) -> Reply:
        return Reply(Handed(self._others.supported, f"/client/v4/accounts/{inner.account}/ai/tomarkdown/supported"))

    def _transform(self, inner: Inner, call: Call) -> Reply:
        return Reply(self._others.transform(inner.body, call), enveloped)

    def _url(self, inner: Inner, call: Call, gateway: str, provider: str) -> Reply:
        """The address of this relay's own gateway forms."""
        path = "/".join(quote(part, safe="") for part in ("v1", inner.account, gateway))
        end = "" if provider == "universal" else quote(provider, safe="")
        return Reply(known(Json(encode({"url": f"{inner.origin}/{path}/{end}"}))), enveloped)

    def _log(self, inner: Inner, call: Call, gateway: str, id: str) -> Reply:
        log = self._logs.get(inner.owner, gateway, id)
        if log is None:
            raise HTTPException(404, "Log Not Found")
        return Reply(known(Json(encode(log))), enveloped)

    def _patch_log(self, inner: Inner, call: Call, gateway: str, id: str) -> Reply:
        log = self._logs.get(inner.owner, gateway, id)
        if log is None:
            raise HTTPException(404, "Log Not Found")
        self._logs.patch(log, inner.body)
        return Reply(known(Json(encode(log))), enveloped)


def _refuse_socket(inner: Inner, call: Call) -> Reply:
    raise HTTPException(501, _NO_SOCKETS)


def _refuse_search(inner: Inner, call: Call) -> Reply:
    raise HTTPException(404, _NO_SEARCH)
