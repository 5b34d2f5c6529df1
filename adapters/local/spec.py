"""What the operator says of an engine; plain values, checked by whoever reads the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from adapters.local.own import OwnModel

KEEP_ALIVE = 300.0
START_TIMEOUT = 600.0


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[engines]]` entry: a remote engine has `urls`, a local one a `command`; never both.

    An engine of the relay's own has the command that runs `own`. Where an entry names several devices there is one of
    these for each, and `group` is the entry's name.

    `urls` are base URLs that end in `/v1` (several are replicas of one another), with `weights` beside them. In
    `command` the texts `{port}` and `{socket}` stand for where the engine shall listen; a command with neither listens
    at `port`. `models` maps the names that clients may ask for to the engine's own; those in `embeddings` turn texts
    into vectors. Times are in seconds, `memory` in bytes (what the engine takes of the budget while it runs).
    `keep_alive` counts for local engines only: so long may one be without work before it is stopped; `None`: for ever.
    """

    name: str
    profile: str = "openai"
    urls: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    command: tuple[str, ...] = ()
    port: int | None = None
    directory: Path | None = None
    environment: Mapping[str, str] = {}
    api_key: str | None = None
    models: Mapping[str, str] = {}
    embeddings: tuple[str, ...] = ()
    max_concurrency: int | None = None
    queue: int | None = None
    context_window: int | None = None
    keep_alive: float | None = KEEP_ALIVE
    start_timeout: float = START_TIMEOUT
    memory: int | None = None
    trust_remote_code: bool = False
    own: OwnModel | None = None
    group: str | None = None

    def __repr__(self) -> str:
        return f"EngineSpec({self.name!r})"  # the key and the environment are nobody's to print

    @property
    def is_local(self) -> bool:
        return bool(self.command)

    @property
    def longest_context(self) -> int | None:
        """Tokens that prompt and answer may have together, as far as that is known before it runs."""
        known = (self.context_window, self.own.longest if self.own else None)
        return min((limit for limit in known if limit is not None), default=None)

    @property
    def upstream(self) -> str:
        """What candidates and `x-relay-upstream` call it."""
        return self.group or self.name
