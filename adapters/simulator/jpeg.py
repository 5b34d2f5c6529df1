"""A picture as a JPEG file (ITU-T T.81, baseline): every block of 8 by 8 pixels is of one colour.

So of the 64 coefficients of a block only the first, its mean, is there, and the tables are as small as can be.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator

from adapters.simulator.picture import Colour, Picture

_BLOCK = 8
"""Pixels; and since the first coefficient is 8 times the mean, dividing it by this leaves the mean itself."""
_SIZE_CODES = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110")
"""How many bits a difference takes, 0 to 8: the standard's table K.3 as far as differences go."""
_SIZE_LENGTHS = bytes((0, 1, 5, 1, 1, 1, *(0,) * 10))
"""How many codes there are of 1 bit, of 2 bits and so on."""
_END_OF_BLOCK = "0"
_END_LENGTHS = bytes((1, *(0,) * 15))
_COMPONENTS = (1, 2, 3)
"""Brightness, and how far blue and red are from it; all in full resolution."""


def jpeg(picture: Picture) -> bytes:
    count = len(_COMPONENTS)
    sampled = b"".join(bytes((id, 0x11, 0)) for id in _COMPONENTS)
    coded = b"".join(bytes((id, 0x00)) for id in _COMPONENTS)
    parts = (
        b"\xff\xd8",
        _segment(0xE0, b"JFIF\0" + struct.pack(">BBBHHBB", 1, 1, 0, 1, 1, 0, 0)),
        _segment(0xDB, bytes((0, *(_BLOCK,) * 64))),
        _segment(0xC0, struct.pack(">BHHB", 8, picture.height, picture.width, count) + sampled),
        _segment(0xC4, b"\x00" + _SIZE_LENGTHS + bytes(range(len(_SIZE_CODES)))),
        _segment(0xC4, b"\x10" + _END_LENGTHS + b"\x00"),
        _segment(0xDA, bytes((count,)) + coded + bytes((0, 63, 0))),
        _packed("".join(_codes(picture))),
        b"\xff\xd9",
    )
    return b"".join(parts)


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _packed(bits: str) -> bytes:
    """Filled with ones to a whole byte; a byte of ones is followed by a zero byte, or it would be a marker."""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def _codes(picture: Picture) -> Iterator[str]:
    """The bits of every block, row by row: each component as its difference to the block before it."""
    last = (0, 0, 0)
    for y in range(0, picture.height, _BLOCK):
        for colour in _blocks(picture, min(y + _BLOCK // 2, picture.height - 1)):
            means = _means(colour)
            for mean, before in zip(means, last, strict=True):
                yield _code(mean - before)
            last = means


def _blocks(picture: Picture, y: int) -> list[Colour]:
    """The colours of a row of blocks, taken from their middles."""
    blocks: list[Colour] = []
    for start, end, colour in picture.row(y):
        first = (start + _BLOCK // 2 - 1) // _BLOCK
        # The last block reaches past the edge, and there its middle may be.
        behind = -(-end // _BLOCK) if end == picture.width else (end + _BLOCK // 2 - 1) // _BLOCK
        blocks[first:behind] = [colour] * (behind - first)
    return blocks


@functools.cache
def _means(colour: Colour) -> tuple[int, int, int]:
    """Of the components, -128 to 127 (ITU-T T.871)."""
    red, green, blue = colour
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    parts = (brightness - 128, 0.564 * (blue - brightness), 0.713 * (red - brightness))
    first, second, third = (max(-128, min(127, round(part))) for part in parts)
    return first, second, third


@functools.cache
def _code(difference: int) -> str:
    """The size of the difference, its bits (a negative one's are those of one less than it), and the block's end."""
    size = abs(difference).bit_length()
    bits = difference if difference > 0 else difference + (1 << size) - 1
    return _SIZE_CODES[size] + (f"{bits:0{size}b}" if size else "") + _END_OF_BLOCK
