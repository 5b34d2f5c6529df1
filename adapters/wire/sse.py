"""Server-sent events as bytes: framing only, what the data means is for others.

Line rules: the WHATWG event stream grammar. Lines end at LF, CR or CRLF and nowhere else; in
particular not at U+2028 or U+0085, which a model may well write inside a JSON string.
"""

from __future__ import annotations

MAX_FRAME = 16 * 2**20  # bytes; images arrive inside frames, an endless line does not
_BOM = b"\xef\xbb\xbf"

DONE = b"[DONE]"


class FrameTooLong(ValueError):
    """A frame passed the bound; the stream cannot be trusted any more."""


class SSEDecoder:
    """Bytes, cut anywhere, to the data of each event. Time is linear in the bytes fed.

    Event names, ids and retry times are skipped: no upstream of ours says anything by them that its
    data does not repeat.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._partial: list[bytes] = []  # pieces of a line that has not ended
        self._partial_size = 0  # bytes in `_partial`
        self._data: list[bytes] = []
        self._data_size = 0  # bytes in `_data`, and one a line: an event of empty lines has an end too
        self._skip_lf = False
        self._start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes. Raises FrameTooLong."""
        if b"\r" in chunk or self._skip_lf:
            chunk = self._unify_line_ends(chunk)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        events: list[bytes] = []
        if lines:
            if self._partial:
                self._partial.append(lines[0])
                lines[0] = b"".join(self._partial)
                self._partial.clear()
                self._partial_size = 0
            if self._start:
                self._start = False
                lines[0] = lines[0].removeprefix(_BOM)
            self._take_lines(lines, events)
        if rest:
            self._partial.append(rest)
            self._partial_size += len(rest)
        if self._partial_size + self._data_size > self._max_frame:
            raise FrameTooLong(f"an event is longer than {self._max_frame} bytes")
        return events

    def close(self) -> list[bytes]:
        """The event that lacked only its final blank line, if there is one.

        The grammar discards it; some servers forget the blank line after their last event.
        """
        return self.feed(b"\n\n") if self._partial or self._data else []

    def _unify_line_ends(self, chunk: bytes) -> bytes:
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        # A CR at the end has ended the line already; the LF that may follow is then no line of its own.
        self._skip_lf = self._skip_lf or chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take_lines(self, lines: list[bytes], events: list[bytes]) -> None:
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    self._data_size = 0
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._data_size += len(data[-1]) + 1
            elif line == b"data":
                data.append(b"")
                self._data_size += 1


def dump_data(payload: bytes) -> bytes:
    """One event. `payload` holds no line end, as JSON made by us never does."""
    return b"data: " + payload + b"\n\n"


def dump_comment(text: str) -> bytes:
    """A line that every client skips; keeps a quiet connection open."""
    return b": " + text.encode() + b"\n\n"
