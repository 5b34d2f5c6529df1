"""ASGI middleware that lets in only callers with a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from auth.errors import InvalidToken, MissingToken
from auth.principal import Principal

Resolve = Callable[[str], Principal | None]

_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1
_BEARER = frozenset((b"authorization", b"cf-aig-authorization"))
_BARE = frozenset((b"x-api-key", b"x-auth-key"))


class BearerAuth:
    """Takes a token from a header or a path, and leaves `scope["state"]["principal"]` behind.

    The headers are `Authorization: Bearer` and `x-api-key`, and for Cloudflare's clients `X-Auth-Key` (sent with
    `X-Auth-Email`, which means nothing here) and `cf-aig-authorization`. Below a prefix of `keyed` the first segment
    is the token; it is taken out of the path, so that nothing behind can log it.

    `public` paths (without the root path) and OPTIONS need no token. Raises MissingToken and
    InvalidToken, for a middleware around it to answer. Web sockets are closed: nothing here speaks them.
    """

    __slots__ = ("app", "keyed", "public", "resolve")

    def __init__(
        self, app: ASGIApp, resolve: Resolve, public: Iterable[str] = (), *, keyed: Iterable[str] = ()
    ) -> None:
        self.app = app
        self.resolve = resolve
        self.public = frozenset(public)
        self.keyed = tuple(keyed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = _route_path(scope)
            prefix = next((prefix for prefix in self.keyed if path.startswith(prefix)), None)
            presented = _tokens(scope["headers"]) if prefix is None else iter((_take_key(scope, prefix),))
            if scope["method"] != "OPTIONS" and path not in self.public:
                scope.setdefault("state", {})["principal"] = self._admit(presented)
        elif scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        await self.app(scope, receive, send)

    def _admit(self, tokens: Iterable[str]) -> Principal:
        """Whose the first known token is: some SDKs always send several headers."""
        presented = False
        for token in tokens:
            if token:
                presented = True
                if principal := self.resolve(token):
                    return principal
        raise InvalidToken if presented else MissingToken


def _tokens(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """Every token that the headers hold."""
    for name, value in headers:
        if name in _BEARER:
            if value[:7].lower() == b"bearer ":
                yield value[7:].strip().decode("latin-1")
        elif name in _BARE:
            yield value.strip().decode("latin-1")


def _take_key(scope: Scope, prefix: str) -> str:
    """Cut the token out of the path, which then ends as `prefix` does or goes on behind it."""
    head, _, tail = scope["path"].partition(prefix)
    key, slash, rest = tail.partition("/")
    scope["path"] = f"{head}{prefix}{rest}" if slash else f"{head}{prefix.rstrip('/')}"
    scope["raw_path"] = quote(scope["path"], safe="/@:").encode()
    return str(key)


def _route_path(scope: Scope) -> str:
    """The path below `root_path`, which servers put in front of `path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path
