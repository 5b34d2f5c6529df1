"""What an answer costs in neurons, Cloudflare's billing unit, where nobody told."""

from __future__ import annotations

from adapters.canonical import Usage
from adapters.catalogue import Model, Price

_USD_PER_NEURON = 0.011 / 1000
_M = 1_000_000


def neurons_of(model: Model, usage: Usage | None) -> float:
    """Neurons of one answer: those that Cloudflare told, else tokens by the model's prices.

    Cached tokens have a price of their own with some models. 0.0 where there is no usage, or no price for tokens:
    images and sounds are priced by what nobody counts here.
    """
    if usage is None:
        return 0.0
    if usage.neurons is not None:
        return usage.neurons
    rates = {price.unit: _neurons(price) for price in model.price}
    fresh = rates.get("per M input tokens", 0.0)
    cached = rates.get("per M cached input tokens", fresh)
    reused = min(usage.cached_tokens, usage.prompt_tokens)
    spent = (usage.prompt_tokens - reused) * fresh + reused * cached
    return (spent + usage.completion_tokens * rates.get("per M output tokens", 0.0)) / _M


def _neurons(price: Price) -> float:
    """For one unit of `price`."""
    if price.neurons is not None:
        return price.neurons
    return (price.price_usd or 0.0) / _USD_PER_NEURON
