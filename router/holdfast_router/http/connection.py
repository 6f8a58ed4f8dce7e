"""One connection of HTTP/1.1: uvicorn's, and the limits that uvicorn leaves to a proxy in front of it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.errors import BadMessage, Overloaded
from holdfast.wire.crowd import Crowd
from holdfast.wire.limits import BUSY_RETRY_MS, STALLED_S, UNFINISHED_S

from .line import Line
from .problem_details import MEDIA_TYPE, ProblemDetails, details_of, plain_problem
from .request import LINE, WHOLE

HEADER_BYTES_MAX: Final = 16 << 10
FIRST_REQUEST_S: Final = 10.0
"""Within which a connection has to have sent the head of its first request."""
PIPELINED_MAX: Final = 64
"""Requests behind one that is not answered yet; they are small, and each costs memory as soon as its head is read."""


class HttpConnection(HttpToolsProtocol):
    """Counted, and closed when a request that was begun does not end, or an answer is not taken."""

    def __init__(self, crowd: Crowd, **settings: Any) -> None:
        super().__init__(**settings)
        self._crowd = crowd
        self._origin: str | None = None
        """None while it is not counted."""
        self._messages = 0
        """Requests begun."""
        self._in_message = self._in_head = False
        """Whether the latest of them, or its head, has not ended."""
        self._head_bytes = 0
        """Of a head that has not ended, in whole reads."""
        self._unfinished: asyncio.TimerHandle | None = None
        """Runs while a request has been begun and not ended."""
        self._timed = 0
        """The request for which it runs."""
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
        self.transport = self._line = self.app_state[LINE] = Line(transport, self.flow)
        self.loop.call_later(FIRST_REQUEST_S, self._expect_request)

    def _expect_request(self) -> None:
        came = self._messages > 1 or (self._messages == 1 and not self._in_head)
        if not came and not self.transport.is_closing():
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
        # Else a cycle, and the collector looks at what is old very seldom.
        self.cycle = None  # type: ignore[assignment]  # as uvicorn has it before the first request
        self._line.gone()

    def send_400_response(self, msg: str) -> None:
        """To what cannot be read as HTTP."""
        self._end(UNREADABLE)

    def _end(self, last_word: bytes) -> None:
        # Nobody may take it for the answer to an earlier request, which perhaps was carried out.
        if not self._owes_answer or (self._in_body and not self.pipeline and not self.cycle.response_started):
            self.transport.write(last_word)
        self.transport.close()

    @property
    def _in_body(self) -> bool:
        return self._in_message and not self._in_head

    @property
    def _owes_answer(self) -> bool:
        """To a request whose head has come."""
        return self.cycle is not None and not self.cycle.response_complete

    # What is begun has to end.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._messages += 1
        self._in_message = self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.pipeline) >= PIPELINED_MAX:
            raise Overloaded("too many requests wait behind one that is not answered", BUSY_RETRY_MS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        self.scope["state"][WHOLE] = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._origin is None:
            return
        # What belongs to this head: all of a read that began with it or within it. Of one that another request ended in
        # the rest is not counted, and a head that comes at once is looked at when it has (``application``).
        first = self._messages + (not self._in_message)
        super().data_received(data)
        if self._in_head and self._messages == first:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES_MAX and not self.transport.is_closing():
                self._end(LONG_HEAD)
        if self._in_message or self._unfinished is not None:
            self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message or self._unfinished is not None:
            self._look()

    def _look(self) -> None:
        # What stands behind a request that is not answered yet has not begun.
        begun = self._in_body or (self._in_head and not self._owes_answer)
        if self.transport.is_closing() or (begun and self._unfinished is not None and self._timed == self._messages):
            return
        if self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None
        if begun:
            self._timed = self._messages
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
