"""Which models take LoRA adapters, and whether a model can use the one that a request names.

Sources: Cloudflare's error page (2026-07) for 3039 and 5005, answers of the live API that others recorded (2026-09)
for 5033, for 3030 (an adapter of another base) and for their words. The HTTP status of 5033 is not established.
"""

from __future__ import annotations

import anyio.to_thread
import msgspec

from adapters.canonical import ChatRequest
from adapters.catalogue import Catalogue, Model
from adapters.errors import Fault, RelayError
from adapters.wire.workers_ai_codes import words_of
from wrangler_compat.finetunes import Finetune, Finetunes
from wrangler_compat.naming import known

_SHOWN = 100  # characters of a caller's name that an error repeats

NOT_SUPPORTED = 5005
NOT_FOUND = 5033
INCOMPLETE = 3039
INCOMPATIBLE = 3030


def base_model(catalogue: Catalogue, name: str) -> Model:
    """The model that an adapter is made for. Raises RelayError if it is not known or takes none."""
    model = known(catalogue, name)
    require_support(model, "model")
    return model


def require_support(model: Model, param: str) -> None:
    """Raises RelayError (5005) for a model of which nobody says that it takes adapters."""
    if model.lora is not True:
        raise _error(NOT_SUPPORTED, words_of(NOT_SUPPORTED, model=model.id), param)


def require_adapter(finetunes: Finetunes, model: Model, name: str) -> Finetune:
    """The adapter with this id or name. Raises RelayError unless it is whole and for `model`. Reads files."""
    finetune = finetunes.find(name)
    if finetune is None:
        raise _error(NOT_FOUND, f"Finetune not found: {name[:_SHOWN]} does not exist or is not accessible")
    if finetune.model != model.id:
        raise _error(
            INCOMPATIBLE,
            f"Lora not compatible with model: {finetune.name} was made for {finetune.model}, not {model.id}",
        )
    if lacking := finetunes.lacking(finetune):
        words = words_of(INCOMPLETE, model=model.id)
        raise _error(INCOMPLETE, f"{words}: {finetune.name} has no {' and '.join(lacking)} yet")
    return finetune


def _error(code: int, message: str, param: str = "lora") -> RelayError:
    return RelayError(Fault.INVALID_VALUE, message, param=param, upstream_code=code)


class Adapters:
    """Sees to the adapters that requests name, by those that are stored here."""

    def __init__(self, finetunes: Finetunes) -> None:
        self._finetunes = finetunes

    async def fitted(self, request: ChatRequest, model: Model, named: str) -> ChatRequest:
        """The request with the name of the adapter `named`, which is the same one by its id and by its name.

        Raises RelayError if the model cannot use it.
        """
        require_support(model, "lora")
        finetune = await anyio.to_thread.run_sync(require_adapter, self._finetunes, model, named)
        return msgspec.structs.replace(request, lora=finetune.name)
