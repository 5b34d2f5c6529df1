"""What passes take of a GPU's memory beside weights and cache, measured before the cache is made.

The largest passes are run without a cache: over the longest context, and for as many rows as there may be. The graphs
have memory of their own, as much as a step takes; everything else takes turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache

from adapters.local.inference.attention import use_row_attention
from adapters.local.inference.cache import RowLayer, View
from adapters.local.inference.masks import Masks
from adapters.local.inference.model import LOOKED_AT, check_kind
from adapters.local.inference.request import Job, Sampling
from adapters.local.inference.sampling import Sampler, SamplerState

_FRAGMENTS = 1.1
"""What blocks of other sizes leave between them."""
_BESIDE = 512 * 2**20
"""Bytes of the driver and the libraries: recorded kernels, loaded code, the matrix library's memory for each stream."""
_ALIGNMENT = 64
_SLOWEST = Sampling(
    top_p=0.9, top_k=50, min_p=0.01, repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.1
)
_ALTERNATIVES = 20


def scratch_bytes(model: Any, *, rows: int, context: int, chunk: int, cuda: Any = torch.cuda) -> int:
    """Bytes, for `rows` jobs of `context` tokens each; `chunk`: tokens of prompts in one pass.

    The model's attention is ours from then on, as it is in a `BatchedModel`.
    """
    use_row_attention(model)
    passes = _Passes(model, rows, context)

    def peak(run: Callable[[], Any]) -> int:
        cuda.synchronize()
        cuda.reset_peak_memory_stats()
        before = cuda.memory_allocated()
        run()
        cuda.synchronize()
        return int(cuda.max_memory_allocated() - before)

    with torch.inference_mode():
        together = max(1, min(rows, LOOKED_AT // context))
        prefill = max(peak(lambda: passes.prefill(1, chunk)), peak(lambda: passes.prefill(together, chunk // together)))
        decode = peak(passes.decode)
        sample = peak(passes.sample)
    return int((max(prefill, sample) + decode) * _FRAGMENTS) + _BESIDE


class _Passes:
    """The passes of an engine over numbers that mean nothing."""

    def __init__(self, model: Any, rows: int, context: int) -> None:
        self._model = model
        self._masks = Masks(model.config.get_text_config())
        self._rows = rows
        self._context = context
        self._length = -(-(context + 1) // _ALIGNMENT) * _ALIGNMENT

    def prefill(self, rows: int, tokens: int) -> Any:
        """The last tokens of so many prompts that fill the context."""
        tokens = max(1, min(tokens, self._context))
        positions = torch.arange(self._context - tokens, self._context, device=self._model.device).repeat(rows, 1)
        return self._forward(positions, self._masks.of(positions, self._length), gathered=rows > 1)

    def decode(self) -> Any:
        positions = torch.full((self._rows, 1), self._context - 1, device=self._model.device)
        return self._forward(positions, self._masks.ranges(positions), gathered=False)

    def sample(self) -> Any:
        logits = self.decode()
        sampler = Sampler(logits.shape[-1], logits.device)
        alternatives = min(_ALTERNATIVES, logits.shape[-1])
        job = Job(prompt_ids=[0], max_tokens=1, sampling=_SLOWEST, logprobs=alternatives)
        states = [SamplerState(job) for _ in range(self._rows)]
        for state in states:
            sampler.join(state)
        return sampler.sample(logits, states)

    def _forward(self, positions: Any, mask: Any, gathered: bool) -> Any:
        cache = Cache(layers=[_NoLayer(self._length, gathered) for _ in check_kind(self._model)])
        output = self._model(
            input_ids=torch.zeros_like(positions),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


class _NoLayer(RowLayer):
    """Gives as many keys and values as a full cache, but keeps none."""

    def __init__(self, length: int, gathered: bool) -> None:
        """`gathered`: as copies, which a cache gives of rows that are not neighbours."""
        super().__init__(View(length=length), 0, length)
        self._gathered = gathered

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self._full(key_states), self._full(value_states)

    def _full(self, states: Any) -> Any:
        rows, heads, _, size = states.shape
        shape = (rows, heads, self.get_max_length(), size)
        return states.new_zeros(shape) if self._gathered else states.new_zeros(()).expand(shape)
