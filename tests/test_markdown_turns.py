"""Places that owners share: nobody has them all, and who waits takes turns."""

from __future__ import annotations

import asyncio

import pytest

from wrangler_compat.markdown.turns import Turns

pytestmark = pytest.mark.anyio


class Scene:
    """Owners who come and go; `inside` names who is in, in the order in which they came in."""

    def __init__(self, turns: Turns, group: asyncio.TaskGroup) -> None:
        self._turns = turns
        self._group = group
        self.inside: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}

    async def comes(self, *names: str) -> None:
        """`a1` is the first that the owner `a` brings."""
        for name in names:
            self._leave[name] = asyncio.Event()
            self._tasks[name] = self._group.create_task(self._visit(name))
            await settle()

    async def goes(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()
            await settle()

    async def gives_up(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await settle()

    async def _visit(self, name: str) -> None:
        async with self._turns.place(name[0]):
            self.inside.append(name)
            try:
                await self._leave[name].wait()
            finally:
                self.inside.remove(name)


async def settle() -> None:
    """Let everybody do what can be done at once."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_nobody_has_all_places() -> None:
    async with asyncio.TaskGroup() as group:
        scene = Scene(Turns(4, 2), group)
        await scene.comes("a1", "a2", "a3", "a4", "b1")
        assert scene.inside == ["a1", "a2", "b1"]
        await scene.goes("b1")
        assert scene.inside == ["a1", "a2"]
        await scene.goes("a1")
        assert scene.inside == ["a2", "a3"]
        await scene.goes("a2", "a3", "a4")
        assert scene.inside == []


async def test_who_waits_takes_turns() -> None:
    order = ["a2", "b1", "c1", "a3", "b2", "a4"]
    async with asyncio.TaskGroup() as group:
        scene = Scene(Turns(1, 1), group)
        await scene.comes("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        assert scene.inside == ["a1"]
        await scene.goes("a1")
        for name in order:
            assert scene.inside == [name]
            await scene.goes(name)


async def test_who_gives_up_takes_nobodys_turn() -> None:
    async with asyncio.TaskGroup() as group:
        scene = Scene(Turns(1, 1), group)
        await scene.comes("a1", "b1", "b2", "c1")
        await scene.gives_up("b1")
        await scene.goes("a1")
        assert scene.inside == ["b2"]
        await scene.goes("b2", "c1")
        assert scene.inside == []
        await scene.comes("d1")
        assert scene.inside == ["d1"]
        await scene.gives_up("d1")
        await scene.comes("d2")
        assert scene.inside == ["d2"]
        await scene.goes("d2")


async def test_a_place_that_was_given_to_somebody_who_leaves_goes_on() -> None:
    async with asyncio.TaskGroup() as group:
        turns = Turns(1, 1)
        scene = Scene(turns, group)
        async with turns.place("a"):
            await scene.comes("b1", "c1")
        await_nothing = scene._tasks["b1"]  # the place is its own, and it has not heard of it yet
        await_nothing.cancel()
        await settle()
        assert scene.inside == ["c1"]
        await scene.goes("c1")
