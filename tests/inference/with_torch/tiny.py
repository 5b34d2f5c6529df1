"""Small models with random weights, made on the spot, and an engine around one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import anyio.to_thread
import torch
import transformers

from adapters.local.inference.engine import Engine
from adapters.local.inference.model import BatchedModel
from adapters.local.inference.request import Finish, Job, Token
from adapters.local.inference.scheduler import Limits
from adapters.local.inference.stream import JobStream

torch.set_num_threads(1)

VOCABULARY = 199
CONTEXT = 256
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "eos_token_id": None,
}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", {}),
    "Qwen2": ("Qwen2Config", {}),
    "Qwen3": ("Qwen3Config", {"head_dim": 16}),
    "Qwen3-MoE": (
        "Qwen3MoeConfig",
        {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "Mistral, sliding": ("MistralConfig", {"sliding_window": 24}),
    "Gemma 3, sliding": (
        "Gemma3TextConfig",
        {"head_dim": 16, "sliding_window": 24, "layer_types": ["sliding_attention"] * 3},
    ),
    "Gemma 3, mixed": ("Gemma3TextConfig", {"head_dim": 16, "sliding_window": 24, "layer_types": _MIXED}),
    "Phi-3": ("Phi3Config", {}),
    "GLM-4": ("Glm4Config", {"head_dim": 16}),
    "GPT-2": (
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 64,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": CONTEXT,
            "initializer_range": 0.15,
            "eos_token_id": None,
        },
    ),
}


@cache
def tiny(name: str = "Llama") -> Any:
    """A model of this architecture: the same weights in every test."""
    config_name, changes = ARCHITECTURES[name]
    config = getattr(transformers, config_name)(**(changes if name == "GPT-2" else SHAPE | changes))
    torch.manual_seed(7)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def generated(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """What `generate` makes of the prompt, greedily."""
    ids = torch.tensor([list(prompt)])
    config = transformers.GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0)
    with torch.inference_mode():
        output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return [int(token) for token in output[0, len(prompt) :]]


@asynccontextmanager
async def running(
    model: Any = None, *, rows: int = 4, context: int | None = None, fixed: bool | None = None, **limits: int
) -> AsyncIterator[Engine]:
    """An engine at work, with few rows and small steps so that all of its paths are taken."""
    small = {"chunk": 24, "idle_chunk": 48, "keep": rows, "queue": 64}
    engine = Engine(
        BatchedModel(model or tiny(), rows=rows, context=context, fixed=fixed), Limits(rows=rows, **(small | limits))
    )
    engine.start()
    try:
        yield engine
    finally:
        await anyio.to_thread.run_sync(engine.close)


async def read(stream: JobStream) -> tuple[list[Token], Finish]:
    """All of it; there is exactly one finish, and it comes last."""
    steps = [step async for step in stream]
    assert [step.finish is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    finish = steps[-1].finish
    assert finish is not None
    return [step.token for step in steps if step.token is not None], finish


async def ids_of(engine: Engine, job: Job) -> list[int]:
    tokens, _ = await read(engine.submit(job))
    return [token.id for token in tokens]
