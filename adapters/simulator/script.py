"""What shall happen to a request, told in a few words: the script of a header or of a rule.

Pure: who plays scripts is in `scripted`, the rules are in `rules`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from adapters.canonical import FinishReason, Usage
from adapters.catalogue import Model
from adapters.errors import InvalidRequest, RelayError
from adapters.wire.json_text import NotJson, loads
from adapters.wire.workers_ai_codes import CODES, words_of
from adapters.wire.workers_ai_errors import read_error

HEADER = "x-relay-script"
EXHAUSTED = 3036
"""Cloudflare's code for a day's allocation that is used up."""

_BY_CODE_ALONE = 500  # a status that adds nothing to what a code says
_MANY = 1_000_000

Trouble = Literal["cut", "malformed", "hang"]
"""What can befall an answer on its way."""
TROUBLES: tuple[Trouble, ...] = ("cut", "malformed", "hang")

_Count = Annotated[int, msgspec.Meta(ge=0, le=_MANY)]


class GivenCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    arguments: dict[str, Any] = {}


class GivenUsage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall happen; what is left out is as it would be without a script.

    `text`, `tool_calls` and `finish_reason` are for chats, `result` (native JSON) is for every other task. `delay` is
    in seconds before the first piece, `rate` in tokens per second. `cut` and `hang` let so many chunks through,
    `malformed` is the number of the chunk that cannot be read, from 1.
    """

    text: str | None = None
    tool_calls: list[GivenCall] | None = None
    finish_reason: FinishReason | None = None
    result: Any = None
    usage: GivenUsage | None = None
    error: Annotated[int, msgspec.Meta(ge=1, le=99_999)] | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=300)] | None = None
    delay: Annotated[float, msgspec.Meta(ge=0, le=3600)] | None = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=_MANY)] | None = None
    cut: _Count | None = None
    malformed: Annotated[int, msgspec.Meta(ge=1, le=_MANY)] | None = None
    hang: _Count | None = None

    def __post_init__(self) -> None:
        given = [key for key in Script.__struct_fields__ if getattr(self, key) is not None]
        for key in given:
            for other in _EXCLUDES.get(key, ()):
                if other in given:
                    raise ValueError(f"'{key}' cannot be combined with '{other}'")
        for key in ("status", "message"):
            if key in given and "error" not in given:
                raise ValueError(f"'{key}' has no meaning without 'error'")
        if self.error is not None and self.status is None and self.error not in CODES:
            raise ValueError(f"'error' is {self.error}, no code of Cloudflare's that is known; {_KNOWN_CODES}")

    @property
    def chat_key(self) -> str | None:
        """The first key that only a chat can follow."""
        keys = {"text": self.text, "tool_calls": self.tool_calls, "finish_reason": self.finish_reason}
        return next((key for key, value in keys.items() if value is not None), None)

    @property
    def trouble(self) -> Trouble | None:
        return next((name for name in TROUBLES if getattr(self, name) is not None), None)

    def trouble_at(self, pieces: int) -> int | None:
        """Before which piece of so many the trouble comes, from 0; `pieces` is the end, which every answer has."""
        name = self.trouble
        if name is None:
            return None
        number: int = getattr(self, name)
        return min(number - (name == "malformed"), pieces)

    @property
    def told_usage(self) -> Usage | None:
        if self.usage is None:
            return None
        return Usage(prompt_tokens=self.usage.prompt_tokens, completion_tokens=self.usage.completion_tokens)


_EXCLUDES: Mapping[str, tuple[str, ...]] = {
    "error": ("text", "tool_calls", "finish_reason", "result", "usage", "rate", *TROUBLES),
    "result": ("text", "tool_calls", "finish_reason", "rate"),
    "cut": ("malformed", "hang"),
    "malformed": ("hang",),
}

AS_USUAL = Script()


_KNOWN_CODES = f"give its 'status' too, or one of {', '.join(map(str, CODES))}"


class ScriptedError(RelayError):
    """An error of Cloudflare's that a script asks for: it means what its code means.

    `status` is what comes with it: the script's, else the code's own. `words` are the script's, if it has any; `told`
    are those of the code `error`, where `{path}` and `{method}` may stand for the request's. `inference` is `False` for
    what Cloudflare says before any model is asked.
    """

    def __init__(self, script: Script, error: int, model: Model) -> None:
        known = CODES.get(error)
        told = words_of(error, model=model.id, limit=model.context_window, retired_on=model.retired_on) if known else ""
        self.error = error
        self.status = script.status or (known and known.status) or _BY_CODE_ALONE
        self.words = script.message
        self.inference = known is None or known.inference
        envelope = {"errors": [{"code": error, "message": script.message or told}]}
        meaning = read_error(self.status, envelope, context_window=model.context_window)
        self.told = told or meaning.message
        super().__init__(meaning.fault, meaning.message, param=meaning.param, code=meaning.code, upstream_code=error)


