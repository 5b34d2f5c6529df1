"""What an image says of itself in its first bytes: its format and size in pixels."""

from __future__ import annotations

import struct

import msgspec

_SEGMENTS = 64
"""JPEG segments that are passed over in search of the one with the size."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class ImageHeader(msgspec.Struct, frozen=True):
    """`format` is a name for people, such as `PNG`."""

    format: str
    width: int
    height: int


def read_header(data: bytes) -> ImageHeader | None:
    """The header of a PNG, GIF, BMP, WebP or JPEG image; `None` if it is none of these or has no size."""
    for start, read in _FORMATS.items():
        if data.startswith(start):
            try:
                header = read(data)
            except (struct.error, IndexError):
                return None
            return header if header is not None and header.width > 0 and header.height > 0 else None
    return None


def _png(data: bytes) -> ImageHeader:
    return ImageHeader("PNG", *struct.unpack_from(">II", data, 16))


def _gif(data: bytes) -> ImageHeader:
    return ImageHeader("GIF", *struct.unpack_from("<HH", data, 6))


def _bmp(data: bytes) -> ImageHeader:
    """A negative height says that the rows run from the top."""
    width, height = struct.unpack_from("<ii", data, 18)
    return ImageHeader("BMP", width, abs(height))


def _webp(data: bytes) -> ImageHeader | None:
    """Three kinds: with extras (24-bit sizes less 1), lossless (14-bit sizes less 1), lossy (14-bit sizes)."""
    kind = data[8:16]
    if kind == b"WEBPVP8X":
        return ImageHeader("WebP", 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    if kind == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF)
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    """The size is in the frame header, behind segments of any length."""
    at = 2
    for _ in range(_SEGMENTS):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return ImageHeader("JPEG", width, height)
        at += 2 if marker in _WITHOUT_LENGTH else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


_FORMATS = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"GIF8": _gif,
    b"BM": _bmp,
    b"RIFF": _webp,
    b"\xff\xd8\xff": _jpeg,
}
