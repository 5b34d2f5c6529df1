"""A picture as data: bands of sky, a sun and hills, all decided by chance; the formats draw it row by row."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator
from random import Random

import msgspec

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_BANDS = 24
_HILLS = 4


class Ellipse(msgspec.Struct, frozen=True):
    """Centre and half axes in pixels; it may reach past the edges."""

    x: float
    y: float
    half_width: float
    half_height: float
    colour: Colour


class Picture(msgspec.Struct, frozen=True):
    """`sky` are bands of equal height from the top; the shapes lie over it, the last one over all others."""

    width: int
    height: int
    sky: tuple[Colour, ...]
    shapes: tuple[Ellipse, ...]

    def row(self, y: int) -> Iterator[tuple[int, int, Colour]]:
        """Columns from the first to before the second are of that colour; what comes later lies over it."""
        yield 0, self.width, self.sky[y * len(self.sky) // self.height]
        for shape in self.shapes:
            slope = (y + 0.5 - shape.y) / shape.half_height
            if abs(slope) < 1:
                reach = shape.half_width * math.sqrt(1 - slope * slope)
                yield max(0, round(shape.x - reach)), min(self.width, round(shape.x + reach)), shape.colour


def paint(width: int, height: int, seen: Random) -> Picture:
    hue, turn, lightness = seen.random(), seen.uniform(-0.25, 0.25), seen.uniform(0.4, 0.6)
    steps = [band / _BANDS for band in range(_BANDS)]
    sky = tuple(_colour(hue + turn * step, lightness + 0.3 * step, 0.6) for step in steps)
    return Picture(width, height, sky, (_sun(width, height, hue, seen), *_hills(width, height, seen)))


def _sun(width: int, height: int, hue: float, seen: Random) -> Ellipse:
    radius = min(width, height) * seen.uniform(0.07, 0.16)
    return Ellipse(
        width * seen.uniform(0.2, 0.8), height * seen.uniform(0.2, 0.5), radius, radius, _colour(hue + 0.5, 0.8, 0.9)
    )


def _hills(width: int, height: int, seen: Random) -> Iterator[Ellipse]:
    """From the farthest, which is the highest and the palest."""
    hue = seen.random()
    for hill in range(_HILLS):
        yield Ellipse(
            width * seen.uniform(0.0, 1.0),
            height * 1.1,
            width * seen.uniform(0.5, 0.9),
            height * seen.uniform(0.55, 0.65) * (1 - 0.2 * hill),
            _colour(hue + 0.03 * hill, 0.55 - 0.1 * hill, 0.35),
        )


def _colour(hue: float, lightness: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)
