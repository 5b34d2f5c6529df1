"""A valid instance of a JSON Schema, always the same for the same source of randomness.

Every optional property is filled in, so that a caller sees the whole shape; recursion ends where the
schema leaves it open. Each part is checked after it was made, so what comes out is an instance or
nothing comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import count
from random import Random
from typing import Any

from adapters.simulator import pattern as patterns
from adapters.simulator.conformance import (
    Conformance,
    Found,
    TooComplex,
    fraction,
    is_type,
    items_of,
    key,
    mapping,
    number,
    parts_for,
    prefix_and_rest,
    resolve_pointer,
    strings,
)
from adapters.simulator.formats import FORMATS
from adapters.simulator.merging import Flat, merged
from adapters.simulator.sizes import CHARACTERS_A_STEP, least_size

_MAX_STEPS = 10_000
"""Readings and values, failed ones included, that one instance may take."""
_MAX_LENGTH = 20_000
_MAX_DEPTH = 40
_TRIES = 12
_UNIQUE_TRIES = 200
_PATTERN_TRIES = 60
_ATOMS_A_STEP = 20
"""Parts of a pattern that take as long to follow as a value takes to make."""
_RECURSIONS = (2, 6)
"""How often a reference may occur on the way to a value: few, and more only if that does not do."""
_SHOWN_ITEMS = 2
_SPREAD = 999
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

_Trail = tuple[str, ...]
"""The references that were followed on the way from the root to a value."""
_Reading = tuple[Flat, _Trail]
_Choice = Callable[[], Iterator[_Reading]]


class Unsatisfiable(ValueError):
    """No instance was found: there is none, or the schema is malformed or too large."""


def instance(schema: Any, rng: Random, words: Sequence[str] = ()) -> Any:
    """An instance of `schema`; strings that may be anything are taken from `words`. Raises Unsatisfiable."""
    if least_size(schema) > _MAX_STEPS:
        raise Unsatisfiable("the schema is too complex")
    problem = Unsatisfiable("the schema has no instance")
    for recursions in _RECURSIONS:
        try:
            return _Maker(schema, rng, words, recursions).make(schema, ())
        except Unsatisfiable as exc:
            problem = exc
        except (TooComplex, RecursionError, OverflowError) as exc:
            raise Unsatisfiable("the schema is too complex") from exc
    raise problem


class _Maker:
    """One instance in the making."""

    def __init__(self, root: Any, rng: Random, words: Sequence[str], recursions: int) -> None:
        self.root = root
        self.rng = rng
        self.phrases = _phrases(words)
        self.recursions = recursions
        self.conforms = Conformance(root)
        self.steps = 0
        self.depth = 0

    def make(self, schema: Any, trail: _Trail) -> Any:
        """An instance of a part of the schema. Raises Unsatisfiable, and TooComplex."""
        self.depth += 1
        try:
            if self.depth > _MAX_DEPTH:
                raise Unsatisfiable("the schema is nested too deeply")
            for flat, refs in self._readings(schema, trail, frozenset()):
                for value in self._tries(flat, trail + refs):
                    if self.conforms(value, schema):
                        return value
        finally:
            self.depth -= 1
        raise Unsatisfiable("the schema has no instance that was found")

    def _tries(self, flat: Flat, trail: _Trail) -> Iterator[Any]:
        """A few values by one reading; each still has to be checked against the whole schema."""
        for kind in _kinds(flat):
            for _ in range(_TRIES):
                self._count_step()
                try:
                    yield self._value(kind, flat, trail)
                except Unsatisfiable:
                    break

    # Readings: the ways to take a schema as one flat set of keywords.

    def _readings(self, schema: Any, trail: _Trail, here: frozenset[str]) -> Iterator[_Reading]:
        """Flat readings of a schema; `here` are the references already taken for this same value."""
        if schema is True:
            yield {}, ()
        elif isinstance(schema, Mapping):
            own = {word: parameter for word, parameter in schema.items() if word not in _APPLICATORS}
            yield from self._combined((own, ()), list(self._choices(schema, trail, here)))

    def _choices(self, schema: Mapping[str, Any], trail: _Trail, here: frozenset[str]) -> Iterator[_Choice]:
        """What has to be read along with a schema's own keywords, each with its own choice of readings."""
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield partial(self._referenced, reference, trail, here)
        for part in items_of(schema.get("allOf")):
            yield partial(self._readings, part, trail, here)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                yield partial(self._any_of, items_of(schema[word]), trail, here)
        if "if" in schema:
            met = {"allOf": [schema["if"], schema.get("then", True)]}
            yield partial(self._any_of, [met, schema.get("else", True)], trail, here)
        for part in mapping(schema.get("dependentSchemas")).values():
            yield partial(self._any_of, [part, True], trail, here)

    def _any_of(self, parts: Iterable[Any], trail: _Trail, here: frozenset[str]) -> Iterator[_Reading]:
        for part in parts:
            yield from self._readings(part, trail, here)

    def _referenced(self, reference: str, trail: _Trail, here: frozenset[str]) -> Iterator[_Reading]:
        if reference in here or trail.count(reference) >= self.recursions:
            return
        try:
            target = resolve_pointer(self.root, reference)
        except LookupError:
            return
        for flat, refs in self._readings(target, trail, here | {reference}):
            yield flat, (reference, *refs)

    def _combined(self, begun: _Reading, choices: list[_Choice]) -> Iterator[_Reading]:
        """Every way to read `begun` together with one reading of each choice."""
        self._count_step()
        if not choices:
            yield begun
            return
        for flat, refs in choices[0]():
            together = merged(begun[0], flat)
            if together is not None:
                yield from self._combined((together, begun[1] + refs), choices[1:])

    def _count_step(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > _MAX_STEPS:
            raise TooComplex("the schema asks for too much")

    # Values by a flat schema, one method a type.

    def _value(self, kind: str, flat: Flat, trail: _Trail) -> Any:
        match kind:
            case "enum":
                return self.rng.choice(_members(flat))
            case "object":
                return self._object(flat, trail)
            case "array":
                return self._array(flat, trail)
            case "string":
                return self._string(flat)
            case "integer" | "number":
                return self._number(kind, flat)
            case "boolean":
                return self.rng.random() < 0.5
            case "null":
                return None
        raise Unsatisfiable("the schema names an unknown type")

    def _object(self, flat: Flat, trail: _Trail) -> dict[str, Any]:
        required = dict.fromkeys(strings(flat.get("required")))
        for wanted in mapping(flat.get("dependentRequired")).values():
            required |= dict.fromkeys(strings(wanted))
        most = _limit(flat, "maxProperties", math.inf)
        made: dict[str, Any] = {}
        for name in dict.fromkeys([*mapping(flat.get("properties")), *required]):
            still_due = sum(other not in made for other in required)
            if name not in required and len(made) + still_due >= most:
                continue
            try:
                made[name] = self.make(_part_for(name, flat, self.conforms.found), trail)
            except Unsatisfiable:
                if name in required:
                    raise
        self._add_free_properties(made, flat, trail, most)
        return made

    def _add_free_properties(self, made: dict[str, Any], flat: Flat, trail: _Trail, most: float) -> None:
        """Undeclared properties: as many as must be, and one to show what a map holds."""
        least = _limit(flat, "minProperties", 0)
        shown = 1 if _is_map(flat) and most >= 1 else 0
        for _ in range(_TRIES + int(min(least, _MAX_STEPS))):
            if len(made) >= max(least, shown):
                return
            try:
                name = self._free_name(flat)
                if name not in made:
                    made[name] = self.make(_part_for(name, flat, self.conforms.found), trail)
            except (Unsatisfiable, patterns.Unusable):
                continue

    def _free_name(self, flat: Flat) -> str:
        names = flat.get("propertyNames")
        if names is not None:
            return str(self.make({"allOf": [{"type": "string"}, names]}, ()))
        by_pattern = list(mapping(flat.get("patternProperties")))
        if by_pattern and flat.get("additionalProperties") is False:
            return self._matching(by_pattern[0], 1, 100)
        return next(self.phrases)

    def _array(self, flat: Flat, trail: _Trail) -> list[Any]:
        prefix, rest = prefix_and_rest(flat)
        least, most = _limit(flat, "minItems", 0), _limit(flat, "maxItems", math.inf)
        if least > _MAX_STEPS:
            raise Unsatisfiable("the schema leaves no list of a sensible length")
        wanted = int(min(_limit(flat, "minContains", 1), _MAX_STEPS)) if "contains" in flat else 0
        first_contained = 0 if rest is False else len(prefix)
        size = min(max(least, first_contained + wanted, len(prefix) or _SHOWN_ITEMS), most, _MAX_STEPS)
        made: list[Any] = []
        taken: set[Any] | None = set() if flat.get("uniqueItems") is True else None
        for at in range(int(size)):
            part = prefix[at] if at < len(prefix) else rest
            contained = first_contained <= at < first_contained + wanted
            try:
                made.append(self._item({"allOf": [part, flat["contains"]]} if contained else part, taken, trail))
            except Unsatisfiable:
                if at < least or contained:
                    raise
                break
        return made

    def _item(self, part: Any, taken: set[Any] | None, trail: _Trail) -> Any:
        """An item, not one of those `taken`, among which it then is; `None` if any will do."""
        if taken is None:
            return self.make(part, trail)
        for _ in range(_UNIQUE_TRIES):
            item = self.make(part, trail)
            if key(item) not in taken:
                taken.add(key(item))
                return item
        raise Unsatisfiable("the schema wants more different items than were found")

    def _number(self, kind: str, flat: Flat) -> int | float:
        step = fraction(flat.get("multipleOf"))
        step = step if step is not None and step > 0 else None
        low, above = _tightest(flat, "minimum", "exclusiveMinimum", max)
        high, below = _tightest(flat, "maximum", "exclusiveMaximum", min)
        if kind == "integer":
            step = Fraction(1) if step is None else Fraction(step.numerator)  # p/q in lowest terms: whole at each p
        elif step is None:
            width = None if low is None or high is None else high - low
            step = Fraction(1, 100) if width is None or width >= 1 else width / 100 or low or Fraction(1)
        first = None if low is None else math.ceil(low / step) + (above and low % step == 0)
        last = None if high is None else math.floor(high / step) - (below and high % step == 0)
        first, last = _believable(first, last)
        if first > last:
            raise Unsatisfiable("the schema leaves no number")
        for _ in range(_TRIES):
            value = self.rng.randint(first, last) * step
            if kind == "integer":
                return int(value)
            if (float(value) / float(step)).is_integer():  # as checkers that divide floats see it
                break
        return float(value)

    def _string(self, flat: Flat) -> str:
        least, most = _limit(flat, "minLength", 0), _limit(flat, "maxLength", math.inf)
        if least > min(most, _MAX_LENGTH):
            raise Unsatisfiable("the schema leaves no text of a sensible length")
        self._count_step(int(least) // CHARACTERS_A_STEP)
        pattern = flat.get("pattern")
        if isinstance(pattern, str):
            try:
                return self._matching(pattern, least, most)
            except patterns.Unusable:
                pass  # of another flavour than Python's: words do as well as anything
        form = flat.get("format")
        if isinstance(form, str) and form in FORMATS:
            return FORMATS[form](self.rng)
        return self._fitted(next(self.phrases), int(least), most)

    def _matching(self, pattern: str, least: float, most: float) -> str:
        """A string of this pattern and length. Raises Unusable, and Unsatisfiable if none was found."""
        for attempt in range(_PATTERN_TRIES):
            text = patterns.example(pattern, self.rng, self._spend_atoms, repeats=4 << attempt // 8)
            if len(text) < least and not pattern.endswith("$"):
                text = text.ljust(int(least), "x")
            if least <= len(text) <= most and self.conforms.found(pattern, text):
                return text
        raise Unsatisfiable("no text was found for a pattern")

    def _spend_atoms(self, atoms: int) -> None:
        self._count_step(1 + atoms // _ATOMS_A_STEP)

    def _fitted(self, text: str, least: int, most: float) -> str:
        while len(text) < least:
            text = f"{text} {next(self.phrases)}"
            if len(text) > least:
                text = text[: max(least, 1)]
        if len(text) <= most:
            return text
        size = int(most)
        repeated = text[-1:].isdigit()  # the number that tells a repeated phrase apart would be cut off
        return "".join(self.rng.choices(_LETTERS, k=size)) if repeated else text[:size].rstrip() or text[:size]


def _phrases(words: Sequence[str]) -> Iterator[str]:
    """The words in turn, without end: numbered from the second round on, so that each is different."""
    every = [word for word in words if word] or ["sample"]
    for turn in count(1):
        yield from every if turn == 1 else (f"{word} {turn}" for word in every)


def _limit(flat: Flat, word: str, absent: float) -> float:
    limit = number(flat.get(word))
    return absent if limit is None else max(0, limit)


def _tightest(
    flat: Flat, inclusive: str, exclusive: str, tighter: Callable[[Fraction, Fraction], Fraction]
) -> tuple[Fraction | None, bool]:
    """The bound on one side, and whether the bound itself is out. Draft 4 wrote the latter as `true`."""
    closed, opened = fraction(flat.get(inclusive)), fraction(flat.get(exclusive))
    if opened is None:
        return closed, flat.get(exclusive) is True
    if closed is None or tighter(closed, opened) == opened:
        return opened, True
    return closed, False


def _believable(first: int | None, last: int | None) -> tuple[int, int]:
    """A range within the bounds, near to zero and positive where they allow it."""
    if first is None:
        first = 1 if last is None or last > _SPREAD else last - _SPREAD
    if last is None or last - first > _SPREAD:
        first = max(first, 1) if last is None or last > _SPREAD else first
        last = first + _SPREAD
    return first, last


def _kinds(flat: Flat) -> list[str]:
    """The types to try, likeliest first; `enum` where the values are given."""
    if "const" in flat or "enum" in flat:
        return ["enum"] if _members(flat) else []
    declared = flat.get("type")
    if declared is not None:
        named = [declared] if isinstance(declared, str) else strings(declared)
        return sorted(named, key=lambda name: name == "null")
    hinted = [kind for word, kind in _HINTS.items() if word in flat]
    return list(dict.fromkeys([*hinted, "string", "integer", "boolean", "object", "array", "null"]))


def _members(flat: Flat) -> list[Any]:
    """The given values, without those of a wrong type."""
    given = [flat["const"]] if "const" in flat else items_of(flat["enum"])
    declared = flat.get("type")
    named = [declared] if isinstance(declared, str) else strings(declared)
    return [value for value in given if not named or any(is_type(name, value) for name in named)]


def _part_for(name: str, flat: Flat, matches: Found) -> Any:
    """What the value of a property has to meet."""
    declared = mapping(flat.get("properties"))
    found = [declared[name]] if name in declared else []
    found += parts_for(name, flat.get("patternProperties"), matches)
    if not found:
        found = [flat.get("additionalProperties", True)]
    return found[0] if len(found) == 1 else {"allOf": found}


def _is_map(flat: Flat) -> bool:
    """True for an object whose properties are the caller's to name."""
    described = flat.get("additionalProperties")
    return not mapping(flat.get("properties")) and (
        (isinstance(described, Mapping) and bool(described)) or bool(mapping(flat.get("patternProperties")))
    )


_APPLICATORS = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"})

_HINTS: Mapping[str, str] = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "patternProperties": "object",
    "minProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "contains": "array",
    "minItems": "array",
    "uniqueItems": "array",
    "pattern": "string",
    "format": "string",
    "minLength": "string",
    "maxLength": "string",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}
