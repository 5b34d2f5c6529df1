"""A response's bytes, cut anywhere."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http1.answer import MAX_HEAD, MAX_HEADERS, Answer, Malformed
from tests.support.scripted import cut

OK = b"HTTP/1.1 200 OK\r\n"
TWO = OK + b"content-length: 2\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


class Whole(NamedTuple):
    body: bytes
    reusable: bool = True
    status: int = 200
    version: str = "1.1"


WHOLE: dict[str, tuple[bytes, Whole]] = {
    "a body of known length": (TWO + b"ok", Whole(b"ok")),
    "a length with white space around it": (OK + b"content-length:  2 \t\r\n\r\nok", Whole(b"ok")),
    "no body": (OK + b"content-length: 0\r\n\r\n", Whole(b"")),
    "no reason phrase": (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Whole(b"")),
    "chunks": (CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", Whole(b"ok")),
    "chunks with extensions": (CHUNKED + b'2;a=1;b="2"\r\nok\r\n0;c\r\n\r\n', Whole(b"ok")),
    "chunks with trailers": (CHUNKED + b"2\r\nok\r\n0\r\nx-sum: 1\r\nx-none:\r\n\r\n", Whole(b"ok")),
    "a coding in capitals": (OK + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Whole(b"ok")),
    "204 has no body, whatever it says": (
        b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n",
        Whole(b"", status=204),
    ),
    "304 has no body, whatever it says": (
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n",
        Whole(b"", status=304),
    ),
    "an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n" + TWO + b"ok", Whole(b"ok")),
    "several interim answers": (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + b"HTTP/1.1 150 Odd\r\n\r\n" + TWO + b"ok",
        Whole(b"ok"),
    ),
    "a farewell": (OK + b"connection: close\r\ncontent-length: 2\r\n\r\nok", Whole(b"ok", reusable=False)),
    "HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        Whole(b"ok", reusable=False, version="1.0"),
    ),
    "HTTP/1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        Whole(b"ok", version="1.0"),
    ),
    "an upgrade that was merely offered": (
        OK + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok",
        Whole(b"ok"),
    ),
}


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize(("wire", "whole"), WHOLE.values(), ids=WHOLE)
def test_an_answer_means_the_same_wherever_it_is_cut(wire: bytes, whole: Whole, size: int) -> None:
    answer = Answer()
    for piece in cut(wire, size):
        assert not answer.complete
        answer.feed(piece)
    assert answer.complete
    assert Whole(b"".join(answer.pieces), answer.reusable, answer.status, answer.version) == whole


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_headers_are_those_of_the_final_head_and_as_they_are(size: int) -> None:
    wire = (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n"
        b"set-cookie: \xc3\xa4 \t\r\nx-none:\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nx-trailer: 1\r\n\r\n"
    )
    answer = Answer()
    for piece in cut(wire, size):
        answer.feed(piece)
    assert answer.headers == [
        (b"Set-Cookie", b"a=b"),
        (b"set-cookie", "ä".encode()),
        (b"x-none", b""),
        (b"Transfer-Encoding", b"chunked"),
    ]


REFUSED: dict[str, bytes] = {
    "no HTTP": b"220 mail.test ESMTP\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "two equal lengths": OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "two lengths in one": OK + b"content-length: 2, 2\r\n\r\nok",
    "a length before chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length after chunks": OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "a negative length": OK + b"content-length: -2\r\n\r\nok",
    "a length with a sign": OK + b"content-length: +2\r\n\r\nok",
    "an empty length": OK + b"content-length:\r\n\r\nok",
    "a length beyond reason": OK + b"content-length: 99999999999999999999999\r\n\r\nok",
    "another transfer coding": OK + b"transfer-encoding: gzip\r\n\r\nok",
    "another one below chunks": OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "another one above chunks": OK + b"transfer-encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a folded header": OK + b"x-a: b\r\n c\r\n\r\n",
    "a space before a colon": OK + b"content-length : 2\r\n\r\nok",
    "a header without a name": OK + b": b\r\n\r\n",
    "a header without a colon": OK + b"x-a\r\n\r\n",
    "a NUL in a header": OK + b"x-a: \x00\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "bare line feeds among chunks": CHUNKED + b"2\nok\n0\n\n",
    "a chunk without a size": CHUNKED + b"ok\r\n",
    "a chunk of negative size": CHUNKED + b"-2\r\nok\r\n",
    "a chunk beyond reason": CHUNKED + b"fffffffffffffffff\r\nok\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\nok\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status below all classes": b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "another protocol from here on": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nok",
    "an interim answer with a body": b"HTTP/1.1 150 Odd\r\ncontent-length: 2\r\n\r\nok" + TWO + b"ok",
    "headers without end": OK + b"x-a: b\r\n" * (MAX_HEAD // 8 + 1),
    "one header without end": OK + b"x-a: " + b"b" * MAX_HEAD,
    "too many headers": OK + b"a:\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD // 25 + 1),
    "trailers without end": CHUNKED + b"0\r\n" + b"x-a: b\r\n" * (MAX_HEAD // 8 + 1),
    "extensions without end": CHUNKED + b"2;" + b"a" * MAX_HEAD,
}


@pytest.mark.parametrize("size", [1, 4096, 2**20])
@pytest.mark.parametrize("wire", REFUSED.values(), ids=REFUSED)
def test_what_is_no_answer_is_refused_without_a_word_of_it(wire: bytes, size: int) -> None:
    answer = Answer()
    with pytest.raises(Malformed) as caught:
        for piece in cut(wire, size):
            answer.feed(piece)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert str(caught.value).startswith(("it ", "its ", "an interim"))


def test_a_long_head_that_ends_in_time_is_taken_with_what_follows() -> None:
    head = OK + b"content-length: 2\r\nx-long: "
    wire = head + b"a" * (MAX_HEAD - len(head) - 4) + b"\r\n\r\nok"
    answer = Answer()
    answer.feed(wire)
    assert (answer.complete, answer.pieces) == (True, [b"ok"])


def test_small_chunks_may_be_many() -> None:
    """Each comes in three parts, of which two are no body: together more than is allowed at once."""
    answer = Answer()
    answer.feed(CHUNKED)
    for _ in range(MAX_HEAD // 2):
        for part in (b"1\r\n", b"a", b"\r\n"):
            answer.feed(part)
        answer.pieces.clear()
    answer.feed(b"0\r\n\r\n")
    assert answer.complete


SURPLUS = {
    "another answer": TWO + b"ok" + OK,
    "a byte of one": TWO + b"okH",
    "garbage": TWO + b"ok\x00",
    "a body where there is none": b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("wire", SURPLUS.values(), ids=SURPLUS)
@pytest.mark.parametrize("size", [1, 4096])
def test_what_follows_an_answer_spoils_the_connection_alone(wire: bytes, size: int) -> None:
    answer = Answer()
    for piece in cut(wire, size):
        answer.feed(piece)
    assert (answer.complete, answer.reusable) == (True, False)
    assert b"".join(answer.pieces) in (b"ok", b"")


@pytest.mark.parametrize("framing", [b"content-length: 2", b"transfer-encoding: chunked", b"x: y"])
def test_the_answer_to_a_head_request_is_its_headers(framing: bytes) -> None:
    answer = Answer(bodiless=True)
    answer.feed(OK + framing + b"\r\n\r\n")
    assert (answer.complete, answer.reusable, answer.pieces) == (True, False, [])


AT_THE_END: dict[str, tuple[bytes, bool]] = {
    "nothing": (b"", False),
    "half a head": (OK, False),
    "an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n", False),
    "a body without a length": (OK + b"\r\nok", True),
    "a body without a length, in HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", True),
    "no body and no length": (OK + b"\r\n", True),
    "half a body": (TWO + b"o", False),
    "no last chunk": (CHUNKED + b"2\r\nok\r\n", False),
    "half a trailer": (CHUNKED + b"2\r\nok\r\n0\r\nx", False),
    "a whole answer": (TWO + b"ok", True),
}


@pytest.mark.parametrize(("wire", "whole"), AT_THE_END.values(), ids=AT_THE_END)
def test_the_peers_end_is_the_answers_only_where_nothing_else_is(wire: bytes, whole: bool) -> None:
    answer = Answer()
    if wire:
        answer.feed(wire)
    assert answer.end() is whole
    assert answer.complete is whole


FRAGMENTS = st.sampled_from(
    [
        *[wire for wire, _ in WHOLE.values()],
        *[wire for wire in REFUSED.values() if len(wire) < 200],
        b"HTTP/1.1 ",
        b"\r\n",
        b"0\r\n\r\n",
        b"content-length: 5\r\n",
    ]
)


@given(st.lists(st.one_of(FRAGMENTS, st.binary(max_size=20)), max_size=6).map(b"".join), st.integers(1, 40))
def test_arbitrary_bytes_end_in_an_answer_or_are_refused(wire: bytes, size: int) -> None:
    pieces: list[list[bytes]] = []
    for step in (size, len(wire) or 1):
        answer = Answer()
        try:
            for piece in cut(wire, step):
                answer.feed(piece)
        except Malformed:
            assert not answer.complete
            continue
        answer.end()
        if answer.complete:
            assert 200 <= answer.status <= 999
            pieces.append([b"%d" % answer.status, b"".join(answer.pieces)])
    assert all(one == pieces[0] for one in pieces)
