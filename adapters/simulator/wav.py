"""WAV files: written for what is said, read for what is heard. Everything in them is little-endian."""

from __future__ import annotations

import struct

import msgspec

PCM = 1
FLOAT = 3
ALAW = 6
MULAW = 7
_EXTENSIBLE = 0xFFFE
"""The format's number is then the first one of the sub-format behind."""
_CHUNKS = 64
"""Chunks that are passed over in search of the samples."""


class Wav(msgspec.Struct, frozen=True):
    """`format` is the number of the coding, `rate` in samples a second, `bits` a sample of one channel."""

    format: int
    channels: int
    rate: int
    bits: int
    samples: bytes

    @property
    def seconds(self) -> float:
        return len(self.samples) * 8 / (self.rate * self.channels * self.bits)


def write_wav(wav: Wav) -> bytes:
    """Other codings than PCM want the `fact` chunk too, and a size of their extension, which is 0."""
    frame = wav.channels * wav.bits // 8
    form = struct.pack("<HHIIHH", wav.format, wav.channels, wav.rate, wav.rate * frame, frame, wav.bits)
    if wav.format == PCM:
        head = _chunk(b"fmt ", form)
    else:
        head = _chunk(b"fmt ", form + b"\0\0") + _chunk(b"fact", struct.pack("<I", len(wav.samples) // frame))
    return _chunk(b"RIFF", b"WAVE" + head + _chunk(b"data", wav.samples))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def read_wav(data: bytes) -> Wav | None:
    """The file's samples, as many as have come; `None` for what is no WAV file or does not say how it is coded."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    form: tuple[int, int, int, int] | None = None
    at = 12
    for _ in range(_CHUNKS):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = at + 8
        if kind == b"data":
            return None if form is None else Wav(*form, samples=data[body : body + size])
        if kind == b"fmt ":
            form = _read_form(data[body : body + size])
        at = body + size + size % 2
        if at >= len(data):
            break
    return None


def _read_form(body: bytes) -> tuple[int, int, int, int] | None:
    """Coding, channels, rate and bits; `None` if any of them is missing."""
    if len(body) < 16:
        return None
    format, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if format == _EXTENSIBLE and len(body) >= 26:
        (format,) = struct.unpack_from("<H", body, 24)
    return (format, channels, rate, bits) if channels and rate and bits else None
