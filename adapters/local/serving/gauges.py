"""What the engine is doing, in Prometheus' text format (exposition format 0.0.4)."""

from __future__ import annotations

from adapters.local.inference.stats import Stats

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def dump_stats(stats: Stats) -> bytes:
    """Gauges and counters. A request that is prefilled runs, as it does for other engines."""
    rows = (
        ("running_requests", "gauge", "Requests that are being computed.", stats.running + stats.prefilling),
        ("waiting_requests", "gauge", "Requests in the queue.", stats.waiting),
        ("kept_prefixes", "gauge", "Finished prompts that are kept for others that begin alike.", stats.kept),
        ("cache_use_ratio", "gauge", "Share of the cache that is in use.", stats.cache_use),
        ("cache_bytes", "gauge", "Size of the cache.", stats.cache_bytes),
        ("tokens_per_second", "gauge", "Generated tokens a second over the last ten.", stats.tokens_per_second),
        ("generated_tokens_total", "counter", "Generated tokens.", stats.generated_tokens),
        ("prompt_tokens_total", "counter", "Tokens of prompts.", stats.prompt_tokens),
        ("reused_tokens_total", "counter", "Tokens of prompts that were taken over.", stats.reused_tokens),
    )
    lines = []
    for name, kind, text, value in rows:
        full = f"relay_engine_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}", f"{full} {value}"]
    return ("\n".join(lines) + "\n").encode()
