"""One connection of HTTP/1.1: uvicorn's, and the limits that uvicorn leaves to a proxy in front of it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from holdfast.errors import BadMessage, Overloaded
from holdfast.wire.crowd import Crowd
from holdfast.wire.limits import BUSY_RETRY_MS, STALLED_S, UNFINISHED_S

from .problem_details import MEDIA_TYPE, ProblemDetails, details_of, plain_problem

HEADER_BYTES_MAX: Final = 16 << 10
FIRST_REQUEST_S: Final = 10.0
"""Within which a connection has to have sent the head of its first request."""


class HttpConnection(H11Protocol):
    """Counted, and closed when a request that was begun does not end, or an answer is not taken."""

    def __init__(self, crowd: Crowd, **settings: Any) -> None:
        super().__init__(**settings)
        self._crowd = crowd
        self._origin: str | None = None
        """None while it is not counted."""
        self._unfinished: asyncio.TimerHandle | None = None
        """Runs while a request has been begun and not ended."""
        self._answering: object = None
        """The exchange that was the latest when that timer began."""
        self._stalled: asyncio.TimerHandle | None = None
        """Runs while there is more to write than the other end takes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        peer = transport.get_extra_info("peername")
        origin = str(peer[0]) if peer else ""
        if not self._crowd.enter(origin):
            transport.write(FULL)
            transport.close()
            return
        self._origin = origin
        super().connection_made(transport)
        self.loop.call_later(FIRST_REQUEST_S, self._expect_request)

    def _expect_request(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._origin is None:
            return
        self._crowd.leave(self._origin)
        self._origin = None
        for timer in (self._unfinished, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """To what cannot be read as HTTP, or has a head that is too long."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            long = len(self.conn.trailing_data[0]) > HEADER_BYTES_MAX
            self.transport.write(LONG_HEAD if long else UNREADABLE)
        self.transport.close()

    # What is begun has to end.

    def data_received(self, data: bytes) -> None:
        if self._origin is None:
            return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._look()

    def _look(self) -> None:
        # What stands behind a request that is not answered yet has not begun.
        state = self.conn.their_state
        begun = state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))
        if begun and self._unfinished is not None and self._answering is self.cycle:
            return
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None
        if begun:
            self._answering = self.cycle
            self._unfinished = self.loop.call_later(UNFINISHED_S, self._give_up)

    def _give_up(self) -> None:
        # Of a body that nobody has read nothing more is taken for now: it is not late.
        self._unfinished = None
        if self.flow.read_paused:
            self._look()
        elif not self.transport.is_closing():
            self.transport.close()

    # What is asked for has to be taken.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_over(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _watch_over(self, unsent_bytes: int) -> None:
        self._stalled = self.loop.call_later(STALLED_S, self._expect_taken, unsent_bytes)

    def _expect_taken(self, before_bytes: int) -> None:
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes >= before_bytes:
            self.transport.abort()
        else:
            self._watch_over(unsent_bytes)


def _last_word(phrase: str, details: ProblemDetails) -> bytes:
    body = msgspec.json.encode(details)
    fields = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "connection": "close", **details.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {details.status} {phrase}\r\n{head}\r\n".encode() + body


FULL: Final = _last_word(
    "Service Unavailable", details_of(Overloaded("this router has too many connections", BUSY_RETRY_MS))
)
"""What one connection too many is told."""
UNREADABLE: Final = _last_word("Bad Request", details_of(BadMessage("this is no request of HTTP/1.1")))
HEAD_TOO_LARGE: Final = plain_problem(
    431, "head-too-large", "The head of the request is too large", f"a head has at most {HEADER_BYTES_MAX} bytes"
)
LONG_HEAD: Final = _last_word("Request Header Fields Too Large", HEAD_TOO_LARGE)
