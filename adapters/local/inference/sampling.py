"""The next token of every row at once. What a row gets depends on its own logits, settings and random numbers alone:
a seeded job has the same answer whatever else is in the batch.

A random row takes one number u in [0, 1) a token from its job's own generator and finds u in the cumulated
probabilities, in the order of the vocabulary. Greedy rows take none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from adapters.local.inference.constraints import gather_masks
from adapters.local.inference.errors import JobFailed
from adapters.local.inference.penalties import Penalties
from adapters.local.inference.request import Job, Token
from adapters.local.inference.upload import upload

_NOT_FINITE, _NOTHING_ALLOWED = 1, 2
_FAULTS = {
    _NOT_FINITE: "the model gave numbers that are not finite",
    _NOTHING_ALLOWED: "the constraint allows no token",
}
_BITS = 24
"""Of a random number: as many as float32 holds below 1."""


class SamplerState:
    """What the sampler remembers of one job."""

    __slots__ = ("job", "line", "random")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.random = random.Random(job.sampling.seed)
        self.line: int | None = None


@dataclass(slots=True)
class _Groups:
    """Which rows of a batch need what; lists of row numbers."""

    penalised: list[int]
    biased: list[int]
    constrained: list[int]
    drawn: list[int]
    sorted: list[int]
    """Positions within `drawn`."""
    logprobs: list[int]

    @classmethod
    def of(cls, states: Sequence[SamplerState]) -> _Groups:
        settings = [state.job.sampling for state in states]
        drawn = [i for i, s in enumerate(settings) if not s.greedy]
        return cls(
            penalised=[i for i, s in enumerate(settings) if s.penalised],
            biased=[i for i, s in enumerate(settings) if s.logit_bias],
            constrained=[i for i, state in enumerate(states) if state.job.constraint is not None],
            drawn=drawn,
            sorted=[i for i, row in enumerate(drawn) if settings[row].top_k or settings[row].top_p < 1],
            logprobs=[i for i, state in enumerate(states) if state.job.logprobs is not None],
        )


class Sampler:
    """Used by the engine's thread alone."""

    def __init__(self, vocabulary: int, device: Any) -> None:
        self._vocabulary = vocabulary
        self._device = device
        self._penalties = Penalties(vocabulary, device)

    def join(self, state: SamplerState) -> None:
        """Before a job's first token."""
        if state.job.sampling.penalised:
            state.line = self._penalties.add(state.job.prompt_ids)

    def leave(self, state: SamplerState) -> None:
        """After its last, if there was any."""
        if state.line is not None:
            self._penalties.remove(state.line)
            state.line = None

    def sample(self, logits: Any, states: Sequence[SamplerState]) -> list[Token | JobFailed]:
        """One token for each row of `logits` [n, vocabulary], or why there is none. Waits for the device once."""
        groups = _Groups.of(states)
        raw = logits.float()
        faults = torch.where(torch.isfinite(raw.amax(-1)), 0, _NOT_FINITE)
        told = self._logprobs(raw, groups, states)
        scores, failed = self._adjusted(raw, groups, states)
        if groups.constrained:
            empty = torch.isneginf(scores.amax(-1)) & (faults == 0)
            faults = torch.where(empty, _NOTHING_ALLOWED, faults)
        tokens = scores.argmax(-1)
        if groups.drawn:
            rows = self._tensor(groups.drawn)
            tokens[rows] = self._draw(scores[rows], groups, [states[row] for row in groups.drawn])
        if groups.penalised:
            self._penalties.count(self._lines(groups, states), tokens[self._tensor(groups.penalised)])
        return self._fetch(tokens, faults, told, groups, states, failed)

    # ---------------------------------------------------------------- from logits to scores

    def _adjusted(self, raw: Any, groups: _Groups, states: Sequence[SamplerState]) -> tuple[Any, dict[int, Exception]]:
        """Logits after penalties, bias and constraints, and the rows whose constraint raised."""
        if not (groups.penalised or groups.biased or groups.constrained):
            return raw, {}
        scores = raw.clone()
        if groups.penalised:
            settings = [states[row].job.sampling for row in groups.penalised]
            self._penalties.apply(scores, self._tensor(groups.penalised), self._lines(groups, states), settings)
        if groups.biased:
            bias = [(row, *item) for row in groups.biased for item in states[row].job.sampling.logit_bias.items()]
            rows, ids, values = zip(*bias, strict=True)
            place = (self._tensor(rows), self._tensor(ids))
            scores.index_put_(place, upload(values, self._device, scores.dtype), accumulate=True)
        constraints = {row: c for row in groups.constrained if (c := states[row].job.constraint) is not None}
        masks, failed = gather_masks(constraints, self._vocabulary, self._device)
        if masks:
            rows = self._tensor(list(masks))
            scores[rows] = scores[rows].masked_fill(~torch.stack(list(masks.values())), -torch.inf)
        return scores, failed

    # ---------------------------------------------------------------- from scores to a token

    def _draw(self, scores: Any, groups: _Groups, states: Sequence[SamplerState]) -> Any:
        settings = [state.job.sampling for state in states]
        temperature = self._floats([s.temperature for s in settings])
        # From the largest on: a temperature near 0 must not overflow.
        chances = ((scores - scores.amax(-1, keepdim=True)) / temperature).softmax(-1)
        if groups.sorted or any(s.min_p for s in settings):
            least = self._floats([s.min_p for s in settings]) * chances.amax(-1, keepdim=True)
            if groups.sorted:
                some = self._tensor(groups.sorted)
                top_k = [settings[i].top_k or self._vocabulary for i in groups.sorted]
                top_p = [settings[i].top_p for i in groups.sorted]
                bound = least_kept(chances[some], self._tensor(top_k)[:, None], self._floats(top_p))
                least[some] = torch.maximum(least[some], bound)
            chances = torch.where(chances >= least, chances, 0)
        cumulated = chances.cumsum(-1)
        total = cumulated[:, -1:]
        u = self._floats([state.random.getrandbits(_BITS) / 2**_BITS for state in states])
        # Below the total in spite of rounding, and right of equals: what is found has a chance above 0.
        found = torch.minimum(u * total, torch.nextafter(total, torch.zeros_like(total)))
        # A row that is not finite finds nothing; it fails, but its number must be a token's.
        return torch.searchsorted(cumulated, found, right=True).clamp_(max=self._vocabulary - 1)[:, 0]

    # ---------------------------------------------------------------- to the host, in one piece

    def _logprobs(self, raw: Any, groups: _Groups, states: Sequence[SamplerState]) -> tuple[Any, Any, Any] | None:
        """All logprobs of the rows that tell them, and the best ones with their ids."""
        if not groups.logprobs:
            return None
        most = max(states[row].job.logprobs or 0 for row in groups.logprobs)
        logprobs = raw[self._tensor(groups.logprobs)].log_softmax(-1)
        best, ids = logprobs.topk(most, -1)
        return logprobs, best, ids

    def _fetch(
        self,
        tokens: Any,
        faults: Any,
        told: tuple[Any, Any, Any] | None,
        groups: _Groups,
        states: Sequence[SamplerState],
        failed: dict[int, Exception],
    ) -> list[Token | JobFailed]:
        parts = [tokens.int(), faults.int()]
        if told:
            logprobs, best, ids = told
            own = logprobs.gather(1, tokens[self._tensor(groups.logprobs)][:, None])
            parts += [torch.cat([own, best], 1).view(torch.int32).flatten(), ids.int().flatten()]
        host = torch.cat(parts).cpu()
        count = len(states)
        chosen, codes = host[:count].tolist(), host[count : 2 * count].tolist()
        answers: list[Token | JobFailed] = [Token(token) for token in chosen]
        if told:
            width = 1 + told[2].shape[1]
            numbers = host[2 * count :][: width * len(groups.logprobs)].view(torch.float32).view(-1, width).tolist()
            best_ids = host[2 * count + width * len(groups.logprobs) :].view(len(groups.logprobs), -1).tolist()
            for row, (own_logprob, *others), alike in zip(groups.logprobs, numbers, best_ids, strict=True):
                wanted = states[row].job.logprobs or 0
                alternatives = tuple(zip(alike, others, strict=True))[:wanted]
                answers[row] = Token(chosen[row], own_logprob, alternatives)
        for row, code in enumerate(codes):
            if code:
                answers[row] = JobFailed(_FAULTS[code])
        for row, exc in failed.items():
            answers[row] = constraint_failed(exc)
        return answers

    # ---------------------------------------------------------------- small tensors

    def _lines(self, groups: _Groups, states: Sequence[SamplerState]) -> Any:
        return self._tensor([states[row].line for row in groups.penalised])

    def _tensor(self, numbers: Sequence[Any]) -> Any:
        return upload(numbers, self._device)

    def _floats(self, numbers: Sequence[float]) -> Any:
        """A column."""
        return upload(numbers, self._device, torch.float32)[:, None]


def least_kept(chances: Any, top_k: Any, top_p: Any) -> Any:
    """The smallest chance that top-k, and top-p of what it leaves, keep in each row; equal ones stay together."""
    ordered = _descending(chances)
    rank = torch.arange(ordered.shape[-1], device=ordered.device)
    ordered_kept = torch.where(rank < top_k, ordered, 0)
    before = ordered_kept.cumsum(-1) - ordered_kept
    kept = (rank < top_k) & (before < top_p * ordered_kept.sum(-1, keepdim=True))
    last = (kept.sum(-1, keepdim=True) - 1).clamp_(min=0)
    return ordered.gather(-1, last)


def _descending(chances: Any) -> Any:
    if chances.device.type != "cpu":
        return chances.sort(-1, descending=True).values
    # numpy sorts with vector instructions: ten times as fast as torch for a vocabulary.
    return torch.from_numpy(numpy.sort(chances.numpy())).flip(-1)


def constraint_failed(exc: Exception) -> JobFailed:
    """Names the kind of error alone: its text may hold a part of the answer."""
    failure = JobFailed(f"the constraint failed: {type(exc).__name__}")
    failure.__cause__ = exc
    return failure
