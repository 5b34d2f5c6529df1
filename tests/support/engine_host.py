"""A relay's parent process, as far as engines go: `python -m tests.support.engine_host STATE_DIR SPECS`.

`SPECS` is JSON. Writes a line once engines can be had, and ends in order when its standard input does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from adapters.local.host import supervised
from adapters.local.look import look
from adapters.local.spec import EngineSpec


def main(state_dir: str, specs: str) -> None:
    engines = msgspec.json.decode(specs, type=list[EngineSpec])
    with supervised(engines, probe=look, state_dir=Path(state_dir), surroundings=os.environ):
        sys.stdout.write("running\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
