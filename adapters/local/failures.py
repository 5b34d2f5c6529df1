"""What went wrong with an engine: when it may be tried again, and what those are told who wait for it."""

from __future__ import annotations

import re

from adapters.errors import Fault, RelayError
from adapters.local.backoff import Backoff

_FOLDER = r"(?=[^\s/])(?:[^/\n:'\"]|[:'\"](?![\s,.;:)/]))*(?<!\s)/"
_PATH = re.compile(rf"(?:(?<![\w./-])|(?<=file://))/(?:{_FOLDER})*([^\s/:;,()'\"]+)/?")
"""A path, as far as it shows: folders may have nearly any characters, with blanks between them; its last part has none.
Not what follows the slashes of another address than a file's."""


class Failures:
    """Of one engine. All times in seconds of the caller's clock."""

    def __init__(self, engine: str, backoff: Backoff) -> None:
        self._engine = engine
        self._backoff = backoff
        self._refusal: RelayError | None = None
        self.error: str | None = None
        """What the last run failed of; `None` once one went well."""
        self.retry_at = 0.0
        self.starts = 0
        """How many starts have failed: whoever waits for one sees by it that this was it."""

    @property
    def in_a_row(self) -> int:
        return self._backoff.failures

    def ended(self, how: str, ran: float | None, now: float) -> float:
        """A run failed, `ran` seconds after it was ready, or before (`None`). The pause before it may start again."""
        pause = self._backoff.failed(ran)
        self._refusal = None
        self.error = how
        self.retry_at = now + pause
        self.starts += ran is None
        return pause

    def refused(self, refusal: RelayError) -> None:
        """It could not even be started."""
        self._refusal = refusal
        self.starts += 1

    def started(self) -> None:
        self._refusal = None

    def went_well(self) -> None:
        self._backoff.reset()
        self.error = None

    def forgive(self) -> None:
        """The next start is as the first one, whatever has been."""
        self._backoff.reset()

    def as_error(self, now: float) -> RelayError:
        """A fresh one each time: an exception that many raise collects all their frames."""
        if self._refusal:
            exc = self._refusal
            return RelayError(exc.fault, exc.message, retry_after=exc.retry_after)
        return RelayError(
            Fault.UPSTREAM_UNREACHABLE,
            f"The engine {self._engine!r} cannot be used: {_without_folders(self.error or '')}.",
            retry_after=max(self.retry_at - now, 1.0),
        )


def _without_folders(text: str) -> str:
    """For clients, to whom it is no news how this machine's folders are called."""
    return _PATH.sub(r".../\1", text)
