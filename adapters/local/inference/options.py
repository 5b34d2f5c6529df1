"""How a model is loaded. Knows no torch, so that settings can be checked without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Quantization = Literal["none", "int8", "nf4", "torchao-int8", "torchao-int4", "torchao-float8"]
"""`int8` and `nf4` are bitsandbytes'. A folder that is quantised already takes none: its own method is used."""
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """How a model is loaded. `auto` is what device and folder suggest."""

    device: str = "auto"
    dtype: str = "auto"
    """A torch type's name; auto: as in the folder, but half of it on CUDA where the folder has float32."""
    quantization: Quantization = "none"
    """What is done to the weights while they are loaded."""
    threads: int | None = None
    """Of the CPU; None: all cores but one, which is left to the event loop."""
    trust_remote_code: bool = False
    """Whether Python code in the folder may be run."""
