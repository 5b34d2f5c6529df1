"""What is asked of the engine, in tokens, and what it answers step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal, Protocol

from adapters.local.inference.errors import InferenceError, InvalidJob, PromptTooLong

FinishReason = Literal["stop", "length", "cancelled", "error"]


class Constraint(Protocol):
    """A grammar, one per job, used by the engine's thread alone. What it raises fails its job and no other."""

    def mask(self) -> Any:
        """Which tokens may come next.

        Either booleans of shape [vocabulary], or 32-bit words of shape [(vocabulary + 31) // 32], lowest bit first; as
        a tensor or a numpy array. It is read before the next call.
        """

    def advance(self, token: int) -> bool:
        """This token came, which is no stop token. Returns whether the answer is complete with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a token is chosen; the defaults draw from the model's own distribution.

    Order: penalties, bias, constraint, temperature, top-k, top-p (of what top-k left), min-p (of the likeliest).
    """

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is off."""
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    """Divides the positive logits, multiplies the negative ones, of tokens in the prompt or the answer."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    """Both are subtracted for tokens of the answer; this one times their count."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        # Below some 1e-38 a temperature is 0 to the device, and long before nothing but the best is ever drawn.
        return self.temperature < 1e-6 or self.top_k == 1

    @property
    def penalised(self) -> bool:
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One answer to one prompt."""

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling = GREEDY
    stop_ids: frozenset[int] = frozenset()
    """End tokens: the answer ends with the first of them, which is delivered and counted."""
    logprobs: int | None = None
    """How many alternatives to tell with each token's logprob; 0: its own alone; None: no logprobs."""
    constraint: Constraint | None = None
    salt: str = ""
    """What others have computed of the prompt is taken over from jobs of the same salt alone: how fast an answer
    begins, and what its usage says, tells nobody what those of another have asked."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the answer. Logprobs are natural, of the model's own distribution before any sampling setting."""

    id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens, best first."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a job; each job has exactly one. Token counts are of the job's own."""

    reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    """How many of the prompt were taken over from another job's cache."""
    completion_tokens: int
    error: InferenceError | None = None
    """Why, where the reason is "error"."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of the engine meant for one job: a token, the end, or both."""

    token: Token | None
    finish: Finish | None = None


def siblings(job: Job, n: int, constraints: Sequence[Constraint] = ()) -> list[Job]:
    """`n` jobs for one prompt, which is computed once. Seeds count up from the job's own.

    A constraint keeps the state of one answer, so a constrained job needs `n` of them. Raises InvalidJob if not.
    """
    if job.constraint is not None and len(constraints) != n:
        raise InvalidJob("constraint", f"{n} answers need as many constraints")
    seed = job.sampling.seed
    return [
        replace(
            job,
            sampling=job.sampling if seed is None else replace(job.sampling, seed=seed + i),
            constraint=constraints[i] if constraints else None,
        )
        for i in range(n)
    ]


RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 2**31),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "repetition_penalty": (0.01, 100.0),
}


def check_job(job: Job, *, vocabulary: int, context: int) -> None:
    """Refuse what could only fail later. Raises InvalidJob, PromptTooLong."""
    if not job.prompt_ids:
        raise InvalidJob("prompt_ids", "a prompt has at least one token")
    if len(job.prompt_ids) >= context:
        raise PromptTooLong(len(job.prompt_ids), context)
    if min(job.prompt_ids) < 0 or max(job.prompt_ids) >= vocabulary:
        raise InvalidJob("prompt_ids", f"a token is not in 0..{vocabulary - 1}")
    if job.max_tokens < 1:
        raise InvalidJob("max_tokens", "must be at least 1")
    if job.logprobs is not None and not 0 <= job.logprobs <= vocabulary:
        raise InvalidJob("logprobs", f"must be in 0..{vocabulary}")
    for name, (low, high) in RANGES.items():
        if not low <= getattr(job.sampling, name) <= high:
            raise InvalidJob(name, f"must be in {low:g}..{high:g}")
    for token, bias in job.sampling.logit_bias.items():
        if not 0 <= token < vocabulary:
            raise InvalidJob("logit_bias", f"token {token} is not in 0..{vocabulary - 1}")
        if not isfinite(bias):
            raise InvalidJob("logit_bias", "must be finite")
