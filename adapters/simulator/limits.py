"""What is too long for a model, by the simulator's own count of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.canonical import ChatRequest
from adapters.catalogue import Model
from adapters.errors import RelayError
from adapters.simulator.script import AS_USUAL, ScriptedError
from adapters.simulator.tokens import count, cut

_TOO_LONG = 5021
_TRUNCATING = "data_shape_or_scores"
"""bge-m3, the one embedder of which it is known what it does with a text that is too long: its caller says."""


def require_room(request: ChatRequest, model: Model, prompt_tokens: int) -> None:
    """Raises RelayError (5021) if the prompt, with the answer that its caller wants room for, is past the context."""
    wanted = 0 if request.max_tokens_by_relay else request.max_tokens or 0
    if model.context_window is not None and prompt_tokens + wanted > model.context_window:
        raise _too_long(model, "messages")


def fitted(texts: Sequence[str], model: Model, *, truncate: bool, param: str) -> Sequence[str]:
    """The texts as the model reads them. Raises RelayError (5021) for one that is too long and must not be cut."""
    limit = model.max_input_tokens or model.context_window
    if model.native_result != _TRUNCATING or limit is None:
        return texts
    if truncate:
        return [cut(text, limit) for text in texts]
    # A token has a character at least.
    if any(len(text) > limit and count(text) > limit for text in texts):
        raise _too_long(model, param)
    return texts


def _too_long(model: Model, param: str) -> RelayError:
    """As Cloudflare tells it."""
    error = ScriptedError(AS_USUAL, _TOO_LONG, model)
    error.param = param
    return error
