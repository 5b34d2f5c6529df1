"""Keeps the list of models in step with the account, in the background and never in the way."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from adapters.catalogue import Catalogue, load_snapshot
from adapters.cloudflare_account import Access, search_models
from adapters.errors import RelayError
from proxy.dispatch import Shelf
from proxy.stored_catalogue import write_catalogue

log = logging.getLogger("relay")

INTERVAL = 24 * 3600.0  # seconds; models come and go by the week
AFTER_FAILURE = 15 * 60.0


async def keep_fresh(shelf: Shelf, access: Access, state_dir: Path, offered: Callable[[Catalogue], Catalogue]) -> None:
    """Read the account's models now and once a day; `offered` adds what is ours to each reading."""
    while True:
        try:
            done = await _refresh(shelf, access, state_dir, offered)
        except Exception as exc:  # noqa: BLE001 - a list of models is not worth the server that it would take down
            frames = "".join(traceback.format_tb(exc.__traceback__))
            log.error("bug: %s while the list of models was refreshed\n%s", type(exc).__name__, frames)
            done = False
        await asyncio.sleep(INTERVAL if done else AFTER_FAILURE)


async def _refresh(shelf: Shelf, access: Access, state_dir: Path, offered: Callable[[Catalogue], Catalogue]) -> bool:
    try:
        rows = await search_models(access)
    except RelayError as exc:
        log.warning("the list of models could not be refreshed (%s)", exc.fault.value.code)
        return False
    if not rows:
        log.warning("the account lists no models; the list is left as it is")
        return False
    fresh = load_snapshot().overlaid(rows, datetime.now(UTC).isoformat(timespec="seconds"))
    shelf.catalogue = offered(fresh)
    log.info("the account lists %d models", len(rows))
    try:
        write_catalogue(state_dir, fresh)
    except OSError as exc:
        log.warning("the list of models could not be stored (%s)", exc.strerror)
    return True
