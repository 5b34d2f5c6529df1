"""Attention for decoding, and rotary embedding, in Triton.

Attention: each row reads the keys that it sees and no others, however long its neighbours.

The work of one row and one head of keys is split over several programs, so that a few long rows fill the device too;
a second kernel puts the parts together. Grids and shapes do not depend on the lengths: one recorded graph serves all.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_BLOCK_BYTES = 16384
"""Of the keys that a program looks at together. Of these and of as many values it has up to five blocks in shared
memory, of which an RTX 3090 has 99 KB; half of it where products are computed without tensor cores, or registers do
not suffice. Both as `tests/inference/with_torch/test_kernels.py` has Triton compile it."""
_LARGEST_BLOCK, _SMALLEST_BLOCK = 64, 16
"""Tokens."""
_MOST_SPLITS = 64
_PROGRAMS_A_PROCESSOR = 2


def attend_rows(query: Any, key: Any, value: Any, ranges: Any, scale: float) -> Any:
    """query [rows, heads, size]; keys and values [rows, key heads, tokens, size], of which row i sees the tokens
    `ranges[i, 0]` to `ranges[i, 1]`, at least one. Returns [rows, heads, size]."""
    rows, heads, size = query.shape
    key_heads, capacity = key.shape[1], key.shape[2]
    group = heads // key_heads
    padded = triton.next_power_of_2(size)
    block = block_size(padded * key.element_size(), _tensor_cores(query))
    splits = split_count(rows * key_heads, capacity, _processors(query.device), block)
    parts = torch.empty((rows, heads, splits, size), dtype=torch.float32, device=query.device)
    weights = torch.empty((rows, heads, splits), dtype=torch.float32, device=query.device)
    answer = torch.empty_like(query, memory_format=torch.contiguous_format)
    _attend_part[(rows, key_heads, splits)](
        query, key, value, ranges, parts, weights, scale,
        query.stride(0), query.stride(1), query.stride(2),
        key.stride(0), key.stride(1), key.stride(2), key.stride(3),
        value.stride(0), value.stride(1), value.stride(2), value.stride(3),
        ranges.stride(0), ranges.stride(1),
        GROUP=group, GROUP_PADDED=max(16, triton.next_power_of_2(group)),
        SIZE=size, SIZE_PADDED=padded, BLOCK=block, SPLITS=splits,
    )  # fmt: skip
    _join_parts[(rows, heads)](parts, weights, answer, SIZE=size, SIZE_PADDED=padded, SPLITS=splits)
    return answer


def block_size(bytes_a_token: int, tensor_cores: bool) -> int:
    """A power of 2, in tokens, for keys of so many bytes each."""
    bytes_together = _BLOCK_BYTES if tensor_cores else _BLOCK_BYTES // 2
    return max(_SMALLEST_BLOCK, min(_LARGEST_BLOCK, bytes_together // bytes_a_token))


def split_count(programs: int, capacity: int, processors: int, block: int) -> int:
    """A power of 2: enough for all processors, but none without a block of a full cache."""
    wanted = max(1, _PROGRAMS_A_PROCESSOR * processors // programs)
    most = min(_MOST_SPLITS, -(-capacity // block))
    return 1 << (min(wanted, most).bit_length() - 1)


def _tensor_cores(query: Any) -> bool:
    """Whether Triton has them compute: not float32 as it should be, and nothing before Ampere."""
    device = query.device
    return query.element_size() == 2 and (
        device.type != "cuda" or bool(torch.cuda.get_device_properties(device).major >= 8)
    )


def _processors(device: Any) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _attend_part(
    query, key, value, ranges, parts, weights, scale,
    query_row, query_head, query_size,
    key_row, key_head, key_token, key_size,
    value_row, value_head, value_token, value_size,
    range_row, range_end,
    GROUP: tl.constexpr, GROUP_PADDED: tl.constexpr,
    SIZE: tl.constexpr, SIZE_PADDED: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Softmax over one share of the tokens that a row sees; `weights` is the logarithm of its sum."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    first = tl.load(ranges + row * range_row)
    stop = tl.load(ranges + row * range_row + range_end) + 1
    share = tl.cdiv(tl.cdiv(stop - first, BLOCK), SPLITS) * BLOCK
    first = first + split * share
    stop = tl.minimum(first + share, stop)

    in_group = tl.arange(0, GROUP_PADDED)
    in_head = tl.arange(0, SIZE_PADDED)
    heads = head * GROUP + in_group
    known = (in_group < GROUP)[:, None] & (in_head < SIZE)[None, :]
    asked = tl.load(
        query + row * query_row + heads[:, None] * query_head + in_head[None, :] * query_size, mask=known, other=0.0
    )
    largest = tl.full([GROUP_PADDED], -float("inf"), tl.float32)
    total = tl.zeros([GROUP_PADDED], tl.float32)
    summed = tl.zeros([GROUP_PADDED, SIZE_PADDED], tl.float32)
    for start in range(first, stop, BLOCK):
        at = start + tl.arange(0, BLOCK)
        seen = at < stop
        here = seen[:, None] & (in_head < SIZE)[None, :]
        keys = tl.load(
            key + row * key_row + head * key_head + at[:, None] * key_token + in_head[None, :] * key_size,
            mask=here, other=0.0,
        )  # fmt: skip
        scores = tl.dot(asked, tl.trans(keys), input_precision="ieee") * scale
        scores = tl.where(seen[None, :], scores, -float("inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        kept = tl.exp(largest - larger)
        chances = tl.exp(scores - larger[:, None])
        total = total * kept + tl.sum(chances, 1)
        values = tl.load(
            value + row * value_row + head * value_head + at[:, None] * value_token + in_head[None, :] * value_size,
            mask=here, other=0.0,
        )  # fmt: skip
        summed = summed * kept[:, None] + tl.dot(chances.to(values.dtype), values, input_precision="ieee")
        largest = larger
    place = (row * GROUP * tl.num_programs(1) + heads) * SPLITS + split
    some = total > 0  # a share may be empty
    tl.store(weights + place, tl.where(some, largest + tl.log(tl.where(some, total, 1.0)), -float("inf")),
             mask=in_group < GROUP)  # fmt: skip
    tl.store(parts + place[:, None] * SIZE + in_head[None, :], summed / tl.where(some, total, 1.0)[:, None], mask=known)


@triton.jit
def _join_parts(parts, weights, answer, SIZE: tl.constexpr, SIZE_PADDED: tl.constexpr, SPLITS: tl.constexpr):
    """The mean of the shares, each by its weight."""
    place = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    in_head = tl.arange(0, SIZE_PADDED)
    split = tl.arange(0, SPLITS)
    weight = tl.load(weights + place * SPLITS + split)
    weight = tl.exp(weight - tl.max(weight, 0))
    part = tl.load(
        parts + (place * SPLITS + split)[:, None] * SIZE + in_head[None, :], mask=(in_head < SIZE)[None, :], other=0.0
    )
    mean = tl.sum(part * weight[:, None], 0) / tl.sum(weight, 0)
    tl.store(answer + place * SIZE + in_head, mean.to(answer.dtype.element_ty), mask=in_head < SIZE)


def rotate_heads(query: Any, key: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    """query [rows, heads, tokens, size], key [rows, key heads, tokens, size], cos and sin [rows, tokens, size], of one
    type and with a head's numbers side by side: each is turned with the one half a head away. Returns tensors like the
    first two."""
    rows, heads, tokens, size = query.shape
    answers = torch.empty_like(query), torch.empty_like(key)
    _rotate[(rows * tokens, heads + key.shape[1])](
        query, key, cos, sin, *answers, tokens,
        query.stride(0), query.stride(1), query.stride(2), key.stride(0), key.stride(1), key.stride(2),
        cos.stride(0), cos.stride(1), sin.stride(0), sin.stride(1),
        answers[0].stride(0), answers[0].stride(1), answers[0].stride(2),
        answers[1].stride(0), answers[1].stride(1), answers[1].stride(2),
        HEADS=heads, HALF=size // 2, HALF_PADDED=triton.next_power_of_2(size // 2), num_warps=1,
    )  # fmt: skip
    return answers


@triton.jit(do_not_specialize=["tokens"])  # nobody waits for a compiler because a prompt has another length
def _rotate(
    query, key, cos, sin, query_answer, key_answer, tokens,
    query_row, query_head, query_token, key_row, key_head, key_token, cos_row, cos_token, sin_row, sin_token,
    query_answer_row, query_answer_head, query_answer_token, key_answer_row, key_answer_head, key_answer_token,
    HEADS: tl.constexpr, HALF: tl.constexpr, HALF_PADDED: tl.constexpr,
):  # fmt: skip
    """One head of one token."""
    row = (tl.program_id(0) // tokens).to(tl.int64)
    token = (tl.program_id(0) % tokens).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    at = tl.arange(0, HALF_PADDED)
    known = at < HALF
    cos += row * cos_row + token * cos_token + at
    sin += row * sin_row + token * sin_token + at
    first_cos = tl.load(cos, mask=known, other=0.0).to(tl.float32)
    second_cos = tl.load(cos + HALF, mask=known, other=0.0).to(tl.float32)
    first_sin = tl.load(sin, mask=known, other=0.0).to(tl.float32)
    second_sin = tl.load(sin + HALF, mask=known, other=0.0).to(tl.float32)
    if head < HEADS:
        states = query + row * query_row + head * query_head + token * query_token + at
        answer = query_answer + row * query_answer_row + head * query_answer_head + token * query_answer_token + at
    else:
        states = key + row * key_row + (head - HEADS) * key_head + token * key_token + at
        answer = key_answer + row * key_answer_row + (head - HEADS) * key_answer_head + token * key_answer_token + at
    first = tl.load(states, mask=known, other=0.0).to(tl.float32)
    second = tl.load(states + HALF, mask=known, other=0.0).to(tl.float32)
    kind = answer.dtype.element_ty
    tl.store(answer, (first * first_cos - second * first_sin).to(kind), mask=known)
    tl.store(answer + HALF, (second * second_cos + first * second_sin).to(kind), mask=known)
