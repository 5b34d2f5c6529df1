"""The models that can be asked for: Cloudflare's, with what is ours in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from adapters.catalogue import Catalogue
from adapters.local.spec import EngineSpec
from adapters.simulator.chat import SIMULATOR_MODEL
from proxy.engine_models import engine_models
from proxy.model_rules import ModelRule


class Offer:
    """Puts the models of engines, the simulator and the operator's aliases into each catalogue that is read."""

    def __init__(
        self, engines: Sequence[EngineSpec], rules: Mapping[str, ModelRule], aliases: Mapping[str, str]
    ) -> None:
        self._engines = {engine.name: engine for engine in engines}
        self._rules = rules
        self._aliases = aliases
        self._base: Catalogue | None = None

    def of(self, catalogue: Catalogue) -> Catalogue:
        self._base = catalogue
        own = [SIMULATOR_MODEL, *engine_models(self._engines.values(), catalogue, self._rules)]
        return catalogue.with_models(own).with_aliases(self._aliases)

    def learn(self, engine: str, context: int) -> Catalogue:
        """The last catalogue anew: now that it runs, this engine says how many tokens a request may have."""
        assert self._base is not None
        self._engines[engine] = msgspec.structs.replace(self._engines[engine], context_window=context)
        return self.of(self._base)
