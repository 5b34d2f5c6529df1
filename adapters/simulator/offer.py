"""Which models the simulator answers for: all that the catalogue knows and Cloudflare still has."""

from __future__ import annotations

from adapters.catalogue import Catalogue, Model
from adapters.errors import Fault, RelayError
from adapters.wire.workers_ai_codes import words_of

_DEPRECATED = 5028


def known(name: str, catalogue: Catalogue) -> Model:
    """The model of this name. Raises RelayError for one that is not in the catalogue."""
    model = catalogue.resolve(name)
    if model.status == "unknown":
        raise catalogue.not_found(name)
    return model


def current(model: Model, catalogue: Catalogue) -> Model:
    """The model itself. Raises RelayError if Cloudflare has retired it."""
    if model.is_retired:
        raise _deprecated(model, catalogue.successor(model))
    return model


def _deprecated(model: Model, successor: str | None) -> RelayError:
    """Cloudflare's words and number, seen in September 2026: HTTP 410, code 5028."""
    instead = f" Use {successor} instead." if successor else ""
    return RelayError(
        Fault.MODEL_NOT_FOUND,
        words_of(_DEPRECATED, model=model.id, retired_on=model.retired_on) + instead,
        param="model",
        upstream_code=_DEPRECATED,
    )
