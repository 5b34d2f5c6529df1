"""Neurons by the prices of the catalogue."""

from __future__ import annotations

import pytest

from adapters.canonical import Usage
from adapters.catalogue import Model, Price
from adapters.neurons import neurons_of


def model(**neurons: float) -> Model:
    units = {"input": "per M input tokens", "output": "per M output tokens", "cached": "per M cached input tokens"}
    price = tuple(Price(unit=units[name], neurons=value) for name, value in neurons.items())
    return Model(id="@cf/a/b", task="Text Generation", status="listed", price=price)


USAGE = Usage(prompt_tokens=2_000_000, completion_tokens=1_000_000, cached_tokens=500_000)

CASES: dict[str, tuple[Model, Usage | None, float]] = {
    "no usage": (model(input=1.0), None, 0.0),
    "no price": (model(), USAGE, 0.0),
    "what was told counts": (model(input=5.0), Usage(prompt_tokens=9, neurons=1.5), 1.5),
    "a zero that was told counts": (model(input=5.0), Usage(prompt_tokens=9, neurons=0.0), 0.0),
    "in and out": (model(input=10.0, output=100.0), USAGE, 120.0),
    "cached tokens at their own price": (model(input=10.0, output=100.0, cached=2.0), USAGE, 15.0 + 1.0 + 100.0),
    "more cached than there was": (model(input=10.0), Usage(prompt_tokens=1_000_000, cached_tokens=9_000_000), 10.0),
    "dollars alone": (
        Model(
            id="@cf/a/b",
            task="Text Generation",
            status="listed",
            price=(Price(unit="per M input tokens", price_usd=0.11), Price(unit="per step", neurons=3.0)),
        ),
        Usage(prompt_tokens=1_000_000),
        10_000.0,
    ),
    "a price of nothing known": (
        Model(id="@cf/a/b", task="t", status="listed", price=(Price(unit="per M input tokens"),)),
        USAGE,
        0.0,
    ),
}


@pytest.mark.parametrize(("of", "usage", "neurons"), CASES.values(), ids=CASES)
def test_neurons_are_those_told_or_those_of_the_tokens(of: Model, usage: Usage | None, neurons: float) -> None:
    assert neurons_of(of, usage) == pytest.approx(neurons)
