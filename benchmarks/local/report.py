"""The figures as Markdown for people and pages."""

from __future__ import annotations

import platform
from os import cpu_count
from typing import Any

Figures = dict[str, Any]
"""Of one contender: `name`, `started`, `memory`, `results` by scenario; or `name` and `skipped`, the reason."""


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {cpu_count()} cores, Python {platform.python_version()}"


def markdown(report: dict[str, Any]) -> str:
    measured = [each for each in report["contenders"] if "results" in each]
    parts = [_heading(report)]
    if measured:
        names = [result["name"] for result in measured[0]["results"]]
        parts += [
            "Tokens per second, all clients together (clients × prompt+answer tokens):",
            _table(names, measured, lambda result: f"{result['tokens_per_second']:.0f}"),
            "Milliseconds to the first token, p50 / p99:",
            _table(names, measured, _first),
            "Milliseconds between tokens, p50 / p99:",
            _table(names, measured, lambda result: _pair(result["between_tokens"], 1)),
            _costs(measured),
            *_shares(measured),
            *_ratios(measured),
            *_added(measured),
            *_cancels(measured),
        ]
    parts += [f"Not measured: {each['name']}: {each['skipped']}" for each in report["contenders"] if "skipped" in each]
    parts += [f"FAILED: {name}, {what}" for name, what in failures(report)]
    return "\n\n".join(parts)


def best_of(runs: list[Figures]) -> Figures:
    """By scenario the run with the highest rate, with all failures; else the worst that was seen."""
    measured = [each for each in runs if "results" in each]
    if len(measured) < len(runs) or len(runs) == 1:
        return next((each for each in runs if "skipped" in each), runs[0])
    results = []
    for same in zip(*(each["results"] for each in measured), strict=True):
        best = max(same, key=lambda result: float(result["tokens_per_second"]))
        together: dict[str, int] = {}
        for result in same:
            for what, count in result["failures"].items():
                together[what] = together.get(what, 0) + count
        results.append(best | {"failures": together})
    added = [each["added"] for each in measured if each.get("added")]
    cancels = [each["cancel"] for each in measured if each.get("cancel")]
    return max(measured, key=lambda each: float(each["memory"] or 0)) | {
        "added": min(added, key=lambda times: float(times["added"])) if added else None,
        "cancel": min(cancels, key=lambda times: float(times["beside_median"])) if cancels else None,
        "results": results,
        "started": max(each["started"] for each in measured),
    }


def failures(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{each['name']}, {result['name']}", f"{count} times {what}")
        for each in report["contenders"]
        for result in each.get("results", ())
        for what, count in result["failures"].items()
    ]


def _heading(report: dict[str, Any]) -> str:
    return (
        f"{report['machine']}; model {report['model']}, {report['dtype']} on {report['device']}, "
        f"{report['threads']} threads, at most {report['rows']} requests in a batch, best of {report['repeat']}."
    )


def _table(names: list[str], measured: list[Figures], cell: Any) -> str:
    rows = [["", *names]]
    rows += [[each["name"], *(cell(result) for result in each["results"])] for each in measured]
    return _lines(rows)


def _lines(rows: list[list[str]]) -> str:
    rule = "|---|" + "---:|" * (len(rows[0]) - 1)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], rule, *lines[1:]])


def _first(result: dict[str, Any]) -> str:
    """Those that gave up would have waited longest."""
    return _pair(result["first_token"], 1) + (f" ({result['given_up']} gave up)" if result["given_up"] else "")


def _pair(times: dict[str, float] | None, digits: int) -> str:
    return f"{times['p50']:.{digits}f} / {times['p99']:.{digits}f}" if times else "-"


def _costs(measured: list[Figures]) -> str:
    rows = [["", "start, s", "resident memory, MB", "device memory, MB"]]
    for each in measured:
        memory = [f"{each[key]:.0f}" if each.get(key) else "-" for key in ("memory", "device_memory")]
        rows.append([each["name"], f"{each['started']:.1f}", *memory])
    return _lines(rows)


def _shares(measured: list[Figures]) -> list[str]:
    """How near a single stream comes to the time that reading the weights takes."""
    lines = []
    for each in measured:
        alone = [result for result in each["results"] if result["clients"] == 1]
        if "bandwidth" in each and alone and alone[0]["between_tokens"]:
            limit = each["bandwidth"] / each["weight_bytes"]
            rate = 1e3 / alone[0]["between_tokens"]["p50"]
            lines.append(
                f"{each['name']}, one stream: {rate:.1f} tokens per second, {rate / limit:.0%} of the {limit:.1f} that "
                f"{each['weight_bytes'] / 1e9:.1f} GB of weights at {each['bandwidth'] / 1e12:.2f} TB/s (a copy) allow."
            )
    return lines


def _ratios(measured: list[Figures]) -> list[str]:
    """The own engine in this process against the others in it, by scenario."""
    by_name = {each["name"]: each["results"] for each in measured}
    own = by_name.get("own engine")
    lines = []
    for other in ("generate with a lock", "transformers' continuous batching"):
        if own and other in by_name:
            pairs = zip(own, by_name[other], strict=True)
            ratios = [f"{a['tokens_per_second'] / b['tokens_per_second']:.1f} at {a['name']}" for a, b in pairs]
            lines.append(f"The own engine's rate, as a multiple of {other}: {', '.join(ratios)}.")
    return lines


def _added(measured: list[Figures]) -> list[str]:
    return [
        f"{each['name']}: {each['added']['added']:.1f} ms more until the first token, median of neighbours "
        f"({each['added']['direct']:.1f} directly, {each['added']['through']:.1f} through it, one client)."
        for each in measured
        if each.get("added")
    ]


def _cancels(measured: list[Figures]) -> list[str]:
    return [
        f"{each['name']}: the place of a client that leaves is free after {times['alone_median']:.0f} ms (at most "
        f"{times['alone_most']:.0f}) while {times['others']} write, and after {times['beside_median']:.0f} (at most "
        f"{times['beside_most']:.0f}) where prompts are read beside them."
        for each in measured
        if (times := each.get("cancel"))
    ]
