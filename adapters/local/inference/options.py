"""How a model is loaded. Knows no torch, so that settings can be checked without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from adapters.local.inference.errors import UnsupportedModel

Quantization = Literal["none", "int8", "nf4", "torchao-int8", "torchao-int4", "torchao-float8"]
"""`int8` and `nf4` are bitsandbytes'. A folder that is quantised already takes none: its own method is used."""
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "int8": ("accelerate", "bitsandbytes"),
    "nf4": ("accelerate", "bitsandbytes"),
    "torchao-int8": ("accelerate", "torchao"),
    "torchao-int4": ("accelerate", "torchao"),
    "torchao-float8": ("accelerate", "torchao"),
}
"""What each method takes beside the extra."""
_CUDA_ALONE = frozenset({"torchao-int4"})


def cuda_alone(name: str, device: str) -> str | None:
    """Why this method cannot be had on a device, as torch or the settings call it; `None` where nothing is against it,
    or where it is not known yet which device it is (`auto`)."""
    if name not in _CUDA_ALONE or device == "auto" or device.partition(":")[0] == "cuda":
        return None
    return f"quantization {name} is for CUDA alone, and the device is {device}: take another one"


def check_quantization(name: str, present: str | None, is_missing: Callable[[str], bool]) -> None:
    """Raises UnsupportedModel where it cannot be had: `present` is the method by which the weights are quantised
    already, `is_missing` whether a package is not installed."""
    if name == "none":
        return
    if present:
        raise UnsupportedModel(
            f"quantization {name} cannot be had, since the folder is quantised already by {present}: leave it out"
        )
    if missing := [package for package in PACKAGES[name] if is_missing(package)]:
        raise UnsupportedModel(f"quantization {name} needs {' and '.join(missing)}: pip install {' '.join(missing)}")


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
