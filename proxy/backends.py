"""Which upstream answers for a model, and what each of them can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from adapters.base import ChatAdapter, Embedder, NativeTask
from adapters.catalogue import Model
from adapters.cloudflare_native import CloudflareNative
from adapters.errors import InvalidRequest

T = TypeVar("T")


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """What one upstream can do; `None` where it cannot. `native` takes Workers AI's own calls as they are."""

    chat: ChatAdapter
    embedder: Embedder | None = None
    task: NativeTask | None = None
    native: CloudflareNative | None = None


class Backends:
    """Finds who answers: `own` maps ids to the upstream that has them to itself, `default` has the rest."""

    def __init__(self, upstreams: Mapping[str, Upstream], default: str, own: Mapping[str, str]) -> None:
        self._upstreams = upstreams
        self._default = default
        self._own = own

    def chat(self, model: Model) -> ChatAdapter:
        return self._of(model).chat

    def embedder(self, model: Model) -> Embedder:
        """Raises InvalidRequest (`model_not_supported`) if the model's upstream has none; so does `task`."""
        return self._able(self._of(model).embedder, model)

    def task(self, model: Model) -> NativeTask:
        return self._able(self._of(model).task, model)

    def native(self, model: Model | None = None) -> CloudflareNative | None:
        """Who takes the calls of a model, or those of no model, as they are; `None` if they have to be understood."""
        upstream = self._upstreams[self._default] if model is None else self._of(model)
        return upstream.native

    def _of(self, model: Model) -> Upstream:
        return self._upstreams[self._own.get(model.id, self._default)]

    def _able(self, found: T | None, model: Model) -> T:
        if found is None:
            upstream = self._own.get(model.id, self._default)
            raise InvalidRequest(
                f"The upstream '{upstream}' does not offer {model.task.lower()}, which '{model.id}' is made for.",
                param="model",
                code="model_not_supported",
            )
        return found
