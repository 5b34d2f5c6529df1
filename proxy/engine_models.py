"""The models that engines have: which of them the catalogue knows, and which are the engines' own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from adapters.catalogue import CHAT_TASK, EMBEDDING_TASK, Catalogue, Model
from adapters.errors import RelayError
from adapters.local.spec import EngineSpec
from proxy.model_rules import Candidate, ModelRule


def engine_models(
    engines: Iterable[EngineSpec], catalogue: Catalogue, rules: Mapping[str, ModelRule] | None = None
) -> list[Model]:
    """Models that only engines have, under the names that clients ask for; `rules` are the operator's, by any name.

    One that Cloudflare has retired is listed where an engine answers for it.
    """
    engines = tuple(engines)
    plain = catalogue.with_aliases({})
    found: dict[str, Model] = {}
    for engine in engines:
        for name in engine.models:
            if _known(name, plain) is None:
                found[name] = _own_model(name, engine, found.get(name))
    names = {engine.upstream for engine in engines}
    ruled = [name for name, rule in (rules or {}).items() if any(one.upstream in names for one in rule.candidates)]
    for name in (*ruled, *(name for engine in engines for name in engine.models)):
        model = _meant(name, plain)
        if model is not None and model.is_retired:
            found[model.id] = msgspec.structs.replace(model, status="listed", retired_on=None, replaced_by=None)
    return list(found.values())


def engines_of(engines: Iterable[EngineSpec], catalogue: Catalogue) -> dict[str, tuple[Candidate, ...]]:
    """By a model's id, the engines that have it under a name that means this model, in the order of the settings."""
    plain = catalogue.with_aliases({})
    found: dict[str, dict[Candidate, None]] = {}
    for engine in engines:
        for name, own in engine.models.items():
            found.setdefault(_known(name, plain) or name, {})[Candidate(engine.upstream, own)] = None
    return {id: tuple(candidates) for id, candidates in found.items()}


def _known(name: str, catalogue: Catalogue) -> str | None:
    """The id of the listed model that is meant; `None` if that is nobody's or could be several."""
    model = _meant(name, catalogue)
    return None if model is None or model.status == "unknown" else model.id


def _meant(name: str, catalogue: Catalogue) -> Model | None:
    try:
        return catalogue.resolve(name)
    except RelayError:
        return None


def _own_model(name: str, engine: EngineSpec, other: Model | None) -> Model:
    """Where several engines have it, the smallest context window counts: any of them may answer."""
    windows = [
        window for window in (engine.longest_context, other.context_window if other else None) if window is not None
    ]
    embeds = name in engine.embeddings
    return Model(
        id=name,
        task=EMBEDDING_TASK if embeds else CHAT_TASK,
        status="listed",
        context_window=min(windows, default=None),
        streaming=None if embeds else True,
    )