class Scene:
    """How one request is answered: by one script, however often the relay tries.

    `spoil` is what is to become of the bytes that are sent next, where the caller sees the wire itself; a silence
    there ends after `idle` seconds.
    """

    __slots__ = ("idle", "model", "script", "spoil")

    def __init__(self, model: str, script: Script, idle: float) -> None:
        self.model = model
        self.script = script
        self.idle = idle
        self.spoil: Trouble | None = None

    @property
    def scripted(self) -> bool:
        return self.script != AS_USUAL


# ---------------------------------------------------------------- what is wrong with one

EXPECTS: Mapping[str, str] = {
    "text": "a text",
    "tool_calls": "a list of calls, each with a 'name' and perhaps 'arguments', an object",
    "finish_reason": "stop, length, tool_calls or content_filter",
    "result": "the native result, as JSON",
    "usage": f"counts up to {_MANY}: 'prompt_tokens', 'completion_tokens'",
    "error": "a code of Cloudflare's such as 3036",
    "status": "an HTTP status from 400 to 599",
    "message": "a text of 1 to 300 characters",
    "delay": "a number of seconds from 0 to 3600",
    "rate": "a number of tokens per second above 0",
    "cut": "a number of chunks from 0",
    "malformed": "the number of a chunk, from 1",
    "hang": "a number of chunks from 0",
}

# msgspec's texts, 0.18 to 0.22.
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.S)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`", re.S)
_SHOWN = 50  # characters of an unknown key


class Complaint(NamedTuple):
    """`key` is the first one on the way to what is wrong, empty where it is the whole."""

    key: str
    message: str


def complaint(exc: msgspec.ValidationError, expects: Mapping[str, str] = EXPECTS) -> Complaint:
    """What is wrong, by the key and never by its value."""
    match = _AT.match(str(exc))
    what, path = (match["what"], match["path"] or "") if match else (str(exc), "")
    key = re.split(r"[.\[]", path.removeprefix("."))[0]
    if exc.__cause__ is not None:  # our own words
        return Complaint(key, str(exc.__cause__))
    if not key and (unknown := _UNKNOWN.fullmatch(what)):
        return Complaint("", f"there is no key '{unknown['key'][:_SHOWN]}'; known are {', '.join(sorted(expects))}")
    return Complaint(key, f"'{key}' has to be {expects[key]}" if key else "it has to be a table of keys and values")


# ---------------------------------------------------------------- the header

_KEY = re.compile(r"\s*([A-Za-z_]+)\s*=\s*")
_BARE = re.compile(r"[^;]*")
_END = re.compile(r"\s*(;|$)")


def parse_header(value: bytes) -> Script:
    """The script of a header: `key=value; key=value`, a value bare or as JSON, or all of it as one JSON object.

    Raises InvalidRequest naming the key.
    """
    try:
        text = value.decode().strip()
    except UnicodeDecodeError:
        raise _refused("it has to be UTF-8; JSON escapes such as \\u00e4 will do") from None
    as_json = text.startswith("{")
    fields = _object(text) if as_json else _fields(text)
    if not fields:
        raise _refused("it says nothing; an example is: delay=1.5; error=3036")
    try:
        return msgspec.convert(fields, Script, strict=as_json)
    except msgspec.ValidationError as exc:
        raise _refused(complaint(exc).message) from None


def _refused(what: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid header '{HEADER}': {what}.", param=HEADER)


def _object(text: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = loads(text.encode())
    except NotJson as exc:
        raise _refused(f"it begins like a JSON object and is none ({exc})") from None
    return value


def _fields(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    at = 0
    while at < len(text):
        head = _KEY.match(text, at)
        if head is None:
            raise _refused("expected key=value, several of them parted by semicolons")
        key = head[1]
        if key in fields:
            raise _refused(f"'{key[:_SHOWN]}' is there twice")
        fields[key], at = _value(text, head.end(), key)
        end = _END.match(text, at)
        if end is None:
            raise _refused(f"a semicolon is missing after the value of '{key[:_SHOWN]}'")
        at = end.end()
    return fields


def _value(text: str, at: int, key: str) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends."""
    if text[at : at + 1] not in ('"', "[", "{"):
        bare = _BARE.match(text, at)
        word = bare[0].strip() if bare else ""
        if not word:
            raise _refused(f"'{key[:_SHOWN]}' has no value")
        return word, at + len(word)
    try:
        end = json.JSONDecoder().raw_decode(text, at)[1]
        return loads(text[at:end].encode()), end  # stricter: no NaN, and surrogates that come alone are mended
    except (ValueError, RecursionError):
        raise _refused(f"the value of '{key[:_SHOWN]}' is no JSON") from None
