"""How far the engine is that a person waits for: a line on a terminal's standard error, gone once the answer begins."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import click
from rich.cells import set_cell_size

from adapters.catalogue import load_snapshot
from adapters.errors import RelayError
from adapters.local.control import EngineClient
from adapters.local.folders import control_socket
from proxy.engine_models import engine_models, engines_of
from proxy.settings import Settings

_LOOKS_APART = 0.5  # seconds


class Line:
    """One line that is written over and over, without a trace in the end. Nothing where there is no terminal."""

    def __init__(self) -> None:
        self.is_seen = sys.stderr.isatty()
        self._width = 0
        self._text = ""

    def show(self, text: str) -> None:
        """`text` has no controls in it; an empty one takes the line away."""
        if not text:
            return self.clear()
        if text != self._text:
            self._text = text
            self._width = max(1, shutil.get_terminal_size().columns - 1)  # past the last column some go on below
            click.echo("\r" + click.style(set_cell_size(text, self._width), dim=True), nl=False, err=True)

    def clear(self) -> None:
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width, self._text = 0, ""


def local_engines_of(settings: Settings, name: str) -> frozenset[str]:
    """The engines of this machine that may be started for a request for a model of this name."""
    local = [engine for engine in settings.engines if engine.is_local]
    if not local:
        return frozenset()
    base = load_snapshot()
    whole = base.with_models(engine_models(settings.engines, base, settings.model_rules))
    whole = whole.with_aliases(settings.aliases)

    def id_of(name: str) -> str:
        try:
            return whole.resolve(name).id
        except RelayError:
            return name

    wanted = id_of(name)
    rules = [rule for ruled, rule in settings.model_rules.items() if id_of(ruled) == wanted and rule.candidates]
    candidates = rules[0].candidates if rules else engines_of(settings.engines, base).get(wanted, ())
    upstreams = {candidate.upstream for candidate in candidates}
    return frozenset(engine.name for engine in local if engine.upstream in upstreams)


@asynccontextmanager
async def watching(state_dir: Path, engines: frozenset[str], show: Callable[[str], None]) -> AsyncIterator[None]:
    """`show` is told within the block how far these engines' starts are, as `relay engines` has it; `""` for nothing.

    Of a relay on another machine, or on another state folder, nothing is known.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(_watch(state_dir, engines, show))
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - raised again below, outside the group that would wrap it
            failure = exc
        finally:
            watcher.cancel()
    if failure is not None:
        raise failure


async def _watch(state_dir: Path, engines: frozenset[str], show: Callable[[str], None]) -> None:
    try:
        async with EngineClient(control_socket(state_dir)) as client:
            while True:
                starts = [status for status in await client.status() if status.name in engines and status.progress]
                show(f"{starts[0].name}: {starts[0].progress}" if starts else "")
                await asyncio.sleep(_LOOKS_APART)
    except RelayError:
        return
