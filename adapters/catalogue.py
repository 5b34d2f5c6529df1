"""What each model is: its task, context, price and how it wants its input.

The snapshot beside this file was read from Cloudflare's documentation, prices and model list; its
`as_of` says when. It is a hint: what the account itself lists, and what Cloudflare answers, counts for
more.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec

from adapters.errors import Fault, InvalidRequest, RelayError

Status = Literal["listed", "retired", "aliased", "gated", "priced_only", "uncertain", "unknown"]
CHAT_TASK = "Text Generation"
EMBEDDING_TASK = "Text Embeddings"

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

# An id becomes part of an upstream path, so a segment can be neither empty nor made of dots.
_ACCOUNT_ID = re.compile(r"@(?:cf|hf)(?:/[A-Za-z0-9][A-Za-z0-9._:+-]*){2,4}", re.IGNORECASE)
_MAX_ID = 200
_SHOWN = 100
"""Characters of a caller's model name that an error repeats."""


class Price(msgspec.Struct, frozen=True, omit_defaults=True):
    """`unit` as Cloudflare words it ("per M input tokens"); US dollars and neurons for one such unit."""

    unit: str
    price_usd: int | float | None = None
    neurons: int | float | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model. `None` is not known; `False` is known to be absent.

    `native_result` names the shape of the native answer, and with it the form of the native request.
    `input_kinds` are the ways to put an input (`messages`, `binary_body`, `multipart`, ...). `retired_on` is an ISO
    date; `context_window`, `max_output` and `max_input_tokens` are in tokens. `uuid` is what Cloudflare's lists
    call `id`. `vllm` says that Cloudflare runs it with vLLM, which shows in what it refuses.
    """

    id: _Name
    task: _Name
    status: Status
    context_window: _Count | None = None
    max_output: _Count | None = None
    native_result: str | None = None
    streaming: bool | None = None
    function_calling: bool | None = None
    reasoning: bool | None = None
    vision: bool | None = None
    lora: bool | None = None
    async_queue: bool | None = None
    partner: bool | None = None
    beta: bool | None = None
    requires_paid_plan: bool | None = None
    reasoning_efforts: tuple[str, ...] = ()
    price: tuple[Price, ...] = ()
    retired_on: str | None = None
    replaced_by: str | None = None
    output_dimensions: _Count | None = None
    max_input_tokens: _Count | None = None
    realtime: bool | None = None
    vllm: bool | None = None
    uuid: str | None = None
    input_kinds: tuple[str, ...] = ()

    @property
    def author(self) -> str:
        """The segment before the last: `meta` in `@cf/meta/llama-3.2-1b-instruct`; `""` without one."""
        head, _, _ = self.id.rpartition("/")
        return head.rpartition("/")[2]

    @property
    def short_name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def is_chat(self) -> bool:
        """Clef models are listed under text generation but take a decision, not a conversation."""
        return self.task == CHAT_TASK and self.native_result != "clef"

    @property
    def is_retired(self) -> bool:
        return self.status == "retired"

    @property
    def openai_form(self) -> bool:
        """The native request takes OpenAI's form; so does that of a model of which nothing is known."""
        return self.native_result is None or self.native_result.startswith("openai_chat")


