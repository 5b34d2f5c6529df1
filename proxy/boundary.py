"""Turns what is raised behind it into an answer; sits ahead of authentication and of the router."""

from __future__ import annotations

import logging
import traceback

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.base import Call
from adapters.errors import Fault, RelayError
from auth.errors import AuthError
from proxy.answers import ClientLeft, send_problem
from proxy.dialects import Dialects, Problems, Refusal

log = logging.getLogger("relay")

_BAD_ESCAPE = b"%"
_HEX = frozenset(b"0123456789abcdefABCDEF")


class StreamBroken(Exception):
    """An error has been sent in band: the connection has to close, so that nothing seems finished."""


class ErrorBoundary:
    """Answers expected errors in the caller's dialect; a bug becomes a 500, or a broken connection.

    It takes the place of Starlette's two error middlewares, one of which would sit inside authentication and miss
    what that raises.
    """

    def __init__(self, app: ASGIApp, dialects: Dialects) -> None:
        self.app = app
        self._dialects = dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        call: Call = scope["state"]["call"]
        try:
            if call.refusal is not None and call.refusal.fault is Fault.LOOP:
                raise call.refusal  # our own call: the token that it bears is the upstream's
            await self.app(scope, receive, send)
        except ClientLeft:
            call.outcome = "client_left"
            log.debug("client left, request %s", call.id)
        except StreamBroken as exc:
            if isinstance(exc.__cause__, Exception):
                self._problem(exc.__cause__, scope, call)
            raise
        except Exception as exc:  # noqa: BLE001 - the one place where a bug becomes an answer, and is logged
            problem = self._problem(exc, scope, call)
            if call.committed:
                raise StreamBroken from None
            await _answer(problem, scope, send)

    def _problem(self, exc: Exception, scope: Scope, call: Call) -> Refusal:
        problems: Problems = self._dialects.of_path(below_root(scope))
        match exc:
            case RelayError():
                call.outcome = exc.fault.value.code
                exc.request_id = call.id
                exc.path = scope["path"]
                log_fault(exc, call)
                return problems.of_relay_error(exc)
            case AuthError():
                return problems.of_refused_caller(exc.missing, exc.message)
            case HTTPException():
                return problems.of_http_exception(exc, scope["method"], scope["path"])
        # The frames say where; the exception's own text might repeat what a caller wrote.
        frames = "".join(traceback.format_tb(exc.__traceback__))
        call.outcome = "internal_error"
        log.error("bug: %s in request %s\n%s", type(exc).__name__, call.id, frames)
        return problems.INTERNAL


class Preconditions:
    """Refuses what is wrong with a request before anybody has read its body; behind authentication, and so after 401.

    Raises RelayError, and HTTPException for a path that cannot be read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            call: Call = scope["state"]["call"]
            if (principal := scope["state"].get("principal")) is not None:
                call.tenant = principal.id
            if call.refusal is not None:
                raise call.refusal
            _check_escapes(scope.get("raw_path", b""))
        await self.app(scope, receive, send)


def below_root(scope: Scope) -> str:
    """The path below `root_path`, which servers put in front of it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def log_fault(exc: RelayError, call: Call) -> None:
    """Upstream trouble is the operator's business; a client's mistakes are its own."""
    if exc.fault.value.status >= 500 or exc.upstream_code is not None:
        log.warning(
            "%s from %s (code %s), request %s",
            exc.fault.value.code,
            call.upstream or "the relay",
            exc.upstream_code or "-",
            call.id,
        )


def _check_escapes(raw_path: bytes) -> None:
    """Raises HTTPException 400 for a `%` without two hexadecimal digits after it."""
    if _BAD_ESCAPE not in raw_path:
        return
    for piece in raw_path.split(_BAD_ESCAPE)[1:]:
        if len(piece) < 2 or not _HEX.issuperset(piece[:2]):
            raise HTTPException(400)


async def _answer(problem: Refusal, scope: Scope, send: Send) -> None:
    """Send it; a plain OPTIONS, which the router calls not allowed, learns what is."""
    if problem.status == 405 and scope["method"] == "OPTIONS":
        await send({"type": "http.response.start", "status": 204, "headers": list(problem.headers)})
        return await send({"type": "http.response.body"})
    await send_problem(send, problem)
