"""What stands still between a connection and its client: how long nothing is read, and what is not taken."""

from __future__ import annotations

import asyncio
import socket
import struct

from uvicorn.protocols.http.flow_control import FlowControl

_ACKNOWLEDGED = struct.Struct("=120xQ")
"""`tcpi_bytes_acked` in Linux's `tcp_info`, since 4.1."""


class TimedFlow(FlowControl):
    """uvicorn's flow control with a clock that stands still while nothing is read.

    `resumed` counts how often there was room again for what is written.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self.resumed = 0
        self._now = loop.time
        self._paused = 0.0
        self._paused_at = 0.0

    def time(self) -> float:
        """Seconds, of which only differences mean something; right while reading is not paused."""
        return self._now() - self._paused

    def pause_reading(self) -> None:
        if not self.read_paused:
            self._paused_at = self._now()
            super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self._paused += self._now() - self._paused_at
            super().resume_reading()

    def resume_writing(self) -> None:
        self.resumed += 1
        super().resume_writing()


class Untaken:
    """What was written to a connection and its client has not taken, as far as one can know.

    How much TLS holds back is hidden. There it counts what the client's system has acknowledged, if ours tells; if not,
    no client stands still.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        is_secure = transport.get_extra_info("sslcontext") is not None
        self._socket = transport.get_extra_info("socket") if is_secure else None
        self._transport = transport
        self._last: tuple[object, int | None] = None, None

    def stands(self, place: object, *, is_held: bool, is_whole: bool) -> bool:
        """Whether something waits, and the client has taken nothing of it since the last call with the same `place`.

        Nothing may be added to it in between: writing `is_held`, or the answer `is_whole`.
        """
        is_seen = is_held or (is_whole and self._socket is None)
        before, amount = self._last, self._amount() if is_seen else None
        self._last = place, amount
        return amount is not None and before[0] == place and before[1] is not None and amount >= before[1]

    def _amount(self) -> int | None:
        """In bytes; only differences mean something. `None` if there is nothing, or one cannot tell."""
        if self._socket is None:
            return self._transport.get_write_buffer_size() or None
        try:
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        except (AttributeError, OSError):  # another system than Linux, or no TCP
            return None
        return -_ACKNOWLEDGED.unpack(told)[0] if len(told) == _ACKNOWLEDGED.size else None
