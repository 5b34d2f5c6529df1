"""Rows of the cache, over a cache that is a list of tokens; needs no torch."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from adapters.local.inference.rows import Row, Rows, common_blocks

SALTS = st.sampled_from(["", "ann"])


class Lists:
    """A cache whose keys and values are the tokens themselves."""

    def __init__(self, count: int) -> None:
        self.rows: list[list[int]] = [[] for _ in range(count)]

    def copy(self, source: int, target: int, tokens: int) -> None:
        self.rows[target][:tokens] = self.rows[source][:tokens]

    def swap(self, one: int, other: int, tokens: int) -> None:
        a, b = self.rows[one], self.rows[other]
        a[:tokens], b[:tokens] = b[:tokens], a[:tokens]

    def fill(self, row: Row, upto: int) -> None:
        self.rows[row.index][row.cached :] = row.tokens[row.cached : upto]
        row.cached = upto


COMMON = {
    "nothing alike": ([1] * 64, [2] * 64, 64, 0),
    "less than a block": ([1] * 15, [1] * 15, 64, 0),
    "one block": ([1] * 31, [1] * 31, 64, 16),
    "whole blocks": ([1] * 64, [1] * 64, 64, 64),
    "up to the limit": ([1] * 64, [1] * 64, 63, 48),
    "up to a difference": ([1] * 100, [1] * 70 + [2] * 30, 100, 64),
    "a difference early on": ([1] * 100, [1] * 17 + [2] * 90, 100, 16),
    "one is longer": ([1] * 200, [1] * 40, 200, 32),
}


@pytest.mark.parametrize(("one", "other", "limit", "length"), COMMON.values(), ids=COMMON)
def test_a_common_beginning_counts_in_whole_blocks(one: list[int], other: list[int], limit: int, length: int) -> None:
    assert common_blocks(one, other, limit) == length


def test_a_row_that_makes_room_for_its_own_continuation_is_taken_as_it_is() -> None:
    cache = Lists(1)
    rows: Rows[Row] = Rows(1, cache, keep=1)
    first = Row([1] * 40)
    rows.take(first)
    cache.fill(first, 40)
    rows.promote(first)
    rows.leave(first)
    then = Row([1] * 40 + [2] * 9)
    rows.take(then)
    assert (then.cached, then.index, rows.kept) == (32, 0, [])


def test_the_row_that_was_used_longest_ago_makes_room() -> None:
    cache = Lists(3)
    rows: Rows[Row] = Rows(3, cache, keep=3)
    for token in (1, 2, 3):
        row = Row([token] * 40)
        rows.take(row)
        cache.fill(row, 40)
        rows.leave(row)
    for tokens in ([1] * 20, [4] * 20):
        row = Row(tokens)
        rows.take(row)
        rows.leave(row, keep=False)
    assert sorted(kept.tokens[0] for kept in rows.kept) == [1, 3]


def test_no_more_rows_are_kept_than_asked_for() -> None:
    cache = Lists(4)
    for keep, left in ((0, []), (1, [3]), (2, [2, 3])):
        rows: Rows[Row] = Rows(4, cache, keep=keep)
        for token in (1, 2, 3):
            row = Row([token] * 40)
            rows.take(row)
            cache.fill(row, 40)
            rows.promote(row)
            rows.leave(row)
        assert [kept.tokens[0] for kept in rows.kept] == left


def test_a_continuation_replaces_what_it_continues() -> None:
    cache = Lists(4)
    rows: Rows[Row] = Rows(4, cache, keep=4)
    for length in (20, 40, 60):
        row = Row([1] * length)
        rows.take(row)
        cache.fill(row, length)
        rows.leave(row)
    assert [kept.cached for kept in rows.kept] == [60]


def test_nothing_is_taken_over_from_rows_of_another_salt_nor_lost_to_them() -> None:
    cache = Lists(4)
    rows: Rows[Row] = Rows(4, cache, keep=4)
    for salt in ("ann", "bob", ""):
        row = Row([1] * 40, salt=salt)
        assert rows.shared(row) == rows.coming(row) == (None, 0)
        rows.take(row)
        assert row.cached == 0
        assert rows.coming(Row([1] * 40, salt=salt)) == (row, 32)
        cache.fill(row, 40)
        rows.leave(row)
    assert [kept.salt for kept in rows.kept] == ["ann", "bob", ""]
    for salt in ("ann", "bob", ""):
        row = Row([1] * 60, salt=salt)
        rows.take(row)
        assert row.cached == 40 // 16 * 16
        rows.leave(row, keep=False)


@pytest.mark.parametrize("keep", [3, 9])
def test_nobody_s_many_rows_take_the_place_of_others(keep: int) -> None:
    """Neither where no more may be kept, nor where a place is needed."""
    cache = Lists(3)
    rows: Rows[Row] = Rows(3, cache, keep=keep)
    for number, salt in enumerate(["ann", *["bob"] * 9]):
        row = Row([number] * 20, salt=salt)
        rows.take(row)
        cache.fill(row, 20)
        rows.leave(row)
    assert [(kept.salt, kept.tokens[0]) for kept in rows.kept] == [("ann", 0), ("bob", 8), ("bob", 9)]


@hypothesis.settings(deadline=None)
@hypothesis.given(st.data())
def test_whatever_happens_every_row_holds_its_own_tokens(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    cache = Lists(count)
    rows: Rows[Row] = Rows(count, cache, keep=data.draw(st.integers(0, count)))
    begins = [[i // 3 + j for i in range(60)] for j in (0, 0, 7)]
    for _ in range(data.draw(st.integers(1, 40))):
        doing = data.draw(st.sampled_from(["take", "fill", "promote", "grow", "leave", "drop"]))
        if doing == "take" and rows.room:
            begin = data.draw(st.sampled_from(begins))[: data.draw(st.integers(1, 60))]
            row = Row(begin + data.draw(st.lists(st.integers(90, 99), max_size=20)), salt=data.draw(SALTS))
            source, _ = rows.shared(row)
            assert source is None or source.salt == row.salt
            rows.take(row)
        if doing == "fill" and rows.filling:
            row = data.draw(st.sampled_from(rows.filling))
            cache.fill(row, data.draw(st.integers(row.cached, len(row.tokens))))
        if doing == "promote" and rows.filling:
            row = data.draw(st.sampled_from(rows.filling))
            cache.fill(row, len(row.tokens))
            rows.promote(row)
        if doing == "grow" and rows.live:
            row = data.draw(st.sampled_from(rows.live))
            row.tokens.append(data.draw(st.integers(80, 89)))
            cache.fill(row, len(row.tokens))
        if doing in {"leave", "drop"} and rows.live + rows.filling:
            rows.leave(data.draw(st.sampled_from(rows.live + rows.filling)), keep=doing == "leave")
        everybody = [*rows.live, *rows.filling, *rows.kept]
        assert [row.index for row in rows.live] == list(range(len(rows.live)))
        assert len({row.index for row in everybody}) == len(everybody)
        assert rows.cached_tokens == sum(row.cached for row in everybody)
        for row in everybody:
            assert cache.rows[row.index][: row.cached] == row.tokens[: row.cached]
