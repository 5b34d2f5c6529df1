"""Whether a device is there, and what the cache may take of it: memory that nobody uses, and what one token needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from adapters.local.inference.errors import UnsupportedModel

_GPU_SHARE = 0.9
"""The rest is for what a step computes in passing."""
_CPU_SHARE = 0.5
"""Of memory that everything on the machine shares; a row takes it only as it is filled."""
_CGROUP = Path("/sys/fs/cgroup")
_MEMORY = Path("/proc/meminfo")


def check_device(name: str) -> None:
    """Raises UnsupportedModel for a device that this machine, or this build of torch, does not have."""
    kind, _, number = name.partition(":")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UnsupportedModel("device mps: torch finds none here")
    if kind == "cuda" and int(number or 0) >= (count := torch.cuda.device_count()):
        raise UnsupportedModel(f"device {name}: torch finds {count} CUDA devices here")


def free_bytes(device: Any) -> int:
    """Bytes for the cache on this device, once the weights are there."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _GPU_SHARE)
    if device.type == "mps":
        return int((torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()) * _GPU_SHARE)
    return int(min(_available(), _left_in_group(_CGROUP)) * _CPU_SHARE)


def token_bytes(model: Any) -> int:
    """Bytes of one token's keys and values in all layers, at most."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers * 2 * heads * size * _dtype(model).itemsize)


def _dtype(model: Any) -> Any:
    """The type that is computed in; quantised weights have another."""
    dtype = model.dtype
    return dtype if dtype.is_floating_point else torch.bfloat16


def _available() -> int:
    for line in _text(_MEMORY).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_group(group: Path) -> int:
    """What a container's limit leaves. Source: Linux, Documentation/admin-guide/cgroup-v2.rst."""
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    return max(0, int(limit) - int(used)) if limit.isdecimal() and used.isdecimal() else 2**62


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
