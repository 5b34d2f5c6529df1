"""A file of rules: which requests get which script. TOML, or JSON where its name ends in `.json`."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from adapters.catalogue import Model, load_snapshot
from adapters.simulator.script import EXPECTS, Script, complaint
from adapters.wire.json_text import NotJson, loads

_SEARCHED = 65_536
"""Characters of a text that conditions look at: a longer one must not hold up the event loop."""

_FromOne = Annotated[int, msgspec.Meta(ge=1)]
_FromZero = Annotated[int, msgspec.Meta(ge=0)]
_Words = Annotated[str, msgspec.Meta(min_length=1)]


class RulesError(Exception):
    """A file that cannot be used. `problems` names each wrong rule and what is wrong in it."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions, all of which have to hold.

    `model` is an id or its last part, with `*` and `?`; `task` the catalogue's word for it. `contains` (whatever its
    case) and `pattern` are looked for in what the user said last, or in every text of an input that is no chat.
    """

    model: _Words | None = None
    task: _Words | None = None
    contains: _Words | None = None
    pattern: _Words | None = None
    stream: bool | None = None

    def __post_init__(self) -> None:
        if self.task is not None and self.task.casefold() not in _tasks():
            raise ValueError(f"'task' has to be one of {', '.join(sorted(_tasks().values()))}")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except (re.error, RecursionError, OverflowError) as exc:
                raise ValueError(f"'pattern' has to be a regular expression ({exc})") from None

    def holds(self, model: Model, texts: Sequence[str], stream: bool) -> bool:
        if self.stream is not None and self.stream != stream:
            return False
        if self.task is not None and self.task.casefold() != model.task.casefold():
            return False
        if self.model is not None and not any(
            fnmatch.fnmatchcase(name.casefold(), self.model.casefold()) for name in (model.id, model.short_name)
        ):
            return False
        searched = [text[:_SEARCHED] for text in texts]
        if self.contains is not None and not any(self.contains.casefold() in text.casefold() for text in searched):
            return False
        return self.pattern is None or any(re.search(self.pattern, text) for text in searched)


def _tasks() -> dict[str, str]:
    return {model.task.casefold(): model.task for model in load_snapshot()}


class Rule(Script, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A script for the requests that match: of these `after` go by first, then `times` get it."""

    match: Match = Match()
    times: _FromOne | None = None
    after: _FromZero = 0

    def concerns(self, model: Model, texts: Sequence[str], stream: bool) -> bool:
        """Whether the request is one of those that count."""
        fits = self.result is None if model.is_chat else self.chat_key is None
        return fits and self.match.holds(model, texts, stream)

    def script(self) -> Script:
        return Script(**{key: getattr(self, key) for key in Script.__struct_fields__})


class Playbook(msgspec.Struct, frozen=True, kw_only=True):
    """The rules, of which the first that fits counts, and the neurons that a day has, `None` for no end of them."""

    rules: tuple[Rule, ...] = ()
    allocation: float | None = None


_EXPECTS_OF_RULE: Mapping[str, str] = {
    **EXPECTS,
    "match": "a table of conditions",
    "times": "a whole number from 1",
    "after": "a whole number from 0",
}
_EXPECTS_OF_MATCH: Mapping[str, str] = {
    "model": "the id of a model, in which * and ? stand for anything",
    "task": "the task of a model such as Text Generation",
    "contains": "a text",
    "pattern": "a regular expression",
    "stream": "true or false",
}


def read_playbook(file: Path) -> Playbook:
    """Raises RulesError, also for a file that cannot be read."""
    try:
        return parse_playbook(file.read_bytes(), as_json=file.suffix.lower() == ".json")
    except OSError as exc:
        raise RulesError(f"it cannot be read ({exc.strerror})") from None


def parse_playbook(body: bytes, *, as_json: bool = False) -> Playbook:
    """Raises RulesError with all that is wrong: the line where the file is no TOML, else rule and key."""
    content = _decoded(body, as_json)
    problems = [f"there is no key '{key[:50]}'; known are allocation, rules" for key in content if key not in _TOP]
    allocation, rules = content.get("allocation"), content.get("rules", [])
    if allocation is not None and not _is_amount(allocation):
        problems.append("'allocation' has to be a number of neurons from 0")
    if not isinstance(rules, list):
        problems.append("'rules' has to be a list: write [[rules]]")
        rules = []
    parsed = [_rule(value, number, problems) for number, value in enumerate(rules, 1)]
    if problems:
        raise RulesError(*problems)
    return Playbook(rules=tuple(rule for rule in parsed if rule is not None), allocation=allocation)


_TOP = ("allocation", "rules")


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _decoded(body: bytes, as_json: bool) -> dict[str, Any]:
    try:
        # tomllib refuses a byte-order mark, which editors on Windows write.
        text = body.decode("utf-8-sig")
        content = loads(text.encode()) if as_json else tomllib.loads(text)
    except UnicodeDecodeError:
        raise RulesError("it has to be UTF-8 text") from None
    except NotJson as exc:
        raise RulesError(f"it has to be JSON: {exc}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise RulesError(f"it has to be TOML: {exc}") from None
    if not isinstance(content, dict):
        raise RulesError("it has to be an object with 'rules', a list")
    return content


def _rule(value: Any, number: int, problems: list[str]) -> Rule | None:
    """The rule; `None` if it is wrong, which is then told in `problems`."""
    try:
        if isinstance(value, dict) and isinstance(value.get("match"), dict):
            value = {**value, "match": _match(value["match"])}
        return msgspec.convert(value, Rule)
    except msgspec.ValidationError as exc:
        problems.append(f"rule {number}: {complaint(exc, _EXPECTS_OF_RULE).message}")
    except RulesError as exc:
        problems.append(f"rule {number}: in 'match': {exc}")
    return None


def _match(value: dict[str, Any]) -> Match:
    try:
        return msgspec.convert(value, Match)
    except msgspec.ValidationError as exc:
        raise RulesError(complaint(exc, _EXPECTS_OF_MATCH).message) from None
