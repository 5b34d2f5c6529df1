"""Whether a device is there, whose it is, and how much memory of it nobody uses."""

from __future__ import annotations

from typing import Any

import torch

from adapters.local.inference.errors import UnsupportedModel
from adapters.local.main_memory import free_for_cache

_MPS_SHARE = 0.9
"""The rest is for what a step computes in passing; on CUDA that is measured."""


def check_device(name: str) -> None:
    """Raises UnsupportedModel for a device that this machine, or this build of torch, does not have."""
    kind, _, number = name.partition(":")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UnsupportedModel("device mps: torch finds none here")
    if kind == "cuda" and int(number or 0) >= (count := torch.cuda.device_count()):
        raise UnsupportedModel(f"device {name}: torch finds {count} CUDA devices here")


def use_device(device: Any) -> None:
    """For this thread: Triton, streams and graphs take the device of the thread, and not that of their tensors."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def free_bytes(device: Any) -> int:
    """Bytes for the cache on this device, once the weights are there; on CUDA, for what passes take too."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int((torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()) * _MPS_SHARE)
    return free_for_cache()
