"""Models by the names that callers write, and Cloudflare's words for a name that no model has."""

from __future__ import annotations

import re

from adapters.catalogue import Catalogue, Model
from adapters.errors import Fault, RelayError

_NO_SUCH_MODEL = 5007
_THIRD_PARTY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.:/-]+", re.ASCII)
_SHOWN = 100  # characters of a caller's name that an error repeats


def resolved(catalogue: Catalogue, name: str) -> Model:
    """The model of a name as callers write it, `run/` before it or not; its status may be `unknown`.

    Raises RelayError if the name fits no model, InvalidRequest if it fits several.
    """
    name = name.strip().removeprefix("run/")
    try:
        return catalogue.resolve(name)
    except RelayError as exc:
        if exc.fault is not Fault.MODEL_NOT_FOUND:
            raise
    raise no_such_model(catalogue, name)


def known(catalogue: Catalogue, name: str) -> Model:
    """As `resolved`, and a model that the catalogue lacks is none (RelayError)."""
    model = resolved(catalogue, name)
    if model.status == "unknown":
        raise no_such_model(catalogue, name)
    return model


def is_third_party(name: str) -> bool:
    """Whether it has the form of another provider's model: `author/name`."""
    return _THIRD_PARTY.fullmatch(name.strip()) is not None


def no_such_model(catalogue: Catalogue, name: str) -> RelayError:
    """Cloudflare's words, and what may have been meant: not the name itself, which may be a model of another task."""
    nearest = [id for id in catalogue.suggestions(name) if id != name]
    hint = f". Did you mean {' or '.join(nearest)}?" if nearest else ""
    return not_for_task(name, hint)


def not_for_task(name: str, why: str = "") -> RelayError:
    """For a name without a model, or with one that is not for what was asked; `why` goes behind the words."""
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return RelayError(
        Fault.MODEL_NOT_FOUND, f"No such model {shown} or task{why}", param="model", upstream_code=_NO_SUCH_MODEL
    )
