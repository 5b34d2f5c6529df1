"""Prometheus' text format: the samples of a gauge, whatever stands around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wire.prometheus import read_samples
from tests.support.engine_wires import VLLM_METRICS

LINES: dict[str, tuple[bytes, list[float]]] = {
    "bare": (b"m 3\n", [3.0]),
    "with labels": (b'm{a="b"} 3.5\n', [3.5]),
    "with a time": (b'm{a="b"} 3 1795167460000\nm 4 1795167460000', [3.0, 4.0]),
    "a brace and a quote in a label": (b'm{a="}{\\" 9 "} 1e2', [100.0]),
    "no labels in the braces": (b"m{} 1", [1.0]),
    "blanks before and between": (b" m \t 7", [7.0]),
    "another metric's": (b"mm 1\nm_total 2\nn 3", []),
    "comments": (b"# HELP m the m\n# TYPE m gauge\n", []),
    "no number": (b"m x\nm{} \nm\nm{a=", []),
    "no finite number": (b"m NaN\nm +Inf\nm -Inf", []),
    "no UTF-8": (b'm{a="\xff"} 1', [1.0]),
    "carriage returns": (b"m 1\r\nm 2\r\n", [1.0, 2.0]),
}


@pytest.mark.parametrize(("text", "values"), LINES.values(), ids=LINES)
def test_the_samples_of_a_metric_are_read(text: bytes, values: list[float]) -> None:
    assert read_samples(text, ("m",)) == {"m": values}


def test_each_metric_has_its_own() -> None:
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "absent")
    assert read_samples(VLLM_METRICS, names) == {names[0]: [3.0, 1.0], names[1]: [2.0, 0.0], "absent": []}


@given(st.binary(max_size=80))
def test_no_text_does_worse_than_no_samples(text: bytes) -> None:
    assert set(read_samples(b"m " + text + b"\nm{" + text, ("m",))) == {"m"}
