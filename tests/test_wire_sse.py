"""Framing of server-sent events: the WHATWG line rules, and one meaning wherever the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wire.sse import FrameTooLong, SSEDecoder, dump_comment, dump_data
from tests.support.events import cuts_of, each_cut, play

STREAMS: dict[str, tuple[bytes, list[bytes]]] = {
    "line feeds": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "carriage returns": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "both": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "all kinds in one stream": (b"data: a\r\ndata: b\n\rdata: c\n\r\n", [b"a\nb", b"c"]),
    "no space after the colon": (b"data:a\n\n", [b"a"]),
    "one space belongs to the field, the second to the value": (b"data:  a \n\n", [b" a "]),
    "several data lines are one event": (b"data: a\ndata:\ndata: b\n\n", [b"a\n\nb"]),
    "an empty data line is an event": (b"data:\n\n", [b""]),
    "a field without a colon": (b"data\n\n", [b""]),
    "a field whose name only begins alike": (b"database: a\ndata: b\n\n", [b"b"]),
    "comments": (b": hello\n\n:\n\ndata: a\n: inside\n\n: keep-alive\n\n", [b"a"]),
    "names, ids and retry times": (b"event: x\nid: 7\nretry: 10\ndata: a\n\nid: 8\n\n", [b"a"]),
    "blank lines without data": (b"\n\n\r\n\ndata: a\n\n\n\n", [b"a"]),
    "a byte-order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "a byte-order mark that is not at the start": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    "only one byte-order mark": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"b"]),
    "a missing last blank line": (b"data: a\n\ndata: b\n", [b"a", b"b"]),
    "a missing last line end": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "a carriage return as the last byte": (b"data: a\r\n\r\ndata: b\r", [b"a", b"b"]),
    "separators that only Unicode knows": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\n\n".encode(),
        ["a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg".encode()],
    ),
    "bytes that are no UTF-8": (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
    "nothing": (b"", []),
    "nothing but comments": (b": a\n\n: b", []),
}


@pytest.mark.parametrize(("wire", "events"), STREAMS.values(), ids=STREAMS)
def test_a_stream_is_framed_alike_wherever_it_is_cut(wire: bytes, events: list[bytes]) -> None:
    assert play(SSEDecoder(), [wire]) == events
    for pieces in each_cut(wire):
        assert play(SSEDecoder(), pieces) == events, pieces


LINES = st.lists(
    st.tuples(
        st.sampled_from([b"data: ", b"data:", b"data", b": ", b"event: ", b"", b"\xef\xbb\xbf"]),
        st.text(alphabet="ab:{}\u2028\u0085 ", max_size=6).map(str.encode),
        st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b""]),
    ).map(b"".join),
    max_size=12,
).map(b"".join)


@given(st.data())
def test_any_bytes_are_framed_alike_wherever_they_are_cut(data: st.DataObject) -> None:
    wire = data.draw(LINES)
    assert play(SSEDecoder(), data.draw(cuts_of(wire))) == play(SSEDecoder(), [wire])


@given(LINES)
def test_framing_follows_the_grammar(wire: bytes) -> None:
    assert play(SSEDecoder(), [wire]) == _by_the_book(wire)


def _by_the_book(wire: bytes) -> list[bytes]:
    """The WHATWG algorithm, written down line by line; an event at the end counts without its blank line."""
    events: list[bytes] = []
    data: list[bytes] = []
    text = wire.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in [*text.split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return events


def test_an_event_comes_out_with_the_byte_that_completes_it() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [b"a"]


def test_a_carriage_return_ends_a_line_without_waiting_for_what_follows() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [b"a"]
    assert decoder.feed(b"\ndata: b\r\n\r\n") == [b"b"]


ENDLESS = {
    "a line": b"data: " + b"x" * 200,
    "a comment": b":" + b"x" * 200,
    "lines of one event": b"data: xxxx\n" * 50,
    "empty lines of one event": b"data:\n" * 200,
}


@pytest.mark.parametrize("wire", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_what_never_ends_is_given_up_at_the_bound(wire: bytes, size: int) -> None:
    decoder = SSEDecoder(max_frame=100)
    with pytest.raises(FrameTooLong, match="100 bytes"):
        for at in range(0, len(wire), size):
            decoder.feed(wire[at : at + size])


def test_the_bound_is_for_one_event_and_not_for_the_stream() -> None:
    decoder = SSEDecoder(max_frame=100)
    wire = (b"data: " + b"x" * 80 + b"\n\n") * 20
    assert play(decoder, [wire[at : at + 7] for at in range(0, len(wire), 7)]) == [b"x" * 80] * 20


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n", codec="utf-8")).map(str.encode)))
def test_what_is_dumped_is_read_back(payloads: list[bytes]) -> None:
    wire = dump_comment("keep-alive") + b"".join(map(dump_data, payloads))
    assert play(SSEDecoder(), [wire]) == payloads


def test_a_comment_is_one_line_and_a_blank_one() -> None:
    assert dump_comment("keep-alive") == b": keep-alive\n\n"
