"""The v4 routes beside inference, with the errors and the reading of the real server around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.catalogue import Catalogue, load_snapshot
from proxy import problems
from proxy.boundary import ErrorBoundary
from proxy.dialects import Dialects
from proxy.drain import Drain
from proxy.eventstream import KeepAlive
from proxy.serving import Serving
from proxy.telemetry import Telemetry
from wrangler_compat.finetunes import Finetunes
from wrangler_compat.list_routes import Lists, list_routes
from wrangler_compat.markdown.conversion import Converter
from wrangler_compat.problems import BY_PATH
from wrangler_compat.seams import Forward

V4 = "/client/v4"
AI = f"{V4}/accounts/local/ai"
SNAPSHOT = load_snapshot()


def lists_app(
    state_dir: Path,
    *,
    catalogue: Catalogue = SNAPSHOT,
    converter: Converter | None = None,
    forward: Forward | None = None,
) -> ASGIApp:
    """Without authentication, which is another's business."""
    lists = Lists(
        catalogue=lambda: catalogue,
        finetunes=Finetunes(state_dir),
        converter=converter or Converter(),
        serving=Serving(drain=Drain(), keep_alive=KeepAlive(5, "chunk"), max_body=2**20),
        forward=forward,
    )
    router = Router(list_routes(lists), redirect_slashes=False)
    boundary = ErrorBoundary(_raising(router), Dialects(problems, BY_PATH))
    return Telemetry(boundary, strict=False, hop="hop", access=False)


def _raising(router: Router) -> ASGIApp:
    """The router raises what it has no route for only inside an application."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await router({**scope, "app": router}, receive, send)

    return app


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://relay")


def result_of(answer: httpx.Response) -> Any:
    """What a success holds, all four members of whose envelope have to be there."""
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["success"], body["errors"]) == (True, []) and isinstance(body["messages"], list)
    assert answer.headers["content-type"] == "application/json"
    return body["result"]


def error_of(answer: httpx.Response) -> tuple[int, int, str]:
    """Status, code and message of a failure."""
    body = answer.json()
    assert body["success"] is False and len(body["errors"]) == 1
    return answer.status_code, body["errors"][0]["code"], body["errors"][0]["message"]
