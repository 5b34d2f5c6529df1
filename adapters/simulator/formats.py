"""Strings of the formats that JSON Schema names; hosts and addresses are those set aside for documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from uuid import UUID


def _date(rng: Random) -> str:
    return f"{rng.randint(2020, 2029)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: Random) -> str:
    return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z"


def _host(rng: Random) -> str:
    return f"host-{rng.randint(1, 999)}.example.com"


FORMATS: Mapping[str, Callable[[Random], str]] = {
    "date-time": lambda rng: f"{_date(rng)}T{_time(rng)}",
    "date": _date,
    "time": _time,
    "duration": lambda rng: f"PT{rng.randint(1, 59)}M",
    "email": lambda rng: f"person{rng.randint(1, 999)}@example.com",
    "hostname": _host,
    "uri": lambda rng: f"https://{_host(rng)}/",
    "url": lambda rng: f"https://{_host(rng)}/",
    "uri-reference": lambda rng: f"/page/{rng.randint(1, 999)}",
    "uuid": lambda rng: str(UUID(int=rng.getrandbits(128), version=4)),
    "ipv4": lambda rng: f"192.0.2.{rng.randint(1, 254)}",
    "ipv6": lambda rng: f"2001:db8::{rng.randint(1, 0xFFFF):x}",
}
