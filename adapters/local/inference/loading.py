"""A model's weights, out of a folder onto a device."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.free import use_device
from adapters.local.inference.memory import keep_freed_memory
from adapters.local.inference.options import ModelOptions, check_quantization, cuda_alone
from adapters.local.inference.progress import OnProgress, weights_progress

log = logging.getLogger(__name__)

ATTENTION = "sdpa"
"""Takes a boolean mask, and does not repeat the keys of grouped queries while it decodes."""


def load_model(folder: Path, options: ModelOptions, on_progress: OnProgress | None = None) -> Any:
    """The model in `folder`, ready on its device to write answers. Raises UnsupportedModel.

    Takes seconds to minutes: not for the event loop. Nothing is downloaded. `on_progress` is told, in this thread,
    lines such as "loading weights 42% of 14.2 GB".
    """
    return load_weights(transformers.AutoModelForCausalLM, folder, options, on_progress)


def load_weights(auto: Any, folder: Path, options: ModelOptions, on_progress: OnProgress | None) -> Any:
    """As `load_model`, for what one of transformers' `Auto...` classes makes of the folder."""
    torch.set_num_threads(options.threads or max(1, (os.cpu_count() or 2) - 1))
    device = torch.device(best_device() if options.device == "auto" else options.device)
    use_device(device)
    known: dict[str, Any] = {"local_files_only": True, "trust_remote_code": options.trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **known)
        dtype = choose_dtype(options.dtype, config, device)
        if alone := cuda_alone(options.quantization, device.type):
            raise UnsupportedModel(alone)
        if quantization := quantization_config(options, config, dtype):
            known["quantization_config"] = quantization
        if needs_placing(device, config, options):
            known["device_map"] = {"": device}
        with weights_progress(folder, on_progress):
            model = auto.from_pretrained(folder, config=config, dtype=dtype, attn_implementation=ATTENTION, **known)
    except (OSError, ValueError, ImportError, RuntimeError) as exc:
        raise UnsupportedModel(f"{folder} cannot be loaded: {exc}") from exc
    if model.device.type != device.type:
        model = model.to(device)
    if model.device.type == "cpu":
        keep_freed_memory(ctypes.pythonapi)
    return model.eval()


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_dtype(name: str, config: Any, device: Any) -> Any:
    """What transformers is to be told. Raises UnsupportedModel."""
    if name != "auto":
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype):
            raise UnsupportedModel(f"dtype: torch has no type {name!r}")
        return dtype
    own = getattr(config.get_text_config(), "dtype", None) or torch.float32
    if device.type != "cuda":
        return "auto"
    # By default torch also counts cards before Ampere, which compute it in float32, many times as slow.
    has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if own == torch.bfloat16 and not has_bfloat16:
        log.warning("this device has no bfloat16, which the folder is in: float16 is used (dtype says otherwise)")
        return torch.float16
    if own == torch.float32 and already_quantised(config) is None:
        return torch.bfloat16 if has_bfloat16 else torch.float16
    return "auto"


# ---------------------------------------------------------------- fewer bits


def already_quantised(config: Any) -> str | None:
    """By which method the folder's own weights are quantised."""
    own = getattr(config, "quantization_config", None)
    if own is None:
        return None
    method = own.get("quant_method") if isinstance(own, dict) else own.quant_method
    return str(getattr(method, "value", method))


def needs_placing(device: Any, config: Any, options: ModelOptions) -> bool:
    """Whether weights go to the device one by one, and not by way of the CPU's memory; takes accelerate."""
    quantised = options.quantization != "none" or already_quantised(config) is not None
    return find_spec("accelerate") is not None and (quantised or device.type == "cuda")


def quantization_config(options: ModelOptions, config: Any, dtype: Any) -> Any:
    """transformers' own configuration, or None. Raises UnsupportedModel, naming the packages that are missing."""
    name = options.quantization
    if name == "none":
        return None
    if name not in _METHODS:
        raise UnsupportedModel(f"quantization: {name!r} is none of {', '.join(['none', *_METHODS])}")
    check_quantization(name, already_quantised(config), lambda package: find_spec(package) is None)
    return _METHODS[name](dtype)


def _bitsandbytes_int8(dtype: Any) -> Any:
    return transformers.BitsAndBytesConfig(load_in_8bit=True)


def _bitsandbytes_nf4(dtype: Any) -> Any:
    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute, bnb_4bit_use_double_quant=True
    )


def _torchao(config_name: str, **settings: Any) -> Callable[[Any], Any]:
    def make(dtype: Any) -> Any:
        import torchao.quantization  # noqa: PLC0415 - no part of the extra

        return transformers.TorchAoConfig(getattr(torchao.quantization, config_name)(**settings))

    return make


_METHODS: dict[str, Callable[[Any], Any]] = {
    "int8": _bitsandbytes_int8,
    "nf4": _bitsandbytes_nf4,
    "torchao-int8": _torchao("Int8WeightOnlyConfig"),
    # Its usual layout takes one more package (mslk), this one none. Source: torchao 0.15 to 0.18.
    "torchao-int4": _torchao("Int4WeightOnlyConfig", int4_packing_format="tile_packed_to_4d"),
    "torchao-float8": _torchao("Float8WeightOnlyConfig"),
}
"""By the setting's value: what transformers is told."""
