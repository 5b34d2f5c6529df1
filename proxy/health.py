"""Is the process alive, and can it do its work?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.types import Receive, Scope, Send

from adapters.errors import RelayError
from adapters.wire.json_text import encode
from proxy.answers import send_body
from proxy.drain import Drain

FRESH = 30.0  # seconds for which a check of the upstream holds; probes come every few
_PATIENCE = 5.0  # seconds; a probe that waits longer has been given up by its sender

Check = Callable[[], Awaitable[None]]


class Health:
    """`/healthz`: the process answers; of all else only who answers for models that no engine has, in a header."""

    def __init__(self, upstream: str) -> None:
        self._headers = ((b"x-relay-upstream", upstream.encode()),)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_body(send, b'{"status":"ok"}', headers=self._headers)


class Readiness:
    """`/readyz`: 200 when the storage can be written and the upstream is usable, else 503 with the reasons.

    `check` costs nothing upstream and raises RelayError; its outcome is kept for half a minute.
    """

    def __init__(self, state_dir: Path, check: Check, drain: Drain, *, fresh: float = FRESH) -> None:
        self._state_dir = state_dir
        self._check = check
        self._drain = drain
        self._fresh = fresh
        self._checked_at = float("-inf")
        self._verdict = ""
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        checks = {
            "server": "shutting down" if self._drain.started else "ok",
            "storage": "ok" if _writable(self._state_dir) else "the state directory cannot be written",
            "upstream": await self._upstream(),
        }
        ready = all(verdict == "ok" for verdict in checks.values())
        body = encode({"status": "ready" if ready else "not ready", "checks": checks})
        await send_body(send, body, status=200 if ready else 503)

    async def _upstream(self) -> str:
        async with self._lock:  # probes that come together share one check
            if time.monotonic() - self._checked_at > self._fresh:
                self._verdict = await self._ask()
                self._checked_at = time.monotonic()
            return self._verdict

    async def _ask(self) -> str:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._check()
        except TimeoutError:
            return "no answer in time"
        except RelayError as exc:
            return exc.fault.value.code
        return "ok"


def _writable(directory: Path) -> bool:
    """Whether files can be made there, or the directory itself where it does not exist yet."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)
