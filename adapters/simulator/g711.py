"""Telephone codings of 16-bit samples, one byte a sample (ITU-T G.711)."""

from __future__ import annotations

import functools
import struct

_MULAW_BIAS = 132
_MULAW_MOST = 32_635


def mulaw(samples: bytes) -> bytes:
    """16-bit little-endian samples as mu-law."""
    return bytes(map(_mulaw_byte, _numbers(samples)))


def alaw(samples: bytes) -> bytes:
    """16-bit little-endian samples as A-law."""
    return bytes(map(_alaw_byte, _numbers(samples)))


def _numbers(samples: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(samples) // 2}h", samples)


@functools.cache
def _mulaw_byte(sample: int) -> int:
    """Sign, exponent and four bits of what follows the leading one, all inverted."""
    size = min(abs(sample), _MULAW_MOST) + _MULAW_BIAS
    exponent = size.bit_length() - 8
    bits = exponent << 4 | size >> exponent + 3 & 0x0F
    return ~(bits | (0x80 if sample < 0 else 0)) & 0xFF


@functools.cache
def _alaw_byte(sample: int) -> int:
    """Sign, exponent and mantissa of the upper 13 bits; every second bit is inverted."""
    size = (sample if sample >= 0 else ~sample) >> 4
    exponent = max(size.bit_length() - 4, 0)
    mantissa = size >> exponent - 1 if exponent > 1 else size
    bits = exponent << 4 | mantissa & 0x0F
    return (bits | (0x80 if sample >= 0 else 0)) ^ 0x55
