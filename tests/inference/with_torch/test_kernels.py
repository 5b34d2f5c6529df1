"""The attention kernel as Triton compiles it for cards that need not be here."""

from __future__ import annotations

from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")

from triton.backends.compiler import GPUTarget  # noqa: E402 - what may be missing is asked for first
from triton.compiler import ASTSource  # noqa: E402

from adapters.local.inference import kernels  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")  # what its next release does otherwise

# By compute capability: bytes of shared memory a program may have. Source: NVIDIA, CUDA C++ Programming Guide, table of
# technical specifications per compute capability.
SHARED = {75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}
BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
# The sizes of heads that models have, on the smallest cards of their kind. T4, RTX 3090, A100, H100.
COMPILED = [
    (75, "fp16", 128),
    (75, "fp16", 256),
    (80, "bf16", 512),
    (86, "bf16", 80),
    (86, "bf16", 128),
    (86, "bf16", 256),
    (86, "fp32", 256),
    (90, "bf16", 128),
]


def source(kernel: Any, kind: str, values: dict[str, int]) -> Any:
    """What a call would compile: strides of 1 are constants, pointers and other strides divisible by 16."""
    signature: dict[str, str] = {}
    attributes: dict[Any, Any] = {}
    constants = dict(values)
    for place, name in enumerate(kernel.arg_names):
        if name in values:
            signature[name] = "constexpr"
        elif name.endswith("_size") or name == "range_end":
            signature[name], constants[name] = "constexpr", 1
        elif name == "scale":
            signature[name] = "fp32"
        else:
            types = {"ranges": "*i32", "parts": "*fp32", "weights": "*fp32"}
            pointer = name in {"query", "key", "value", "cos", "sin", *types} or name.endswith("answer")
            signature[name] = types.get(name, f"*{kind}") if pointer else "i32"
            if name != "tokens":
                attributes[place,] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, attributes)


@pytest.mark.parametrize(("capability", "kind", "size"), COMPILED)
def test_a_program_fits_the_card(capability: int, kind: str, size: int) -> None:
    padded = triton.next_power_of_2(size)
    tensor_cores = capability >= 80 and kind != "fp32"
    sizes = {"SIZE": size, "SIZE_PADDED": padded, "SPLITS": 16}
    group = {"GROUP": 4, "GROUP_PADDED": 16, "BLOCK": kernels.block_size(padded * BYTES[kind], tensor_cores)}
    target = GPUTarget("cuda", capability, 32)
    halves = {"HEADS": 8, "HALF": size // 2, "HALF_PADDED": padded // 2}
    programs = ((kernels._attend_part, sizes | group), (kernels._join_parts, sizes), (kernels._rotate, halves))
    for kernel, values in programs:
        compiled = triton.compile(source(kernel, kind, values), target=target)
        assert 0 < len(compiled.asm["cubin"])
        assert compiled.metadata.shared <= SHARED[capability]