class Catalogue:
    """Models by every name that a client may use. Immutable: what changes it returns another.

    `aliases` map a name to another alias, a short name or an id; they win over ids. Raises ValueError
    if they run in a circle or if two models share an id.
    """

    __slots__ = ("_aliases", "_by_id", "_exact", "_loose", "_targets", "as_of")

    def __init__(self, models: Iterable[Model], as_of: str, *, aliases: Mapping[str, str] | None = None) -> None:
        self.as_of = as_of
        self._by_id: dict[str, Model] = {}
        for model in models:
            if model.id in self._by_id:
                raise ValueError(f"two models are called {model.id!r}")
            self._by_id[model.id] = model
        self._aliases = dict(aliases or {})
        self._loose = _loose_names(self._by_id.values())
        self._targets = {alias.casefold(): _end_of_chain(alias, self._aliases) for alias in self._aliases}
        self._exact = self._exact_names()

    def __iter__(self) -> Iterator[Model]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def aliases(self) -> dict[str, str]:
        return dict(self._aliases)

    def get(self, id: str) -> Model | None:
        """The model with exactly this id."""
        return self._by_id.get(id)

    def resolve(self, name: str) -> Model:
        """The model that a client means by `name`.

        An id of Cloudflare's form that is not in here comes back with status `unknown`, for the account
        may well have it. Raises InvalidRequest (`ambiguous_model`) if a short name fits several models,
        and RelayError (MODEL_NOT_FOUND) if it fits none.
        """
        model = self._exact.get(name)
        return model if model is not None else self._resolve_inexact(name)

    def _resolve_inexact(self, name: str) -> Model:
        cleaned = _cleaned(name)
        model = self._exact.get(cleaned)
        if model is not None:
            return model
        target = self._targets.get(cleaned.casefold())
        return self._find(cleaned) if target is None else self._find(_cleaned(target), alias=cleaned)

    def _find(self, cleaned: str, alias: str | None = None) -> Model:
        """The model of this name, aliases aside; `alias` stood for it. Raises as `resolve` does."""
        model = self._by_id.get(cleaned)
        if model is not None:
            return model
        if found := self._loose.get(cleaned.casefold()):
            return _only(found, cleaned, alias)
        if is_account_id(cleaned):
            return Model(id=cleaned[:3].lower() + cleaned[3:], task=CHAT_TASK, status="unknown")
        raise self.not_found(cleaned, alias)

    def _exact_names(self) -> dict[str, Model]:
        """Every spelling that needs no second look: ids, short names that fit one model, aliases on top.

        An alias that leads nowhere is left out, even where it hides an id; `resolve` then says what is missing.
        """
        names: dict[str, Model] = {}
        for model in self:
            for name in _short_forms(model):
                found = self._loose[name.casefold()]
                if len(found) == 1:
                    names[name] = found[0]
        names |= self._by_id
        for alias in self._aliases:
            try:
                names[alias] = self._find(_cleaned(self._targets[alias.casefold()]))
            except RelayError:
                names.pop(alias, None)  # the account may list it tomorrow, so this is no error yet
        return names

    def not_found(self, name: str, alias: str | None = None) -> RelayError:
        """The error for a name that means nothing here, with what may have been meant; `alias` stood for it."""
        nearest = self.suggestions(name)
        hint = f" Did you mean {_choices(nearest)}?" if nearest else ""
        message = f"The model {_shown(name)} does not exist.{_standing(alias)}{hint}"
        return RelayError(Fault.MODEL_NOT_FOUND, message, param="model")

    def suggestions(self, wanted: str | Model, limit: int = 3) -> list[str]:
        """Ids of the models nearest to a misspelt name, or best able to stand in for a model; best first."""
        if isinstance(wanted, Model):
            return [model.id for model in self._stand_ins(wanted)[:limit]]
        query = _told_apart(_cleaned(wanted[:_SHOWN]))
        names: dict[str, str] = {}
        for model in self:
            if model.status == "listed":
                names[_told_apart(model.id)] = names[model.short_name.casefold()] = model.id
        close = difflib.get_close_matches(query, names, n=2 * limit, cutoff=0.6)
        close += [name for name in names if len(query) > 2 and query in name]
        return list(dict.fromkeys(names[name] for name in close))[:limit]

    def successor(self, model: Model) -> str | None:
        """What to use instead of a retired model: Cloudflare's word where there is one, else the nearest."""
        if model.replaced_by is not None:
            return model.replaced_by
        nearest = self.suggestions(model, limit=1)
        return nearest[0] if nearest else None

    def _stand_ins(self, wanted: Model) -> list[Model]:
        fit = [
            model
            for model in self
            if model.status == "listed"
            and model.task == wanted.task
            and model.is_chat == wanted.is_chat
            and model.id.startswith("@")
            and model.id != wanted.id
        ]
        name = difflib.SequenceMatcher(b=wanted.short_name.casefold())

        def nearness(model: Model) -> tuple[bool, bool, float]:
            # A base for LoRA adapters is nobody's replacement but another such base's.
            same_use = model.short_name.endswith("-lora") == wanted.short_name.endswith("-lora")
            akin = model.author == wanted.author or _family(model) == _family(wanted)
            name.set_seq1(model.short_name.casefold())
            return same_use, akin, name.ratio()

        return sorted(fit, key=nearness, reverse=True)

    def with_aliases(self, aliases: Mapping[str, str]) -> Catalogue:
        """The same models under these aliases, which replace earlier ones.

        An alias may point at nothing known yet; only using it fails. Raises ValueError for a circle.
        """
        return Catalogue(self, self.as_of, aliases=aliases)

    def with_models(self, models: Iterable[Model]) -> Catalogue:
        """With these in addition; one with an id that is already here takes its place."""
        merged = self._by_id | {model.id: model for model in models}
        return Catalogue(merged.values(), self.as_of, aliases=self._aliases)

    def overlaid(self, rows: Iterable[Any], as_of: str) -> Catalogue:
        """Brought up to date by the result rows of `GET /ai/models/search`; a malformed row is passed over.

        What a row says wins, what it leaves out stays: Cloudflare lists a flag only where it is true.
        `as_of` is the ISO date or time of the reading.
        """
        fresh: dict[str, Model] = {}
        for row in rows:
            model = self._from_row(row)
            if model is not None:
                fresh[model.id] = model
        return Catalogue((self._by_id | fresh).values(), as_of, aliases=self._aliases)

    def _from_row(self, row: Any) -> Model | None:
        name = _text(row.get("name")) if isinstance(row, dict) else None
        if name is None or not is_account_id(name):
            return None
        task = row.get("task")
        task_name = _text(task.get("name")) if isinstance(task, dict) else None
        known = self._by_id.get(name)
        if known is None and task_name is None:
            return None
        base = known or Model(id=name, task=task_name or CHAT_TASK, status="listed")
        changes = _row_properties(row.get("properties"))
        if known is None or known.status != "listed":
            changes |= {"status": "listed", "retired_on": None, "replaced_by": None}
        return msgspec.structs.replace(base, **changes)


