"""ASGI middleware that lets in only callers with a token."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from auth.errors import InvalidToken, MissingToken
from auth.principal import Principal

Resolve = Callable[[str], Principal | None]

_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


class BearerAuth:
    """Takes `Authorization: Bearer` or `x-api-key`, and leaves `scope["state"]["principal"]` behind.

    `public` paths (without the root path) and OPTIONS need no token. Raises MissingToken and
    InvalidToken, for a middleware around it to answer. Web sockets are closed: nothing here speaks them.
    """

    __slots__ = ("app", "public", "resolve")

    def __init__(self, app: ASGIApp, resolve: Resolve, public: Iterable[str] = ()) -> None:
        self.app = app
        self.resolve = resolve
        self.public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["method"] != "OPTIONS" and _route_path(scope) not in self.public:
                scope.setdefault("state", {})["principal"] = self._admit(scope["headers"])
        elif scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        await self.app(scope, receive, send)

    def _admit(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """The first known token of those presented: some SDKs always send both headers."""
        presented = False
        for name, value in headers:
            if name == b"authorization":
                if value[:7].lower() != b"bearer ":
                    continue
                value = value[7:]
            elif name != b"x-api-key":
                continue
            if token := value.strip():
                presented = True
                if principal := self.resolve(token.decode("latin-1")):
                    return principal
        raise InvalidToken if presented else MissingToken


def _route_path(scope: Scope) -> str:
    """The path below `root_path`, which servers put in front of `path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path
