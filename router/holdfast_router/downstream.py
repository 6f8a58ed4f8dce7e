"""One connection of an SDK: what is under way for it, and when nothing more is read from it."""

from __future__ import annotations

import asyncio

from holdfast.wire.frames import encode
from holdfast.wire.messages import Msg, Refusal
from holdfast.wire.stream import Connection
from holdfast.wire.tenants import Principal

from .haste import REST_S, Haste

OUTSTANDING_MAX = 256
"""Requests of one connection under way; beyond, the router reads no more from it until answers have left."""


class Downstream:
    """One connection of an SDK."""

    __slots__ = (
        "_resting",
        "admitted",
        "changing",
        "connection",
        "haste",
        "is_router",
        "last_word",
        "outstanding",
        "paused",
        "principal",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.principal: Principal | None = None
        """None until it has said HELLO."""
        self.outstanding = 0
        self.admitted = 0
        """Operations of its that were admitted and are under way."""
        self.paused = False
        self._resting = False
        self.haste = Haste()
        self.is_router = False
        """Whether it is the router itself, whose callers were admitted before."""
        self.changing = 0
        """Administrators' changes of its under way."""
        self.last_word: Refusal | None = None
        """Its key ended while a change of its was under way, perhaps by that: it is heard no more, and closed with this
        when it has been told what came of the change."""

    def answered(self) -> None:
        self.outstanding -= 1
        if self.paused:
            self.read_or_not()

    def asked(self) -> None:
        self.outstanding += 1
        if self.outstanding >= OUTSTANDING_MAX:
            self.read_or_not()

    def read_or_not(self) -> None:
        """Nothing more is read from who has much under way, does not take what it asked for, or is in haste."""
        connection, few = self.connection, OUTSTANDING_MAX // 2 if self.paused else OUTSTANDING_MAX - 1
        stop = connection.paused or self._resting or self.outstanding > few
        transport = connection.transport
        if stop is not self.paused and transport is not None and not connection.closed:
            self.paused = stop
            (transport.pause_reading if stop else transport.resume_reading)()

    def watched(self, group: int, request: int, body: bytes) -> bool:
        if self.connection.paused:
            return False
        self.connection.send(Msg.WATCHED, group, request, body)
        return True

    def end(self, last_word: Refusal) -> None:
        """At once, or after the answer to a change that is under way."""
        self.last_word = last_word
        if not self.changing:
            self.refuse(0, 0, last_word)
            self.connection.close()

    def changed(self) -> None:
        """A change of its was answered."""
        self.changing -= 1
        if self.last_word is not None:
            self.end(self.last_word)

    def unwatched(self, group: int, request: int, refusal: Refusal) -> None:
        self.refuse(group, request, refusal)

    def refuse(self, group: int, request: int, refusal: Refusal) -> None:
        self.connection.send(Msg.REFUSED, group, request, encode(refusal))
        if refusal.retry_after_ms and not self._resting and not self.is_router:
            loop = asyncio.get_running_loop()
            if self.haste.refused(group, refusal.retry_after_ms, loop.time()):
                self._resting = True
                self.read_or_not()
                loop.call_later(REST_S, self._rested)

    def refuse_for_load(
        self, group: int, request: int, refusal: Refusal, kind: int, patience_s: float, size: int
    ) -> None:
        """As :meth:`refuse`; while it rests, those like it find the same in ``haste``."""
        self.refuse(group, request, refusal)
        if self._resting:
            self.haste.remember(refusal, group, kind, patience_s, size)

    def _rested(self) -> None:
        self._resting = False
        self.haste.rested()
        self.read_or_not()
