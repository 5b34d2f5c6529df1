"""Who may answer for a model, in which order: what `[models."<id>"]` says, read and checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgspec

from adapters.local.spec import EngineSpec
from proxy.setting_table import STREAM_MODES, number
from proxy.toml_tables import got, is_name, is_table, nearest

Policy = Literal["ordered", "cheapest", "share"]
POLICIES: tuple[Policy, ...] = ("ordered", "cheapest", "share")
UPSTREAMS = ("cloudflare", "simulator")
"""What a candidate can be beside an engine; no engine may be called so."""
_OPTIONS = ("stream", "candidates", "policy", "share", "handover_after")
_SECONDS = number(0.001, 10**6)


class Candidate(msgspec.Struct, frozen=True):
    """One that may answer: `cloudflare`, `simulator` or an engine's name, and the engine's own name for the model.

    `model` is `None` for `cloudflare` and `simulator`, which know a model by its id.
    """

    upstream: str
    model: str | None = None

    def __str__(self) -> str:
        return self.upstream if self.model is None else f"{self.upstream}:{self.model}"


class ModelRule(msgspec.Struct, frozen=True):
    """What the operator says of one model.

    Without `candidates` those count that serve the model anyway. `share` holds a weight for each upstream by name and
    is empty unless the policy is `share`; a candidate that it leaves out takes over but is never first.
    `handover_after` is for how many seconds one who is not the last to be asked may be silent.
    """

    candidates: tuple[Candidate, ...] = ()
    policy: Policy = "ordered"
    share: Mapping[str, float] = {}
    handover_after: float | None = None


class ModelTables(msgspec.Struct):
    """All of `[models]`, by the names that the tables have."""

    streams: dict[str, str] = {}
    rules: dict[str, ModelRule] = {}


def read_models(raw: object, engines: Mapping[str, EngineSpec | None], shown: str, problems: list[str]) -> ModelTables:
    """Read `[models]`. `engines` holds every engine that was named, `None` where its entry is broken."""
    tables = ModelTables()
    if not is_table(raw):
        problems.append(f"[models] in {shown}: expected tables named by model ids")
        return tables
    for model, options in raw.items():
        where = f'[models."{model}"] in {shown}'
        if not is_name(model) or not is_table(options):
            problems.append(f"{where}: expected a table named by a model id")
            continue
        problems += [
            f"{key} in {where}: no such option{nearest(key, _OPTIONS)}" for key in options if key not in _OPTIONS
        ]
        if "stream" in options:
            _take_stream(tables, model, options["stream"], where, problems)
        if any(key in options for key in _OPTIONS[1:]):
            tables.rules[model] = _Rule(model, engines, where, problems).read(options)
    return tables


def _take_stream(tables: ModelTables, model: str, raw: object, where: str, problems: list[str]) -> None:
    if raw in STREAM_MODES:
        tables.streams[model] = str(raw)
    else:
        problems.append(f"stream in {where}: expected auto, native or synthetic{got(raw)}")


class _Rule:
    """Reads one model's candidates and policy."""

    def __init__(self, model: str, engines: Mapping[str, EngineSpec | None], where: str, problems: list[str]) -> None:
        self._model = model
        self._engines = engines
        self._where = where
        self._problems = problems

    def read(self, options: Mapping[str, object]) -> ModelRule:
        candidates = self._candidates(options["candidates"]) if "candidates" in options else ()
        upstreams = [candidate.upstream for candidate in candidates] or [*UPSTREAMS, *self._engines]
        share = self._share(options["share"], upstreams) if "share" in options else {}
        after = self._seconds(options["handover_after"]) if "handover_after" in options else None
        return ModelRule(candidates, self._policy(options, share), share, after)

    def _problem(self, key: str, text: str) -> None:
        self._problems.append(f"{key} in {self._where}: {text}")

    def _candidates(self, raw: object) -> tuple[Candidate, ...]:
        if not isinstance(raw, list) or not raw:
            self._problem("candidates", f'expected a list such as ["cloudflare", "my-engine:its-model"]{got(raw)}')
            return ()
        found = [candidate for item in raw if (candidate := self._candidate(item)) is not None]
        for candidate in dict.fromkeys(found):
            if found.count(candidate) > 1:
                self._problem("candidates", f"'{candidate}' stands there more than once")
        return tuple(found)

    def _candidate(self, raw: object) -> Candidate | None:
        name, colon, model = raw.partition(":") if isinstance(raw, str) else ("", "", "")
        if name in UPSTREAMS:
            if not colon:
                return Candidate(name)
            self._problem("candidates", f"'{name}' takes no name of a model behind it")
            return None
        if name not in self._engines:
            known = [*UPSTREAMS, *self._engines]
            self._problem("candidates", f"expected one of {', '.join(known)}{got(raw)}{nearest(name, known)}")
            return None
        engine = self._engines[name]
        if colon and not model.strip():
            self._problem("candidates", f"expected the engine's own name of a model after '{name}:'")
        elif colon:
            return Candidate(name, model)
        elif engine is not None:
            return self._by_engine(engine)
        return None

    def _by_engine(self, engine: EngineSpec) -> Candidate | None:
        """An engine alone: its model of this name, else the only one that it has."""
        own = dict.fromkeys(engine.models.values())
        model = engine.models.get(self._model) or (next(iter(own)) if len(own) == 1 else None)
        if model is not None:
            return Candidate(engine.upstream, model)
        self._problem(
            "candidates", f"expected '{engine.upstream}:MODEL', since the engine does not have just one model"
        )
        return None

    def _policy(self, options: Mapping[str, object], share: Mapping[str, float]) -> Policy:
        raw = options.get("policy", "share" if "share" in options else "ordered")
        policy = next((known for known in POLICIES if known == raw), None)
        if policy is None:
            self._problem("policy", f"expected {', '.join(POLICIES[:-1])} or {POLICIES[-1]}{got(raw)}")
            return "ordered"
        if policy == "share" and "share" not in options:
            self._problem("policy", "'share' needs a table such as share = { cloudflare = 3, my-engine = 1 }")
        if policy != "share" and share:
            self._problem("share", f"has no meaning beside policy = '{policy}'")
        return policy

    def _seconds(self, raw: object) -> float | None:
        try:
            seconds = _SECONDS(raw)
            assert isinstance(seconds, float)
            return seconds
        except ValueError:
            self._problem("handover_after", f"expected a number of seconds above 0{got(raw)}")
            return None

    def _share(self, raw: object, upstreams: Sequence[str]) -> dict[str, float]:
        weights: dict[str, float] = {}
        for name, weight in raw.items() if is_table(raw) else ():
            if name not in upstreams:
                self._problem("share", f"'{name}' is none of the candidates{nearest(name, upstreams)}")
            elif isinstance(weight, bool) or not isinstance(weight, int | float) or not _is_weight(weight):
                self._problem("share", f"expected a number from 0 for '{name}'{got(weight)}")
            elif upstreams.count(name) > 1:
                self._problem("share", f"two candidates are '{name}', which cannot be told apart by their shares")
            else:
                weights[name] = float(weight)
        if not is_table(raw) or (weights and not any(weights.values())) or not raw:
            self._problem("share", "expected a table with a number above 0, such as { cloudflare = 3, my-engine = 1 }")
        return weights


def _is_weight(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= 1e9


def named_engines(rules: Collection[ModelRule]) -> set[str]:
    """The upstreams that candidates name."""
    return {candidate.upstream for rule in rules for candidate in rule.candidates}
