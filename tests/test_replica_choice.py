"""Which replica takes a request, by values alone."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from adapters.canonical import ChatRequest, ImagePart, Message, TextPart
from adapters.replica_choice import conversation_key, is_overloaded, lighter_of_two, load_of, rendezvous

SYSTEM = Message(role="system", content="You are terse.")
HI = Message(role="user", content="Hi")
HELLO = Message(role="assistant", content="Hello")
MORE = Message(role="user", content="And then?")


def picture(url: str) -> Message:
    return Message(role="user", content=(TextPart("What is it?"), ImagePart(url)))


def request(*messages: Message, model: str = "m") -> ChatRequest:
    return ChatRequest(model=model, messages=messages)


SAME: dict[str, tuple[ChatRequest, ChatRequest]] = {
    "a later turn": (request(SYSTEM, HI), request(SYSTEM, HI, HELLO, MORE)),
    "other parameters": (request(SYSTEM, HI), msgspec.structs.replace(request(SYSTEM, HI), temperature=0.5)),
    "a later turn after a picture": (request(picture("data:x")), request(picture("data:x"), HELLO)),
}
DIFFERENT: dict[str, tuple[ChatRequest, ChatRequest]] = {
    "another beginning": (request(SYSTEM, HI), request(SYSTEM, MORE)),
    "another system prompt": (request(SYSTEM, HI), request(HI)),
    "no turn behind it": (request(SYSTEM), request(SYSTEM, HI)),
    "another model": (request(HI), request(HI, model="n")),
    "the same text by somebody else": (request(HI), request(msgspec.structs.replace(HI, role="assistant"))),
    "text that moved between turns": (
        request(Message(role="system", content="a"), Message(role="user", content="bc")),
        request(Message(role="system", content="ab"), Message(role="user", content="c")),
    ),
    "another picture": (request(picture("data:x")), request(picture("data:y"))),
    "a picture that differs far behind": (request(picture("x" * 5000)), request(picture("x" * 5001))),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_a_conversation_keeps_its_key(one: ChatRequest, other: ChatRequest) -> None:
    assert conversation_key("t", one) == conversation_key("t", other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_conversations_have_keys_of_their_own(one: ChatRequest, other: ChatRequest) -> None:
    assert conversation_key("t", one) != conversation_key("t", other)


def test_tenants_are_told_apart_and_every_process_agrees() -> None:
    assert conversation_key("a", request(HI)) != conversation_key("b", request(HI))
    assert conversation_key("t", request(SYSTEM, HI)).hex() == "84aa328080c35aae"


def test_half_a_character_has_a_key_too() -> None:
    assert conversation_key("t", request(Message(role="user", content="\ud83d")))


KEYS = [random.Random(i).randbytes(8) for i in range(3000)]


def homes(*replicas: tuple[bytes, float]) -> list[bytes]:
    return [replicas[rendezvous(key, replicas)][0] for key in KEYS]


def test_keys_spread_by_weight() -> None:
    counts = Counter(homes((b"a", 1.0), (b"b", 1.0), (b"c", 4.0)))
    assert counts[b"c"] == pytest.approx(2000, abs=120)
    assert counts[b"a"] == pytest.approx(500, abs=80)


def test_only_the_keys_of_one_that_is_gone_move() -> None:
    before = homes((b"a", 1.0), (b"b", 1.0), (b"c", 1.0))
    after = homes((b"a", 1.0), (b"c", 1.0))
    assert all(old == new for old, new in zip(before, after, strict=True) if old != b"b")
    moved = Counter(new for old, new in zip(before, after, strict=True) if old == b"b")
    assert min(moved.values()) > 350, "to all of the others alike"


LOADS: dict[str, tuple[float, float, float, bool]] = {
    "the same": (5, 5, 64, False),
    "much more by ratio alone": (30, 1, 64, False),
    "much more by number alone": (1000, 900, 64, False),
    "much more by both": (200, 100, 64, True),
    "just the excess": (65, 1, 64, False),
    "one above the excess": (66, 1, 64, True),
    "a small engine": (6, 1, 4, True),
}


@pytest.mark.parametrize(("load", "least", "excess", "leaves"), LOADS.values(), ids=LOADS)
def test_a_conversation_leaves_what_is_much_busier_both_ways(
    load: float, least: float, excess: float, leaves: bool
) -> None:
    assert is_overloaded(load, least, excess) is leaves


def test_load_counts_what_waits_and_what_is_strong() -> None:
    assert load_of(0, 0, 1.0) == 1.0
    assert load_of(3, 4, 2.0) == 4.0


def test_the_lighter_of_two_different_ones_is_taken() -> None:
    assert lighter_of_two([7.0], random.random) == 0
    for loads in ([1.0, 2.0], [2.0, 1.0]):
        assert {lighter_of_two(loads, random.Random(i).random) for i in range(20)} == {loads.index(1.0)}
    draw = random.Random(1).random
    counts = Counter(lighter_of_two([1.0, 2.0, 3.0, 4.0], draw) for _ in range(6000))
    assert counts[3] == 0, "the heaviest meets somebody lighter always"
    assert [counts[i] for i in range(3)] == pytest.approx([3000, 2000, 1000], rel=0.1)
