"""In whose words an error is told: every prefix of our paths belongs to one dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.exceptions import HTTPException

from adapters.errors import RelayError


class Refusal(Protocol):
    """An error as an HTTP answer."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]: ...

    def body(self) -> bytes: ...


class Problems(Protocol):
    """A module that turns what went wrong into answers of its dialect."""

    @property
    def of_relay_error(self) -> Callable[[RelayError], Refusal]: ...

    @property
    def of_refused_caller(self) -> Callable[[bool, str], Refusal]:
        """For a caller that presented no token (`True`) or one that is not ours; with the text of the error."""

    @property
    def of_http_exception(self) -> Callable[[HTTPException, str, str], Refusal]:
        """For what the router and the reading of bodies can say; with the method and the path."""

    @property
    def INTERNAL(self) -> Refusal: ...


class Dialects:
    """Finds the dialect of a path: that of the first test which it passes, else `default`."""

    __slots__ = ("_default", "_tests")

    def __init__(self, default: Problems, tests: Sequence[tuple[Callable[[str], bool], Problems]] = ()) -> None:
        self._default = default
        self._tests = tuple(tests)

    def of_path(self, path: str) -> Problems:
        for belongs, problems in self._tests:
            if belongs(path):
                return problems
        return self._default
