"""Places at an engine: how many are in, who waits, and that nobody who left is waited for."""

from __future__ import annotations

import asyncio

import pytest

from adapters.admission import Admission, QueueFull
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.anyio


class Visitor:
    """Somebody who wants in; `leave` ends the visit."""

    def __init__(self, admission: Admission, group: asyncio.TaskGroup, patience: float = DEADLINE) -> None:
        self.inside = asyncio.Event()
        self.leave = asyncio.Event()
        self.refused = False
        self.task = group.create_task(self._visit(admission, patience))

    async def _visit(self, admission: Admission, patience: float) -> None:
        try:
            async with admission.place(patience):
                self.inside.set()
                await self.leave.wait()
        except QueueFull:
            self.refused = True


async def settle() -> None:
    """Let everybody do what can be done at once."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    admission = Admission(2, 9)
    async with asyncio.TaskGroup() as group:
        visitors = [Visitor(admission, group) for _ in range(4)]
        await settle()
        assert admission.waiting == 2
        assert [visitor.inside.is_set() for visitor in visitors] == [True, True, False, False]
        visitors[1].leave.set()
        await visitors[2].inside.wait()
        assert (admission.open, admission.waiting) == (2, 1) and not visitors[3].inside.is_set()
        for visitor in visitors:
            visitor.leave.set()
    assert (admission.open, admission.waiting) == (0, 0)


async def test_too_many_who_wait_are_refused_at_once() -> None:
    admission = Admission(1, 1)
    async with asyncio.TaskGroup() as group:
        first, second = Visitor(admission, group), Visitor(admission, group)
        await settle()
        assert admission.waiting == 1
        with pytest.raises(QueueFull):
            async with admission.place(DEADLINE):
                raise AssertionError
        first.leave.set()
        second.leave.set()
    assert second.inside.is_set() and admission.open == 0


@pytest.mark.parametrize("patience", [0.0, 0.01])
async def test_a_wait_has_an_end(patience: float) -> None:
    admission = Admission(1, 9)
    async with admission.place(DEADLINE):
        with pytest.raises(QueueFull):
            async with admission.place(patience):
                raise AssertionError
        assert (admission.open, admission.waiting) == (1, 0)


async def test_no_wait_is_needed_where_there_is_a_place() -> None:
    async with Admission(1, 0).place(0.0):
        pass


async def test_whoever_leaves_the_queue_is_passed_over() -> None:
    admission = Admission(1, 9)
    async with asyncio.TaskGroup() as group:
        first, gone, last = (Visitor(admission, group) for _ in range(3))
        await settle()
        assert admission.waiting == 2
        gone.task.cancel()
        await settle()
        assert admission.waiting == 1
        first.leave.set()
        await last.inside.wait()
        last.leave.set()
    assert not gone.inside.is_set() and admission.open == 0


async def test_a_place_that_comes_just_as_its_owner_leaves_goes_to_the_next() -> None:
    admission = Admission(1, 9)
    async with asyncio.TaskGroup() as group:
        async with admission.place(0.0):
            gone, last = Visitor(admission, group), Visitor(admission, group)
            await settle()
        assert admission.open == 1, "the place is now the first one's, who does not know it yet"
        gone.task.cancel()
        await last.inside.wait()
        last.leave.set()
    assert not gone.inside.is_set() and admission.open == 0


async def test_those_who_leave_just_before_their_turn_are_passed_over() -> None:
    admission = Admission(1, 9)
    async with asyncio.TaskGroup() as group:
        async with admission.place(0.0):
            one, two, last = (Visitor(admission, group) for _ in range(3))
            await settle()
            one.task.cancel()
            two.task.cancel()
        await last.inside.wait()
        last.leave.set()
    assert (admission.open, admission.waiting) == (0, 0)


async def test_a_lower_limit_lets_nobody_in_before_it_is_kept() -> None:
    admission = Admission(2, 9)
    async with asyncio.TaskGroup() as group:
        first, second, third = (Visitor(admission, group) for _ in range(3))
        await settle()
        assert admission.waiting == 1
        admission.limit = 1
        first.leave.set()
        await settle()
        assert admission.open == 1
        assert not third.inside.is_set()
        second.leave.set()
        await third.inside.wait()
        third.leave.set()
    assert admission.open == 0


async def test_a_visit_that_fails_gives_its_place_back() -> None:
    admission = Admission(1, 0)
    with pytest.raises(ValueError):
        async with admission.place(0.0):
            raise ValueError
    assert admission.open == 0
