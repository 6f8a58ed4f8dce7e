"""The stream: length-prefixed messages over one TCP or TLS connection.

Header, little endian: ``u32`` body length, ``u8`` kind, ``u16`` group, ``u32`` request id. The splitter is pure; the
:class:`Connection` is the one asyncio protocol that SDK, router and nodes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final, cast

from holdfast.wire.errors import BadMessage, TooLarge
from holdfast.wire.frames import encode
from holdfast.wire.limits import (
    CLOSING_S,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    KEEPALIVE_PROBES,
    LINK_LOOK_S,
    LINK_SILENT_LOOKS,
    MESSAGE_BYTES_MAX,
    STALLED_S,
    UNACKNOWLEDGED_MS_MAX,
    UNFINISHED_S,
)
from holdfast.wire.messages import Msg, refusal_of
from holdfast.wire.tls import ALPN
from holdfast.wire.turn import turn_end

_HEADER: Final = struct.Struct("<IBHI")
HEADER_BYTES: Final = _HEADER.size
_KIND_MAX: Final = 63
_KEEPALIVE: Final = {
    "TCP_KEEPIDLE": KEEPALIVE_IDLE_S,
    "TCP_KEEPALIVE": KEEPALIVE_IDLE_S,
    "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S,
    "TCP_KEEPCNT": KEEPALIVE_PROBES,
    "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MS_MAX,
}
"""Options of TCP by name; no platform has them all."""
_EXPECTED: Final = f"is the peer speaking another protocol? This is {ALPN} (docs/wire.md), which begins with HELLO"

Message = tuple[int, int, int, bytes]
"""(kind, group, request id, body)."""


def pack(kind: int, group: int, request: int, body: bytes) -> bytes:
    """One message, ready for the wire."""
    return _HEADER.pack(len(body), kind, group, request) + body


class Splitter:
    """Cuts a byte stream into messages. Holds at most one unfinished message.

    A body longer than ``body_bytes_max`` is skipped without being kept and handed out as ``None``, so that the
    receiver can refuse it and keep the connection. A header that cannot be (an unknown kind, a length over
    ``MESSAGE_BYTES_MAX``) raises :class:`BadMessage` or :class:`TooLarge`: the stream is out of step and must end.
    """

    __slots__ = ("_buffer", "_skip", "_wanted", "body_bytes_max")

    def __init__(self, body_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._wanted = HEADER_BYTES
        """What the buffer must hold before another look at it is worth while."""
        self._skip = 0
        self.body_bytes_max = body_bytes_max
        """May be changed between two messages."""

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer) or self._skip > 0

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes | None]]:
        """Messages completed by ``data``."""
        if self._skip:
            taken = min(self._skip, len(data))
            self._skip -= taken
            data = data[taken:]
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._wanted:
                # Whoever trickles a large body in costs an append each time, not a copy of all that is held.
                return
            data = bytes(buffer)
            buffer.clear()
        self._wanted = HEADER_BYTES
        at, end = 0, len(data)
        while end - at >= HEADER_BYTES:
            size, kind, group, request = _HEADER.unpack_from(data, at)
            if not 0 < kind <= _KIND_MAX:
                raise BadMessage(f"no message has kind {kind}: {_EXPECTED}")
            if size > MESSAGE_BYTES_MAX:
                raise TooLarge(
                    f"a message has at most {MESSAGE_BYTES_MAX} bytes; the header announces {size}: {_EXPECTED}"
                )
            start = at + HEADER_BYTES
            if size > self.body_bytes_max:
                present = min(size, end - start)
                self._skip = size - present
                at = start + present
                yield kind, group, request, None
                continue
            if end - start < size:
                self._wanted = HEADER_BYTES + size
                break
            at = start + size
            yield kind, group, request, data[start:at]
        if at < end:
            buffer += data[at:]


class Connection(asyncio.Protocol):
    """One connection. Messages written in one turn of the loop leave in one system call.

    ``on_message(connection, kind, group, request, body)`` gets ``None`` as body of a message over ``body_bytes_max``;
    ``on_closed(connection, error)`` is called exactly once. ``paused`` says that the peer reads slower than we write,
    and ``on_flow(connection)`` hears of each change of it. More than ``unsent_bytes_max`` waiting to be sent ends the
    connection, for memory is bounded; so does, with ``patient=False``, a peer that takes nothing of it for
    ``STALLED_S`` or does not end a message in ``UNFINISHED_S``. A stream that is out of step is answered with REFUSED
    and closed; what comes after :meth:`close` is not dispatched.
    """

    def __init__(
        self,
        on_message: Callable[[Connection, int, int, int, bytes | None], None],
        on_closed: Callable[[Connection, Exception | None], None],
        *,
        on_open: Callable[[Connection], None] | None = None,
        body_bytes_max: int = MESSAGE_BYTES_MAX,
        unsent_bytes_max: int = 4 * MESSAGE_BYTES_MAX,
        on_flow: Callable[[Connection], None] | None = None,
        patient: bool = True,
    ) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_open = on_open
        self._splitter = Splitter(body_bytes_max)
        self._unsent_bytes_max = unsent_bytes_max
        self._on_flow = on_flow
        self._patient = patient
        self._written = self._taken = 0
        """Bytes given to the transport; and how many of them had left it at the last look at a peer that takes none."""
        self._messages = 0
        self._unfinished_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._outbox: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._turn_end = turn_end()
        self.transport: asyncio.Transport | None = None
        self._closing = False
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard = False
        """Whether anything came since the last look; a mark costs less at each read than a clock."""
        self._silent_looks = 0
        self.paused = False
        self.closed = False
        self.peer = ""

    @property
    def received(self) -> int:
        """Messages, since it was opened."""
        return self._messages

    @property
    def body_bytes_max(self) -> int:
        return self._splitter.body_bytes_max

    @body_bytes_max.setter
    def body_bytes_max(self, limit: int) -> None:
        """From the next message on, also of the same read."""
        self._splitter.body_bytes_max = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
        if self._on_open is not None:
            self._on_open(self)

    def keep_alive(self) -> None:
        """Have the kernel end this connection when the peer's machine vanishes without a word."""
        assert self.transport is not None
        stream = self.transport.get_extra_info("socket")
        if stream is None or stream.family not in (socket.AF_INET, socket.AF_INET6):
            return
        # The peer may be gone by now, and some kernels refuse options then.
        with contextlib.suppress(OSError):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                option = getattr(socket, name, None)
                if option is not None:
                    stream.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        on_message = self._on_message
        try:
            for kind, group, request, body in self._splitter.feed(data):
                if self._closing:
                    return
                self._messages += 1
                on_message(self, kind, group, request, body)
        except (BadMessage, TooLarge) as error:
            self.send(Msg.REFUSED, 0, 0, encode(refusal_of(error)))
            self.close(error)
            return
        if not self._patient and self._unfinished_timer is None and self._splitter.unfinished and not self._closing:
            self._expect_end_of_message()

    def watch(self) -> None:
        """From now on say PING at times, and abort with a ``TimeoutError`` when the peer is silent for too long.

        Both ends say it, whatever else they send: an answer to the PING of one that sends much and hears little would
        come late, behind all that it sent. Looks are counted, not seconds: a process that was stopped or busy for long
        reads what has come meanwhile before its next look, and does not take its own silence for the peer's.
        """
        self._heard = True
        self._timer = self._loop.call_later(LINK_LOOK_S, self._look)

    def _look(self) -> None:
        self._silent_looks = 0 if self._heard else self._silent_looks + 1
        self._heard = False
        if self._silent_looks >= LINK_SILENT_LOOKS:
            self.abort(TimeoutError(f"nothing was heard from it for {LINK_SILENT_LOOKS * LINK_LOOK_S:g} s"))
            return
        self.send(Msg.PING, 0, 0, b"")
        self._timer = self._loop.call_later(LINK_LOOK_S, self._look)

    def pause_writing(self) -> None:
        self.paused = True
        if not self._patient:
            self._taken = self._gone()
            self._stall_timer = self._loop.call_later(STALLED_S, self._look_for_progress)
        if self._on_flow is not None:
            self._on_flow(self)

    def resume_writing(self) -> None:
        self.paused = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        if self._on_flow is not None:
            self._on_flow(self)

    def _gone(self) -> int:
        assert self.transport is not None
        return self._written - self.transport.get_write_buffer_size()

    def _look_for_progress(self) -> None:
        before, self._taken = self._taken, self._gone()
        if self._taken <= before:
            self.abort(TooLarge(f"the peer took nothing of what it asked for in {STALLED_S:g} s"))
        else:
            self._stall_timer = self._loop.call_later(STALLED_S, self._look_for_progress)

    def _expect_end_of_message(self) -> None:
        """From now on: of the one that has begun. One timer for as many messages as come in its time."""
        self._unfinished_timer = self._loop.call_later(UNFINISHED_S, self._look_for_end_of_message, self._messages)

    def _look_for_end_of_message(self, messages: int) -> None:
        self._unfinished_timer = None
        if not self._splitter.unfinished:
            return
        if self._messages == messages:
            self.abort(TooLarge(f"the peer did not finish a message in {UNFINISHED_S:g} s"))
        else:
            self._expect_end_of_message()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc)

    def send(self, kind: int, group: int, request: int, body: bytes) -> None:
        """Queue one message for this turn of the loop. Nothing happens on a closed or closing connection."""
        if self._closing:
            return
        outbox = self._outbox
        if not outbox:
            self._turn_end.flush(self.flush)
        outbox.append(_HEADER.pack(len(body), kind, group, request))
        outbox.append(body)

    def flush(self) -> None:
        """Hand what is queued to the transport now, not at the end of this turn."""
        outbox, self._outbox = self._outbox, []
        if self._closing or self.transport is None or not outbox:
            return
        data = b"".join(outbox)
        self._written += len(data)
        self.transport.write(data)
        if self.paused and self.transport.get_write_buffer_size() > self._unsent_bytes_max:
            self.abort(TooLarge("the peer does not read what it asked for"))

    def close(self, error: Exception | None = None) -> None:
        """Send what is queued and close; a peer that does not take it within ``CLOSING_S`` does not get it."""
        if self._closing or self.transport is None:
            return
        self.flush()
        if not self._closing:
            self._closing, self._error = True, error
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(CLOSING_S, self.abort)
            self.transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Close at once; what is unsent is lost."""
        if self.transport is not None:
            self.transport.abort()
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.closed = self._closing = True
        for timer in (self._timer, self._stall_timer, self._unfinished_timer):
            if timer is not None:
                timer.cancel()
        self._outbox.clear()
        self._on_closed(self, self._error or error)
