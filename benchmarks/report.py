"""The figures as a table for people and as JSON for programs."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from os import cpu_count

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.load import Latency
from benchmarks.measure import Figures, Latencies, Plan


class Report(msgspec.Struct, frozen=True, kw_only=True):
    machine: str
    plan: Plan
    upstream: Latencies
    figures: list[Figures]


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {cpu_count()} cores, Python {platform.python_version()}"


def _pair(latency: Latency) -> str:
    return f"{latency.p50:.2f} / {latency.p99:.2f}"


ROWS: list[tuple[str, Callable[[Figures], str]]] = [
    ("CPU per request, 1 at a time, µs", lambda f: f"{f.cpu_request_alone:.0f}"),
    ("CPU per request, many at once, µs", lambda f: f"{f.cpu_request_together:.0f}"),
    ("CPU per streamed chunk, µs", lambda f: f"{f.cpu_chunk:.1f}"),
    ("... four times as fast", lambda f: f"{f.cpu_chunk_busy:.1f}"),
    ("added p50 / p99, 1 at a time, ms", lambda f: _pair(f.added.alone)),
    ("added p50 / p99, many at once, ms", lambda f: _pair(f.added.together)),
    ("added p50 / p99, first chunk, ms", lambda f: _pair(f.added.first_chunk)),
    ("added p50 / p99, each chunk, ms", lambda f: _pair(f.added.chunk)),
    ("requests per second, many at once", lambda f: f"{f.requests_per_second:.0f}"),
    ("streams held at once", lambda f: f"{f.streams_held} of {f.streams_wanted}"),
    ("resident memory with them, MB", lambda f: f"{f.memory_holding:.0f}"),
    ("resident memory at start, MB", lambda f: f"{f.memory_at_start:.0f}"),
    ("... after N requests", lambda f: f"{f.memory_after:.1f} (N={f.requests})"),
    ("... after N more", lambda f: f"{f.memory_after_twice:.1f}"),
    ("start to first answer, s", lambda f: f"{f.startup:.2f}"),
    ("failed requests", lambda f: ", ".join(f"{n} {what}" for what, n in f.failures.items()) or "0"),
]


def print_table(report: Report, console: Console) -> None:
    plan = report.plan
    table = Table("", *(figures.name for figures in report.figures), title=report.machine)
    for label, value in ROWS:
        table.add_row(label, *map(value, report.figures))
    console.print(table)
    upstream = report.upstream
    direct = (upstream.alone, upstream.together, upstream.first_chunk, upstream.chunk)
    console.print(
        f"Many at once: {plan.connections} connections. Streams: {plan.streams} of {plan.chunks} chunks, one every "
        f"{plan.interval} ms; those held at once: one chunk a second. "
        f"Added to the upstream's own times, in the same order: {', '.join(map(_pair, direct))} ms."
    )


def dump_json(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def has_failed(figures: Sequence[Figures]) -> bool:
    return any(each.failures for each in figures)
