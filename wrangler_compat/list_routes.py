"""The v4 routes beside inference: the catalogue's lists, finetunes, conversion to Markdown, and who one is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.routing import Route
from starlette.types import ASGIApp

from adapters.catalogue import Catalogue
from wrangler_compat.catalogue_routes import catalogue_endpoints
from wrangler_compat.finetune_routes import finetune_endpoints
from wrangler_compat.finetunes import Finetunes
from wrangler_compat.identity import identity_endpoints
from wrangler_compat.markdown.conversion import Converter
from wrangler_compat.seams import Forward, OfAccount, PassThrough, Serving
from wrangler_compat.tomarkdown import tomarkdown_endpoints
from wrangler_compat.uploads import MAX_UPLOAD

ROOT = "/client/v4"
AI = f"{ROOT}/accounts/{{account}}/ai"


class Lists(msgspec.Struct, frozen=True, kw_only=True):
    """What these routes work with. With `forward`, Cloudflare answers all that is below `/ai`."""

    catalogue: Callable[[], Catalogue]
    finetunes: Finetunes
    converter: Converter
    serving: Serving
    forward: Forward | None = None


def list_routes(lists: Lists) -> list[Route]:
    """The routes, whatever answers them."""
    looks = {path: (["GET"], app) for path, app in catalogue_endpoints(lists.catalogue).items()}
    below_ai: dict[str, tuple[list[str], ASGIApp]] = {
        **looks,
        **finetune_endpoints(lists.finetunes, lists.catalogue, lists.serving),
        **tomarkdown_endpoints(lists.converter, lists.serving),
    }
    if lists.forward is not None:
        for path, (methods, _) in below_ai.items():
            onward = PassThrough(lists.forward, lists.serving, path.strip("/"), MAX_UPLOAD)
            below_ai[path] = (methods, onward)
    routes = [Route(AI + path, OfAccount(app), methods=methods) for path, (methods, app) in below_ai.items()]
    for path, app in identity_endpoints().items():
        routes.append(Route(ROOT + path, OfAccount(app) if "{account}" in path else app, methods=["GET"]))
    return routes
