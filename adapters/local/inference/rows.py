"""Which row of the cache holds what: jobs that decode at the front, without a gap; behind them, those that are being
prefilled, and what finished jobs have left for prompts that begin alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

BLOCK = 16
"""Tokens. A common beginning counts in whole blocks, so that a few alike tokens cost no copy."""


class Mover(Protocol):
    """The cache itself, as far as whole rows go."""

    def copy(self, source: int, target: int, tokens: int) -> None: ...

    def swap(self, one: int, other: int, tokens: int) -> None: ...


class Row:
    """Tokens, of which the first `cached` have keys and values in row `index` of the cache.

    Rows of another `salt` are as good as unlike.
    """

    __slots__ = ("cached", "index", "salt", "tokens")

    def __init__(self, tokens: list[int], cached: int = 0, index: int = -1, salt: str = "") -> None:
        self.tokens = tokens
        self.cached = cached
        self.index = index
        self.salt = salt


R = TypeVar("R", bound=Row)


class Rows(Generic[R]):
    """The rows of one cache. Its rows are told apart by identity."""

    def __init__(self, count: int, mover: Mover, keep: int) -> None:
        """`keep`: how many finished rows may be kept at most, in rows that nobody else needs."""
        self.count = count
        self.live: list[R] = []
        """Row i of the cache is `live[i]`."""
        self.filling: list[R] = []
        self.kept: list[Row] = []
        """Least recently used first."""
        self._mover = mover
        self._keep = min(keep, count)
        self._at: list[Row | None] = [None] * count

    @property
    def room(self) -> int:
        """How many more jobs could be taken in now."""
        return self.count - len(self.live) - len(self.filling)

    @property
    def cached_tokens(self) -> int:
        return sum(row.cached for row in self._at if row is not None)

    def shared(self, new: Row) -> tuple[Row | None, int]:
        """The row with the longest common beginning, and the tokens of it, in whole blocks.

        The last token is never among them: the model has to be run for at least one.
        """
        best: Row | None = None
        length = 0
        for row in self._at:
            if row is not None and row.cached > length:
                common = _common(new, row, min(len(new.tokens) - 1, row.cached))
                if common > length:
                    best, length = row, common
        return best, length

    def coming(self, new: Row) -> tuple[R | None, int]:
        """As `shared`, once the prompts that are being prefilled are done."""
        best: R | None = None
        length = 0
        for row in self.filling:
            common = _common(new, row, len(new.tokens) - 1)
            if common > length:
                best, length = row, common
        return best, length

    def take(self, row: R) -> None:
        """A place to be prefilled, with what others have computed of its prompt. There must be `room`."""
        source, length = self.shared(row)
        if source is not None and source in self.kept:
            self.kept.remove(source)
            self.kept.append(source)
        row.index = self._place()
        if source is not None and source.index != row.index:  # else it was the one to make room
            self._mover.copy(source.index, row.index, length)
        row.cached = length
        self._at[row.index] = row
        self.filling.append(row)

    def promote(self, row: R) -> None:
        """Its prompt is done: it decodes from now on."""
        self.filling.remove(row)
        front = len(self.live)
        self._exchange(row, front)
        self.live.append(row)

    def leave(self, row: R, keep: bool = True) -> None:
        """Its job has ended; `keep` what is cached for others, if there is anything worth it."""
        keep = keep and self._keep > 0 and row.cached >= BLOCK
        if row in self.filling:
            self.filling.remove(row)
        else:
            last = self.live[-1]
            self.live[row.index] = last
            self.live.pop()
            self._exchange(row, last.index, keep)
        place, row.index = row.index, -1
        self._at[place] = None
        if keep:
            self._keep_row(Row(row.tokens[: row.cached], row.cached, place, row.salt))

    def _keep_row(self, row: Row) -> None:
        for other in list(self.kept):
            if _common(row, other, other.cached) >= other.cached // BLOCK * BLOCK:
                self._drop(other)  # the new one holds all of it
        if len(self.kept) == self._keep:
            self._drop(self._least_missed())
        self._at[row.index] = row
        self.kept.append(row)

    def _least_missed(self) -> Row:
        """The least recently used of the salt that has the most: nobody's many rows take the place of others'."""
        counts = Counter(row.salt for row in self.kept)
        return max(self.kept, key=lambda row: counts[row.salt])

    def _drop(self, row: Row) -> None:
        self.kept.remove(row)
        self._at[row.index] = None

    def _place(self) -> int:
        """The first free row behind the live ones, so that a promotion seldom moves anything."""
        if None not in self._at:
            self._drop(self._least_missed())
        return self._at.index(None)

    def _exchange(self, row: Row, other: int, both: bool = True) -> None:
        """Let two rows of the cache change places; `both` false: what `row` has cached may be lost."""
        one, neighbour = row.index, self._at[other]
        if one == other:
            return
        if neighbour is None:
            self._mover.copy(one, other, row.cached)
        else:
            if both:
                self._mover.swap(one, other, max(row.cached, neighbour.cached))
            else:
                self._mover.copy(other, one, neighbour.cached)
            neighbour.index = one
        self._at[one], self._at[other] = neighbour, row
        row.index = other


def _common(one: Row, other: Row, limit: int) -> int:
    return common_blocks(one.tokens, other.tokens, limit) if one.salt == other.salt else 0


def common_blocks(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """The length of the common beginning, at most `limit`, rounded down to whole blocks."""
    blocks = min(limit, len(one), len(other)) // BLOCK
    if not blocks or one[:BLOCK] != other[:BLOCK]:
        return 0
    alike, unlike = 1, blocks + 1
    while unlike - alike > 1:
        middle = (alike + unlike) // 2
        start, end = alike * BLOCK, middle * BLOCK
        if one[start:end] == other[start:end]:
            alike = middle
        else:
            unlike = middle
    return alike * BLOCK
