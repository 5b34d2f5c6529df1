"""The engines that are known: what each takes, gets wrong, and tells of itself. docs/engines.md shows the table.

Sources: llama-server, chatglm.cpp 0.4.2 and transformers serve 5.23 were run (2026-11); of vLLM 0.33, SGLang 0.5 and
Ollama the documentation and the source were read.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from adapters.local import own
from adapters.wire.engine_form import ALL_CHOICES, EngineForm

_OPENAI = (*("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs"),)
_SERVERS = (*_OPENAI, "top_k", "min_p", "repetition_penalty", "chat_template_kwargs")
_EFFORTS = ("none", "low", "medium", "high")


def _same(*names: str, **renamed: str) -> Mapping[str, str]:
    """Fields by our names, to the engine's."""
    return {**{name: name for name in names}, **renamed}


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """Names of an engine's gauges at `/metrics`; of `cache` (a share from 0 to 1) the first that is there counts."""

    running: str
    waiting: str
    cache: tuple[str, ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of engine. Paths are below its root, which is its base URL without `/v1`."""

    name: str
    form: EngineForm
    ready: str
    """The path that answers 200 once the engine can take work."""
    deaf_while_busy: bool = False
    """It answers nothing at all while it computes a whole answer: then silence is not death."""
    gauges: Gauges | None = None
    slots: str | None = None
    """The path of llama-server's list of slots."""
    loaded: str | None = None
    """The path of Ollama's list of models in memory."""
    max_concurrency: int
    """Requests at once, unless the operator says otherwise."""
    embeddings: bool = True
    verbatim_limits: bool = False
    """What it says of full queues and long prompts is worded for the relay's callers."""
    queues: bool = False
    """It keeps the queue, knows best in which order, and says when it is full: everything is sent to it."""
    changes: bool = False
    """It tells, in a header, what of a request makes no difference to its model, or less than was asked for."""
    tenants: bool = False
    """It is told who asks, and keeps apart what they asked; only ours, on this machine."""


_VLLM = Profile(
    name="vllm",
    form=EngineForm(fields=_same(*_SERVERS), bounds={"top_p": (0.001, 1)}, efforts=_EFFORTS, reasoning="reasoning"),
    ready="/health",
    gauges=Gauges(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        cache=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    max_concurrency=64,
)

_SGLANG = Profile(
    name="sglang",
    form=EngineForm(
        fields=_same(*_SERVERS), bounds={"top_p": (0.001, 1)}, efforts=_EFFORTS, reasoning="reasoning_content"
    ),
    ready="/health",
    gauges=Gauges(running="sglang:num_running_reqs", waiting="sglang:num_queue_reqs", cache=("sglang:token_usage",)),
    max_concurrency=64,
)

_LLAMA_SERVER = Profile(
    name="llama-server",
    form=EngineForm(
        fields=_same(*_OPENAI, "top_k", "min_p", "chat_template_kwargs", repetition_penalty="repeat_penalty"),
        seeds=2**32 - 1,  # the one after these means: at random
        efforts=None,
        effort_in_template=True,
        least_alternatives=1,  # without a number it tells 20, with 0 none of anything
        logprobs_beside_tools=False,
        tool_choices=ALL_CHOICES - {"named"},  # an object is taken for "auto"
        reasoning="reasoning_content",
    ),
    ready="/health",
    gauges=Gauges(running="llamacpp:requests_processing", waiting="llamacpp:requests_deferred"),
    slots="/slots",
    max_concurrency=4,
)

_OLLAMA = Profile(
    name="ollama",
    form=EngineForm(
        fields=_same("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logprobs"),
        efforts=_EFFORTS,
        tool_choices=frozenset(),
        parallel_tool_calls=False,
        names=False,
        reasoning="reasoning",
    ),
    ready="/api/version",
    loaded="/api/ps",
    max_concurrency=4,
)

_CHATGLM_CPP = Profile(
    name="chatglm.cpp",
    form=EngineForm(
        fields=_same("temperature", "top_p"),
        bounds={"temperature": (0, 2), "top_p": (0, 1)},
        stop=False,
        stream_options=False,
        finish_reasons=False,
        total_limit=4096,
        prompt_limit=512,
        schemas=False,
        tool_choices=frozenset(),
        parallel_tool_calls=False,
        text_calls=True,
        tool_turns=False,
        alternating=True,
        names=False,
        one_image=True,
        leading_break=True,
    ),
    ready="/v1/models",
    deaf_while_busy=True,
    max_concurrency=1,
    embeddings=False,
)

_TRANSFORMERS_SERVE = Profile(
    name="transformers-serve",
    form=EngineForm(
        fields=_same("temperature", "top_p", "seed", "frequency_penalty"),
        bounds={"frequency_penalty": (0, 2)},  # it becomes a repetition penalty of 1 + x
        approximated=frozenset({"frequency_penalty"}),
        stream_options=False,
        schemas=False,
        tool_choices=frozenset(),
        parallel_tool_calls=False,
    ),
    ready="/health",
    max_concurrency=1,
    embeddings=False,
)

_ANY = Profile(
    name="openai",
    form=EngineForm(fields=_same(*_OPENAI), bounds={"temperature": (0, 2)}, efforts=None, dimensions=True),
    ready="/v1/models",
    max_concurrency=64,
)

_OWN = Profile(
    name=own.PROFILE,
    form=EngineForm(fields=_same(*_SERVERS), efforts=None, reasoning="reasoning_content", dimensions=True),
    ready="/health",
    gauges=Gauges(
        running="relay_engine_running_requests",
        waiting="relay_engine_waiting_requests",
        cache=("relay_engine_cache_use_ratio",),
    ),
    max_concurrency=own.ROWS,
    verbatim_limits=True,
    queues=True,
    changes=True,
    tenants=True,
)
"""The relay's own: it takes everything, and says itself what its model has no use for."""

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (_VLLM, _SGLANG, _LLAMA_SERVER, _OLLAMA, _CHATGLM_CPP, _TRANSFORMERS_SERVE, _ANY, _OWN)
}
CHOICES = tuple(name for name in PROFILES if name != own.PROFILE)
"""Those that an operator can choose: ours comes with its kind."""
