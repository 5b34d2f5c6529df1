"""Tool calls in every form that an upstream sends them, as one.

Forms met (Cloudflare's own clients and captures, 2026): OpenAI's deltas; flat `{name, arguments}`
without id, whole; arguments as an object, or (Granite) as a JSON string inside a JSON string; a closing
piece in which all is null; an index that is missing or starts anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapters.canonical import ToolCall, ToolCallDelta
from adapters.errors import Fault, RelayError
from adapters.wire.json_text import NotJson, dump_text, loads

_MOST_HELD = 4 * 2**20  # characters of one call's arguments that are kept back


class _Open:
    """A call that is being received."""

    __slots__ = ("arguments_seen", "held", "held_size", "id", "name", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.id: str | None = None
        self.name: str | None = None
        self.arguments_seen = False
        self.held_size = 0
        self.held: list[str] | None = None  # arguments kept back: no name yet, or an encoded string


class ToolCallReader:
    """Pieces of calls, as upstreams send them, to deltas with indexes from 0 and one name each."""

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self._by_index: dict[int, _Open] = {}

    @property
    def any(self) -> bool:
        return bool(self._calls)

    def feed(self, items: Any) -> list[ToolCallDelta]:
        """The deltas of one list of pieces; `None` is an empty list. Raises RelayError on anything else."""
        if items is None:
            return []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise RelayError(Fault.UPSTREAM_ERROR, "The upstream sent tool calls in a form that cannot be read.")
        return [delta for item in items for delta in self._piece(item)]

    def close(self) -> list[ToolCallDelta]:
        """What was kept back. Raises RelayError if a call never got a name."""
        deltas: list[ToolCallDelta] = []
        for call in self._calls:
            if call.name is None:
                raise RelayError(Fault.UPSTREAM_ERROR, "The upstream sent a tool call without a name.")
            if call.held:
                deltas.append(ToolCallDelta(call.number, arguments=_unwrap("".join(call.held))))
            elif not call.arguments_seen:
                deltas.append(ToolCallDelta(call.number, arguments="{}"))
        return deltas

    def _piece(self, item: dict[str, Any]) -> Iterable[ToolCallDelta]:
        function = item.get("function")
        body = function if isinstance(function, dict) else item
        name = _text(body.get("name"))
        id_ = _text(item.get("id"))
        arguments = _arguments(body.get("arguments"))
        if name is None and id_ is None and not arguments:
            return ()  # the closing piece: not a call
        call = self._find(item.get("index"), id_, name)
        return self._advance(call, id_, name, arguments)

    def _find(self, index: Any, id_: str | None, name: str | None) -> _Open:
        if not isinstance(index, int):
            # Without an index a name begins a call, anything else goes on with the last one.
            if name is None and self._calls:
                return self._calls[-1]
            return self._begin(None)
        known = self._by_index.get(index)
        if known is None or (name and id_ and known.id and known.id != id_):
            return self._begin(index)
        return known

    def _begin(self, index: int | None) -> _Open:
        call = _Open(len(self._calls))
        self._calls.append(call)
        self._by_index[call.number if index is None else index] = call
        return call

    def _advance(
        self, call: _Open, id_: str | None, name: str | None, arguments: str | None
    ) -> Iterable[ToolCallDelta]:
        first = call.name is None and name is not None
        call.id = call.id or id_
        call.name = call.name or name
        ready = self._hold_or_pass(call, arguments or "")
        if first:
            return (ToolCallDelta(call.number, call.id, call.name, ready),)
        return (ToolCallDelta(call.number, arguments=ready),) if ready else ()

    @staticmethod
    def _hold_or_pass(call: _Open, arguments: str) -> str:
        """The part of the arguments that may go out now."""
        if call.held is not None and (call.name is None or call.held[0].startswith('"')):
            call.held.append(arguments)
            call.held_size += len(arguments)
            if call.held_size > _MOST_HELD:
                raise RelayError(Fault.UPSTREAM_ERROR, "The upstream sent the arguments of a call without an end.")
            return ""
        if call.held is not None:  # the name has come
            arguments, call.held = "".join(call.held) + arguments, None
        if call.arguments_seen:
            return arguments  # blanks too: they may stand inside a string
        if not arguments.strip():
            return ""
        if call.name is None or arguments.lstrip().startswith('"'):
            call.held = [arguments.lstrip()]
            return ""
        call.arguments_seen = True
        return arguments


def read_tool_calls(items: Any) -> tuple[ToolCall, ...]:
    """A whole list of calls. Raises RelayError."""
    reader = ToolCallReader()
    return join_tool_calls([*reader.feed(items), *reader.close()])


def join_tool_calls(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """Deltas, in the order they came, as whole calls."""
    ids: dict[int, str | None] = {}
    names: dict[int, str] = {}
    arguments: dict[int, list[str]] = {}
    for delta in deltas:
        if delta.name is not None:
            ids[delta.index], names[delta.index] = delta.id, delta.name
        arguments.setdefault(delta.index, []).append(delta.arguments)
    return tuple(
        ToolCall(id=ids[i], name=name, arguments="".join(arguments[i]) or "{}") for i, name in sorted(names.items())
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _arguments(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else dump_text(value)


def _unwrap(arguments: str) -> str:
    """Arguments that were encoded twice, once."""
    try:
        inner = loads(arguments.encode())
    except NotJson:
        return arguments
    return inner if isinstance(inner, str) else arguments
