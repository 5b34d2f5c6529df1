"""`adapters.local.serving.fair_turns`: who comes next, and who is sent away."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from adapters.local.serving.fair_turns import Crowded, FairTurns

ORDERS = {
    "nobody": ("", ""),
    "one owner: first come, first served": ("a1 a2 a3", "a1 a2 a3"),
    "owners take turns": ("a1 a2 a3 b1 c1 b2", "a1 b1 c1 a2 b2 a3"),
    "who comes late waits for no more than one of each": ("a1 a2 a3 a4 b1", "a1 b1 a2 a3 a4"),
}


class Crowd:
    """Threads that wait for turns, in a known order, while a turn is under way."""

    def __init__(self, turns: FairTurns, pool: ThreadPoolExecutor) -> None:
        self.turns = turns
        self._pool = pool
        self.served: list[str] = []
        self.threads: dict[str, Future[None]] = {}

    def wait(self, names: str) -> None:
        for name in names.split():
            before = self.turns.waiting
            self.threads[name] = self._pool.submit(self._take, name)
            while self.turns.waiting == before:
                assert not self.threads[name].done(), name

    def _take(self, name: str) -> None:
        with self.turns.turn(name[0]):
            self.served.append(name)


@pytest.mark.parametrize(("names", "order"), ORDERS.values(), ids=ORDERS)
def test_turns_go_round_among_owners(names: str, order: str) -> None:
    turns = FairTurns(each=5, most=20)
    with ThreadPoolExecutor(20) as pool:
        crowd = Crowd(turns, pool)
        with turns.turn("z"):
            crowd.wait(names)
        for thread in crowd.threads.values():
            thread.result()
    assert crowd.served == order.split()
    with turns.turn("a"):
        assert turns.waiting == 0


REFUSED = {
    "an owner with all of its places": ("a1 a2 b1", "a", 4),
    "all places taken, and nobody has more": ("a1 b1 c1 d1", "e", 4),
    "all places taken, and it would only be exchanged": ("a1 a2 b1 c1", "b", 4),
}


@pytest.mark.parametrize(("names", "owner", "ahead"), REFUSED.values(), ids=REFUSED)
def test_who_has_no_claim_to_a_place_is_told_how_many_wait(names: str, owner: str, ahead: int) -> None:
    turns = FairTurns(each=2, most=4)
    with ThreadPoolExecutor(9) as pool:
        crowd = Crowd(turns, pool)
        with turns.turn("z"):
            crowd.wait(names)
            with pytest.raises(Crowded) as caught, turns.turn(owner):
                pass
        assert caught.value.ahead == ahead
        for thread in crowd.threads.values():
            thread.result()
    assert sorted(crowd.served) == sorted(names.split())


def test_a_newcomer_takes_the_last_place_of_whoever_has_the_most() -> None:
    turns = FairTurns(each=4, most=4)
    with ThreadPoolExecutor(9) as pool:
        crowd = Crowd(turns, pool)
        with turns.turn("z"):
            crowd.wait("a1 a2 a3 a4")
            newcomer = pool.submit(crowd._take, "b1")
            with pytest.raises(Crowded):
                crowd.threads.pop("a4").result(10)
            assert turns.waiting == 4
        newcomer.result()
        for thread in crowd.threads.values():
            thread.result()
    assert crowd.served == ["a1", "b1", "a2", "a3"]


def test_a_turn_ends_with_an_error_too() -> None:
    turns = FairTurns(each=1, most=1)
    with pytest.raises(RuntimeError), turns.turn("a"):
        raise RuntimeError
    with turns.turn("b"):
        pass
