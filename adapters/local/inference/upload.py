"""Small tensors from the host to the device without waiting for what the device is doing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def upload(numbers: Sequence[Any], device: Any, dtype: Any = None) -> Any:
    """A tensor of the numbers. `torch.tensor(..., device=...)` would wait until the device has done all before."""
    return send(torch.tensor(numbers, dtype=dtype), device)


def send(tensor: Any, device: Any) -> Any:
    """A tensor to the device, which may read it later: one of the host's is copied to pinned memory first."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