def is_account_id(id: str) -> bool:
    """Whether an account can have a model of this id: it becomes part of an upstream path."""
    return len(id) <= _MAX_ID and _ACCOUNT_ID.fullmatch(id) is not None


def _short_forms(model: Model) -> tuple[str, str]:
    """The names of a model without `@cf/`, then without the author too."""
    return (model.id.partition("/")[2] if model.id.startswith("@") else model.id), model.short_name


def _loose_names(models: Iterable[Model]) -> dict[str, tuple[Model, ...]]:
    """Case-folded ids and short forms to the models they fit; retired ones only where no other does."""
    found: dict[str, dict[str, Model]] = {}
    for model in models:
        for name in (model.id, *_short_forms(model)):
            found.setdefault(name.casefold(), {})[model.id] = model
    return {name: _not_retired(fitting.values()) for name, fitting in found.items()}


def _not_retired(models: Iterable[Model]) -> tuple[Model, ...]:
    every = tuple(models)
    return tuple(model for model in every if not model.is_retired) or every


def _only(found: tuple[Model, ...], name: str, alias: str | None = None) -> Model:
    if len(found) == 1:
        return found[0]
    choices = _choices([model.id for model in found])
    raise InvalidRequest(
        f"The model name {_shown(name)} fits more than one model: {choices}.{_standing(alias)}",
        param="model",
        code="ambiguous_model",
    )


def _standing(alias: str | None) -> str:
    return "" if alias is None else f" The alias {_shown(alias)} stands for it."


def _end_of_chain(alias: str, aliases: Mapping[str, str]) -> str:
    """What an alias stands for in the end. Raises ValueError if that is itself."""
    seen = [alias]
    while (target := aliases.get(seen[-1])) is not None:
        if target in seen:
            raise ValueError("aliases run in a circle: " + " -> ".join([*seen, target]))
        seen.append(target)
    return seen[-1]


def _told_apart(name: str) -> str:
    """Without what most ids begin with, which says nothing of how near two of them are."""
    return name.casefold().removeprefix("@cf/").removeprefix("@hf/")


