"""A process that uses a local engine as a worker of the relay does.

    python -m tests.support.engine_worker SOCKET NAME

Writes the engine's address once it has it, and keeps its lease until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from adapters.local.control import EngineClient


async def main(path: str, name: str) -> None:
    async with EngineClient(Path(path)) as client, client.lease(name) as address:
        sys.stdout.write(f"{address.uds or address.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
