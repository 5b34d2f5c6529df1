"""Native messages as OpenAI has them: content in parts, calls with ids, results that say which call they answer.

The older models' calls are `{name, arguments}` without an id, so a conversation that repeats them has none either;
Cloudflare's own examples answer one with nothing but `{"role": "tool", "name", "content"}`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any


def link_turns(messages: Any) -> Any:
    """The messages with what is missing filled in. What is of a wrong type is left as it is."""
    if not isinstance(messages, list):
        return messages
    waiting = _Waiting()
    return [_turn(message, i, waiting) if isinstance(message, dict) else message for i, message in enumerate(messages)]


class _Waiting:
    """Calls that have no result yet, the oldest first. No step looks through all of them."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._by_name: dict[Any, deque[str]] = {}

    def add(self, call: Any) -> None:
        if not isinstance(call, dict) or not isinstance(call["id"], str):
            return
        function = call["function"]
        name = function.get("name") if isinstance(function, dict) else None
        self._ids[call["id"]] = None
        if isinstance(name, str):
            self._by_name.setdefault(name, deque()).append(call["id"])

    def answered(self, id_: str) -> None:
        self._ids.pop(id_, None)

    def take(self, name: Any) -> str | None:
        """The id of the oldest call of this name, else of the oldest; `None` if there is none."""
        same = self._by_name.get(name) if isinstance(name, str) else None
        while same:
            id_ = same.popleft()
            if id_ in self._ids:
                del self._ids[id_]
                return id_
        return self._ids.popitem(last=False)[0] if self._ids else None


def _turn(message: dict[str, Any], i: int, waiting: _Waiting) -> dict[str, Any]:
    turn = dict(message)
    if isinstance(turn.get("content"), dict):
        turn["content"] = [turn["content"]]  # a single part
    calls = turn.get("tool_calls")
    if isinstance(calls, list):
        turn["tool_calls"] = [_call(call, f"call_{i}_{j}") for j, call in enumerate(calls)]
        for call in turn["tool_calls"]:
            waiting.add(call)
    if turn.get("role") == "tool":
        answered = turn.get("tool_call_id")
        if answered is None:
            turn["tool_call_id"] = waiting.take(turn.get("name")) or f"call_{i}"
        elif isinstance(answered, str):
            waiting.answered(answered)
    return turn


def _call(call: Any, id_: str) -> Any:
    if not isinstance(call, dict):
        return call
    function = call["function"] if "function" in call else {k: v for k, v in call.items() if k in ("name", "arguments")}
    return {"id": id_ if call.get("id") is None else call["id"], "function": function}
