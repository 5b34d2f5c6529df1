"""Prometheus' text format, as far as gauges need it (exposition format 0.0.4)."""

from __future__ import annotations

import math
from collections.abc import Collection


def read_samples(text: bytes, names: Collection[str]) -> dict[str, list[float]]:
    """The finite values of each of the metrics, one a set of labels; a metric that is not there has none.

    Lines that cannot be read are no samples: what else a server exposes is not ours to judge.
    """
    samples: dict[str, list[float]] = {name: [] for name in names}
    for line in text.decode("utf-8", "replace").splitlines():
        name = line.partition("{")[0].split(maxsplit=1)
        if not name or name[0] not in samples:
            continue
        # A label's value may hold anything, braces too; what follows the last brace holds none.
        rest = (line.rpartition("}")[2] if "{" in line else line.partition(name[0])[2]).split()
        value = _number(rest[0]) if rest else None
        if value is not None:
            samples[name[0]].append(value)
    return samples


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