def _cleaned(name: str) -> str:
    """Without percent-encoding, surrounding space and the prefixes that other clients' settings put before an id."""
    name = unquote(name).strip() if "%" in name else name.strip()
    for prefix in ("workers-ai/", "cloudflare/"):
        if name.startswith(prefix + "@"):
            return name[len(prefix) :]
    return name


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")


def _choices(ids: list[str]) -> str:
    quoted = [f"'{id}'" for id in ids]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _family(model: Model) -> str:
    """`llama` of `llama-3.2-1b-instruct` and of `meta-llama-3-8b-instruct`."""
    words = re.findall(r"[a-z]+", model.short_name.casefold().removeprefix("meta-"))
    return words[0] if words else ""


# The rows of `GET /ai/models/search`: property ids to our fields. Values are strings mostly ("true",
# "128000"), sometimes integers, a list for `price`, an object for `reasoning_effort`.


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_ID else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**12 else None


def _prices(value: Any) -> tuple[Price, ...] | None:
    rows = value if isinstance(value, list) else []
    return tuple(price for row in rows if (price := _price(row)) is not None) or None


def _price(row: Any) -> Price | None:
    if not isinstance(row, dict) or row.get("currency", "USD") != "USD":
        return None
    unit, amount = _text(row.get("unit")), row.get("price")
    if unit is None or isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < 10**6:
        return None
    return Price(unit=unit, price_usd=amount, neurons=round(amount / _USD_PER_NEURON, 2))


def _efforts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, dict):
        value = value.get("supported_efforts")
    names = value if isinstance(value, list) else []
    return tuple(name for name in names if _text(name)) or None


_USD_PER_NEURON = 0.011 / 1000
_PROPERTIES: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "context_window": ("context_window", _count),
    "max_output": ("max_output", _count),
    "max_output_tokens": ("max_output", _count),
    "output_dimensions": ("output_dimensions", _count),
    "max_input_tokens": ("max_input_tokens", _count),
    "realtime": ("realtime", _flag),
    "function_calling": ("function_calling", _flag),
    "reasoning": ("reasoning", _flag),
    "vision": ("vision", _flag),
    "lora": ("lora", _flag),
    "async_queue": ("async_queue", _flag),
    "partner": ("partner", _flag),
    "beta": ("beta", _flag),
    "require_workers_paid": ("requires_paid_plan", _flag),
    "reasoning_effort": ("reasoning_efforts", _efforts),
    "price": ("price", _prices),
}


def _row_properties(value: Any) -> dict[str, Any]:
    """The fields of a Model that a row's `properties` tell; what is unknown or of a wrong shape is left out."""
    fields: dict[str, Any] = {}
    for entry in value if isinstance(value, list) else []:
        property_id = entry.get("property_id") if isinstance(entry, dict) else None
        if not isinstance(property_id, str) or property_id not in _PROPERTIES:
            continue
        field, read = _PROPERTIES[property_id]
        told = read(entry.get("value"))
        if told is not None:
            fields[field] = told
    return fields


class _File(msgspec.Struct, frozen=True, kw_only=True):
    as_of: str
    models: list[Model]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_File)


def dump(catalogue: Catalogue) -> bytes:
    """A catalogue as JSON, one model a line so that differences read well. Aliases are settings, not part of it."""
    lines = b",\n".join(_encode(model) for model in catalogue)
    return b'{"as_of":%b,"models":[\n%b\n]}\n' % (_encode(catalogue.as_of), lines)


def load(body: bytes) -> Catalogue:
    """What `dump` wrote. Raises ValueError if it is anything else."""
    try:
        file = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ValueError(f"not a catalogue: {exc}") from exc
    try:
        datetime.fromisoformat(file.as_of)
    except ValueError as exc:
        raise ValueError("not a catalogue: as_of is no ISO date") from exc
    return Catalogue(file.models, file.as_of)


def load_snapshot() -> Catalogue:
    """The catalogue that comes with the package."""
    return load(importlib.resources.files("adapters").joinpath("catalogue.json").read_bytes())
