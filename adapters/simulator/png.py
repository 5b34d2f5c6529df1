"""A picture as a PNG file (ISO/IEC 15948): 8 bits a colour, no filter, for rows that repeat pack well without one."""

from __future__ import annotations

import struct
import zlib

from adapters.simulator.picture import Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LEVEL = 3
_TRUE_COLOUR = 2


def png(picture: Picture) -> bytes:
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, _TRUE_COLOUR, 0, 0, 0)
    packer = zlib.compressobj(_LEVEL)
    pixels = [packer.compress(_row(picture, y)) for y in range(picture.height)]
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", b"".join([*pixels, packer.flush()])),
            _chunk(b"IEND", b""),
        ]
    )


def _row(picture: Picture, y: int) -> bytearray:
    """The filter's number, 0 for none, and three bytes a pixel."""
    row = bytearray(1 + 3 * picture.width)
    for start, end, colour in picture.row(y):
        row[1 + 3 * start : 1 + 3 * end] = bytes(colour) * (end - start)
    return row


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
