"""Are these the files of a LoRA adapter that Workers AI would take?

Sources: Cloudflare's page on LoRA adapters (2026-09), the safetensors format's description.
"""

from __future__ import annotations

from typing import IO, Any, TypeGuard

from adapters.errors import InvalidRequest
from adapters.wire.json_text import NotJson, loads

MAX_FILE = 100 * 2**20
MAX_RANK = 8
MODEL_TYPES = ("mistral", "gemma", "llama")

_MAX_CONFIG = 2**20
_MAX_HEADER = 4 * 2**20
"""Room for far more tensors than such an adapter has; decoding it is one step that nothing can interrupt."""
_LENGTH = 8  # bytes of the number in front of the header


def check_config(file: IO[bytes], size: int) -> None:
    """`adapter_config.json`: rank and kind of the base model. Raises InvalidRequest."""
    if size > _MAX_CONFIG:
        raise _wrong("adapter_config.json has more than 1 MiB")
    config = _object(file.read(), "adapter_config.json")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise _wrong(f"adapter_config.json: expected a rank 'r' from 1 to {MAX_RANK}")
    if config.get("model_type") not in MODEL_TYPES:
        raise _wrong(f"adapter_config.json: expected a 'model_type' that is one of {', '.join(MODEL_TYPES)}")


def check_weights(file: IO[bytes], size: int) -> None:
    """`adapter_model.safetensors`: a header whose tensors lie within the file. Raises InvalidRequest."""
    length = int.from_bytes(file.read(_LENGTH), "little")
    room = size - _LENGTH
    if not 2 <= length <= min(room, _MAX_HEADER):
        raise _wrong("adapter_model.safetensors does not begin with the length of a header")
    header = _object(file.read(length), "the header of adapter_model.safetensors")
    tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
    if not tensors or not all(_lies_within(tensor, room - length) for tensor in tensors):
        raise _wrong("adapter_model.safetensors: its header does not describe tensors that lie in the file")


def _lies_within(tensor: Any, size: int) -> bool:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("dtype"), str):
        return False
    shape, offsets = tensor.get("shape"), tensor.get("data_offsets")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        return False
    start, end = offsets
    return start <= end <= size


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _object(body: bytes, what: str) -> dict[str, Any]:
    try:
        value = loads(body)
    except NotJson:
        raise _wrong(f"{what} is no JSON") from None
    if not isinstance(value, dict):
        raise _wrong(f"{what} is no JSON object")
    return value


def _wrong(what: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid 'file': {what}.", param="file")
