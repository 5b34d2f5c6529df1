"""Image files as their formats' specifications say: first bytes for readers, and a decoder for what we write."""

from __future__ import annotations

import struct
import zlib

import msgspec


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02\0\0\0"


def gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(28)


def webp_header(kind: bytes, size: bytes) -> bytes:
    return b"RIFF" + bytes(4) + b"WEBP" + kind + bytes(4) + size


def jpeg_header(width: int, height: int, before: bytes = b"") -> bytes:
    return b"\xff\xd8" + before + b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(3)


class Pixels(msgspec.Struct, frozen=True):
    """`rows` hold three bytes a pixel."""

    width: int
    height: int
    rows: list[bytes]

    def at(self, x: int, y: int) -> tuple[int, ...]:
        return tuple(self.rows[y][3 * x : 3 * x + 3])


def decode_png(data: bytes) -> Pixels:
    """An RGB image without filters; every checksum is checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(kind + body),)
        chunks.append((kind, body))
        at += 12 + size
    (first, header), *packed, last = chunks
    assert (first, last) == (b"IHDR", (b"IEND", b""))
    assert {kind for kind, _ in packed} == {b"IDAT"}
    width, height, *form = struct.unpack(">IIBBBBB", header)
    assert form == [8, 2, 0, 0, 0]
    pixels = zlib.decompress(b"".join(body for _, body in packed))
    step = 1 + 3 * width
    assert len(pixels) == height * step
    rows = [pixels[start : start + step] for start in range(0, len(pixels), step)]
    assert {row[0] for row in rows} == {0}
    return Pixels(width, height, [row[1:] for row in rows])


class Blocks(msgspec.Struct, frozen=True):
    """A JPEG's mean red, green and blue of each block of 8 by 8 pixels, row by row."""

    width: int
    height: int
    colours: list[tuple[float, ...]]


def decode_jpeg(data: bytes) -> Blocks:
    """A baseline image of three components in full resolution whose blocks have no other coefficient than the first."""
    assert (data[:2], data[-2:]) == (b"\xff\xd8", b"\xff\xd9")
    segments: dict[int, list[bytes]] = {}
    at = 2
    while 0xDA not in segments:
        mark, marker, size = struct.unpack_from(">BBH", data, at)
        assert mark == 0xFF
        segments.setdefault(marker, []).append(data[at + 4 : at + 2 + size])
        at += 2 + size
    bits_of_sample, height, width, components = struct.unpack_from(">BHHB", segments[0xC0][0])
    assert (bits_of_sample, components) == (8, 3)
    assert segments[0xE0][0].startswith(b"JFIF\0")
    quantum = segments[0xDB][0][1]
    first, others = (_codes(table) for table in segments[0xC4])
    scan = data[at:-2]
    assert b"\xff" not in scan.replace(b"\xff\x00", b"")
    scan = scan.replace(b"\xff\x00", b"\xff")
    bits = f"{int.from_bytes(scan, 'big'):0{8 * len(scan)}b}"
    colours = []
    means = [0.0, 0.0, 0.0]
    place = 0
    for _ in range(-(-width // 8) * -(-height // 8)):
        for component in range(3):
            size, place = _next(bits, place, first)
            difference = int(bits[place : place + size] or "0", 2)
            if size and bits[place] == "0":
                difference -= (1 << size) - 1
            means[component] += difference * quantum / 8
            symbol, place = _next(bits, place + size, others)
            assert symbol == 0  # the end of the block
        colours.append(_rgb(*means))
    assert set(bits[place:]) <= {"1"}
    assert len(bits) - place < 8
    return Blocks(width, height, colours)


def _codes(table: bytes) -> dict[str, int]:
    """Codes in rising order, first the short ones."""
    codes = {}
    code, symbols = 0, iter(table[17:])
    for length in range(1, 17):
        for _ in range(table[length]):
            codes[f"{code:0{length}b}"] = next(symbols)
            code += 1
        code <<= 1
    assert all("0" in code for code in codes)  # T.81 keeps codes of all ones free
    return codes


def _next(bits: str, place: int, codes: dict[str, int]) -> tuple[int, int]:
    end = next(end for end in range(place + 1, place + 17) if bits[place:end] in codes)
    return codes[bits[place:end]], end


def _rgb(luma: float, blue: float, red: float) -> tuple[float, ...]:
    luma += 128
    return luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue
