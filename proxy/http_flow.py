"""What stands still between a connection and its client: how long nothing is read, and what is not taken."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, NamedTuple

from uvicorn.protocols.http.flow_control import FlowControl

_TCP_INFO = struct.Struct("=24xI92xQ16xI")
"""`tcpi_unacked`, `tcpi_bytes_acked` and `tcpi_notsent_bytes` in Linux's `tcp_info`, since 4.6."""
_SOON, _LATER = 0.001, 0.5  # seconds between two looks at whether all has been taken


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


class _Sent(NamedTuple):
    """What the system tells: how many bytes the client's has acknowledged, and whether more are to follow."""

    acknowledged: int
    waits: bool


class Untaken:
    """What was written to a connection and its client has not taken, as far as one can know.

    Where the system tells what the client's own has acknowledged, that counts: it moves with every hundred kilobytes
    or so that a client has read, while a buffer of ours waits for a third of the kernel's, which may be a megabyte.
    How much TLS holds back is hidden; but as long as it does, the kernel's buffer is not empty. There, if the system
    does not tell, no client stands still.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._is_secure = transport.get_extra_info("sslcontext") is not None
        self._socket = transport.get_extra_info("socket")
        self._transport = transport
        self._last: tuple[object, int | None] = None, None

    def waits(self) -> bool:
        """Whether the system tells that something is to follow what the client has."""
        sent = self._sent()
        return sent is not None and sent.waits

    def stands(self, place: object, *, is_fixed: bool) -> bool:
        """Whether something waits, and the client has taken nothing of it since the last call with the same `place`.

        Nothing may be added to it in between: it `is_fixed`.
        """
        before, amount = self._last, self._amount() if is_fixed else None
        self._last = place, amount
        return amount is not None and before[0] == place and before[1] is not None and amount >= before[1]

    def _amount(self) -> int | None:
        """In bytes; only differences mean something. `None` if there is nothing, or one cannot tell."""
        sent = self._sent()
        if self._is_secure:
            return -sent.acknowledged if sent is not None and sent.waits else None
        waiting = self._transport.get_write_buffer_size()
        if not waiting:
            return None
        return waiting if sent is None else -sent.acknowledged

    def _sent(self) -> _Sent | None:
        try:
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        except (AttributeError, OSError):  # another system than Linux, or no TCP
            return None
        if len(told) < _TCP_INFO.size:
            return None
        on_its_way, acknowledged, waiting = _TCP_INFO.unpack(told)
        return _Sent(acknowledged, on_its_way + waiting > 0)


class PatientTransport:
    """A connection under TLS that is closed once its client has taken everything.

    The event loops give TLS 30 seconds to end; what the client has not taken by then, they drop. Who takes nothing
    more has to be aborted by somebody else.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._untaken = Untaken(transport)
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if not self.is_closing():
            self._closing = True
            self._close_later(_SOON)

    def _close_later(self, pause: float) -> None:
        if not self._transport.is_closing() and self._untaken.waits():
            self._loop.call_later(pause, self._close_later, min(2 * pause, _LATER))
        else:
            self._transport.close()
