"""Specs of the fake engine, and a look at it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from adapters.local.spec import EngineSpec

FAKE_ENGINE = Path(__file__).parent / "fake_engine.py"


def fake(*behaviour: object, name: str = "fake", place: str = "--socket", **fields: Any) -> EngineSpec:
    """The fake engine, at a Unix socket or with `place="--port"` at a port; `fields` are the spec's."""
    return EngineSpec(
        name=name,
        profile="llama-server",  # it is ready when /health answers 200
        command=(*fake_command(), place, "{" + place.removeprefix("--") + "}", *map(str, behaviour)),
        **fields,
    )


def fake_command() -> tuple[str, ...]:
    return (sys.executable, "-I", str(FAKE_ENGINE))
