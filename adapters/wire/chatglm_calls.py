"""ChatGLM3's way of calling a function: its name on a line, then a fenced `tool_call(key='value')`.

Source: ChatGLM3's tool-use examples and chatglm.cpp 0.4.2, whose streams carry calls as text in this form:

    get_weather
    ```python
    tool_call(city='Oslo')
    ```
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from keyword import iskeyword
from typing import Any

from adapters.canonical import Delta, ToolCall, ToolCallDelta
from adapters.wire.json_text import NotJson, dump_text, loads

_FENCE = "```"
_CLOSING = "\n```"
_MOST_HELD = 2**15  # characters that may be a call; more than such a model's context holds
_MOST_INDENT = 8  # blanks before a function's name


class CallReader:
    """Text, cut anywhere, to deltas: calls of the functions in `names` become calls, all else stays text."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = ""
        self._at_line_start = True
        self._after_call = False
        self._calls = 0

    def feed(self, text: str) -> list[Delta]:
        """What can be told apart so far. What may be the beginning of a call is kept back."""
        text, self._held = self._held + text, ""
        out: list[Delta] = []
        while text:
            if self._after_call and not (text := text.lstrip()):  # what sets off the next call is nobody's text
                break
            self._after_call = False
            start = self._candidate(text)
            if start is None:
                out.append(Delta(text))
                self._at_line_start = text.endswith("\n")
                break
            if start:
                out.append(Delta(text[:start]))
                self._at_line_start = True
            text = text[start:]
            end = _end_of_call(text)
            if end is None and len(text) <= _MOST_HELD:
                self._held = text
                break
            call = self._read(text[:end]) if end else None
            if call is None:  # the name was a line of its own and nothing more
                end = text.index("\n") + 1 if "\n" in text else len(text)
                out.append(Delta(text[:end]))
                self._at_line_start = text[end - 1] == "\n"
                text = text[end:]
            else:
                out.append(call)
                text = text[end:]
                self._at_line_start = self._after_call = True
        return out

    def close(self) -> list[Delta]:
        """What was kept back: a call that lacks only its closing fence, or text."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [self._read(held) or Delta(held)]

    def _candidate(self, text: str) -> int | None:
        """Where a line begins that is, or may become, one of the names; `None` if there is none."""
        start = 0 if self._at_line_start else text.find("\n") + 1
        if not start and not self._at_line_start:
            return None
        while True:
            end = text.find("\n", start)
            line = text[start:] if end < 0 else text[start:end]
            if end < 0:
                return start if self._may_be_name(line) else None
            if line.strip() in self._names:
                return start
            start = end + 1

    def _may_be_name(self, line: str) -> bool:
        name = line.lstrip()
        if len(line) - len(name) > _MOST_INDENT:
            return False
        return any(known.startswith(name) or name.rstrip() == known for known in self._names)

    def _read(self, text: str) -> Delta | None:
        name, _, rest = text.partition("\n")
        name, rest = name.strip(), rest.strip()
        if name not in self._names or not rest.startswith(_FENCE):
            return None
        arguments = read_arguments(rest.partition("\n")[2].removesuffix(_FENCE))
        if arguments is None:
            return None
        self._calls += 1
        return Delta(tool_calls=(ToolCallDelta(self._calls - 1, None, name, arguments),))


def _end_of_call(text: str) -> int | None:
    """Where the call at the head of `text` ends, `0` if there is none, `None` if more has to come."""
    name, line_break, rest = text.partition("\n")
    body = rest.lstrip()
    if not line_break or _FENCE.startswith(body):
        return None
    if not body.startswith(_FENCE):
        return 0
    begin = len(text) - len(body) + len(_FENCE)
    label = text.find("\n", begin)
    closing = text.find(_CLOSING, label) if label >= 0 else -1
    return None if closing < 0 else closing + len(_CLOSING)


def read_arguments(text: str) -> str | None:
    """`tool_call(key='value')`, or a JSON object, as JSON text; `None` if it is neither. Nothing is run."""
    text = text.strip()
    try:
        value = loads(text.encode())
    except NotJson:
        return _read_python(text)
    return text if isinstance(value, dict) else None


def _read_python(text: str) -> str | None:
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            return None
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        return None if None in arguments else dump_text(arguments)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None  # no call, or values that JSON does not have


def dump_call(call: ToolCall) -> str:
    """A call of an earlier turn, in the words in which the model makes one."""
    return f"{call.name}\n{_FENCE}python\ntool_call({_keywords(call.arguments)}){_CLOSING}"


def _keywords(arguments: str) -> str:
    try:
        value: Any = loads(arguments.encode())
    except NotJson:
        value = None
    if not isinstance(value, dict):
        return arguments  # what the caller says the model wrote
    if all(key.isidentifier() and key.isascii() and not iskeyword(key) for key in value):
        return ", ".join(f"{key}={item!r}" for key, item in value.items())
    return f"**{value!r}"
