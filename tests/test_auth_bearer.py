"""`auth.bearer`: who is let in, by which header, and what is open to everybody."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from auth.bearer import BearerAuth
from auth.errors import AuthError, InvalidToken, MissingToken
from auth.keys import StaticKeys
from auth.principal import Principal

pytestmark = pytest.mark.anyio

Headers = list[tuple[bytes, bytes]]
KEYS = StaticKeys(["good", "other"])


class App:
    """Notes the scopes that reach it."""

    def __init__(self) -> None:
        self.seen: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)


async def receive() -> Message:
    raise AssertionError("the middleware does not read the request")


async def call(headers: Headers, **scope: Any) -> tuple[App, list[Message]]:
    app, sent = App(), []

    async def send(message: Message) -> None:
        sent.append(message)

    guarded = BearerAuth(app, KEYS.resolve, public=("/healthz",), keyed=("/hooks/",))
    full = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "root_path": "", "headers": headers}
    await guarded({**full, **scope}, receive, send)
    return app, sent


ADMITTED: dict[str, Headers] = {
    "bearer": [(b"authorization", b"Bearer good")],
    "scheme in any case": [(b"authorization", b"bEARER good")],
    "white space": [(b"authorization", b"Bearer   good ")],
    "api key": [(b"x-api-key", b"good")],
    "api key beside a scheme of no concern": [(b"authorization", b"Basic eDp5"), (b"x-api-key", b"good")],
    "api key beside a wrong bearer": [(b"authorization", b"Bearer bad"), (b"x-api-key", b"good")],
    "Cloudflare's older key": [(b"x-auth-email", b"a@b.c"), (b"x-auth-key", b"good")],
    "a gateway's bearer": [(b"authorization", b"Bearer upstream's"), (b"cf-aig-authorization", b"Bearer good")],
    "bearer beside a wrong api key": [(b"x-api-key", b"bad"), (b"host", b"x"), (b"authorization", b"Bearer good")],
}


@pytest.mark.parametrize("headers", ADMITTED.values(), ids=ADMITTED)
async def test_a_known_token_is_let_in_and_named(headers: Headers) -> None:
    app, _ = await call(headers)
    assert [scope["state"]["principal"] for scope in app.seen] == [KEYS.resolve("good")]


REFUSED: dict[str, tuple[Headers, type[AuthError]]] = {
    "nothing": ([], MissingToken),
    "an empty bearer": ([(b"authorization", b"Bearer ")], MissingToken),
    "a scheme without token": ([(b"authorization", b"Bearer")], MissingToken),
    "another scheme": ([(b"authorization", b"Basic good")], MissingToken),
    "an empty api key": ([(b"x-api-key", b" ")], MissingToken),
    "an unknown token": ([(b"authorization", b"Bearer goo")], InvalidToken),
    "a token and more": ([(b"authorization", b"Bearer good,other")], InvalidToken),
    "bytes that are no text": ([(b"x-api-key", b"\xff\x00")], InvalidToken),
}


@pytest.mark.parametrize(("headers", "error"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("path", ["/v1/models", "/healthz/", "/healthzz", "//healthz", "/"])
async def test_everybody_else_stays_outside(headers: Headers, error: type[AuthError], path: str) -> None:
    with pytest.raises(error) as caught:
        await call(headers, path=path)
    assert caught.value.message
    assert "goo" not in caught.value.message


OPEN: dict[str, dict[str, str]] = {
    "a public path": {"path": "/healthz"},
    "a public path below a root path": {"path": "/relay/healthz", "root_path": "/relay"},
    "a preflight": {"method": "OPTIONS"},
    "the lifespan": {"type": "lifespan"},
}


@pytest.mark.parametrize("scope", OPEN.values(), ids=OPEN)
async def test_what_is_open_needs_no_token(scope: dict[str, str]) -> None:
    app, _ = await call([], **scope)
    assert len(app.seen) == 1
    assert "principal" not in app.seen[0].get("state", {})


async def test_a_root_path_does_not_open_what_lies_beside_it() -> None:
    with pytest.raises(MissingToken):
        await call([], path="/relayx/healthz", root_path="/relay")


async def test_state_of_the_lifespan_is_kept() -> None:
    app, _ = await call([(b"x-api-key", b"good")], state={"pool": 1})
    assert app.seen[0]["state"] == {"pool": 1, "principal": Principal(KEYS.resolve("good").id)}  # type: ignore[union-attr]  # it is known


async def test_a_web_socket_is_closed_even_with_a_token() -> None:
    app, sent = await call([(b"x-api-key", b"good")], type="websocket")
    assert app.seen == []
    assert sent == [{"type": "websocket.close", "code": 1008}]


KEYED: dict[str, tuple[str, str]] = {
    "the token alone": ("/hooks/good", "/hooks"),
    "a path behind it": ("/hooks/good/a/b", "/hooks/a/b"),
    "a slash behind it": ("/hooks/good/", "/hooks/"),
    "below a root path": ("/base/hooks/good/a", "/base/hooks/a"),
}


@pytest.mark.parametrize(("path", "left"), KEYED.values(), ids=KEYED)
async def test_a_token_in_the_path_is_taken_out_of_it(path: str, left: str) -> None:
    app, _ = await call([], path=path, raw_path=path.encode(), root_path="/base" if path.startswith("/base") else "")
    assert [(scope["path"], scope["raw_path"]) for scope in app.seen] == [(left, left.encode())]
    assert app.seen[0]["state"]["principal"] == KEYS.resolve("good")


@pytest.mark.parametrize(
    ("path", "error"), [("/hooks/", MissingToken), ("/hooks/bad", InvalidToken), ("/hooks/bad/good", InvalidToken)]
)
async def test_a_wrong_token_in_the_path_leaves_it_too(path: str, error: type[AuthError]) -> None:
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "headers": [(b"x-api-key", b"good")]}
    with pytest.raises(error):
        await BearerAuth(App(), KEYS.resolve, keyed=("/hooks/",))(scope, receive, None)  # type: ignore[arg-type]  # unused
    assert "bad" not in scope["path"] and b"bad" not in scope["raw_path"]
