"""Cloudflare's envelope around what succeeded, and the pages of its lists.

Sources: Cloudflare's OpenAPI document (2024-08) and its SDKs, which ask for page after page until one is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.datastructures import QueryParams
from starlette.responses import Response

from adapters.errors import InvalidRequest
from adapters.wire.json_text import encode

Message = Mapping[str, Any]

_MANY = 1000
_FAR = 10**9


class Page(NamedTuple):
    """A part of a list, of `size` rows, counted from 1."""

    number: int
    size: int

    def of(self, rows: Sequence[Any]) -> Response:
        """This page of `rows` as an answer. Past the last it is empty: only that ends the SDKs' asking."""
        start = (self.number - 1) * self.size
        part = rows[start : start + self.size]
        info = {"page": self.number, "per_page": self.size, "count": len(part), "total_count": len(rows)}
        return enveloped(part, result_info=info)


def page_of(query: QueryParams, *, size: int = 100) -> Page:
    """The page that a query asks for (`page`, `per_page`). Raises InvalidRequest."""
    return Page(whole_number(query, "page", 1, high=_FAR) or 1, whole_number(query, "per_page", 1, high=_MANY) or size)


def whole_number(query: QueryParams, name: str, low: int, *, high: int = _FAR) -> int | None:
    """A number of the query; none where it is left out or empty. Raises InvalidRequest."""
    text = query.get(name, "").strip()
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(high)) else -1
    if not low <= number <= high:
        raise InvalidRequest(f"Invalid '{name}': expected a whole number from {low} to {high}.", param=name)
    return number


def flag(query: QueryParams, name: str) -> bool:
    """A truth value of the query; false where it is left out or empty. Raises InvalidRequest."""
    text = query.get(name, "").strip().lower()
    if text not in _FLAGS:
        raise InvalidRequest(f"Invalid '{name}': expected true or false.", param=name)
    return _FLAGS[text]


_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}


def enveloped(
    result: Any,
    *,
    result_info: Mapping[str, int] | None = None,
    messages: Iterable[Message] = (),
) -> Response:
    """`result` as the API's clients expect it: all four members, whatever they hold."""
    body: dict[str, Any] = {"result": result, "success": True, "errors": [], "messages": list(messages)}
    if result_info is not None:
        body["result_info"] = result_info
    return bare(body)


def bare(value: Any) -> Response:
    """A JSON answer. The binding compares its content type with `===`: no character set beside it."""
    return Response(encode(value), media_type="application/json")
