"""What has become of a ticket: asked of the group whenever the word of it may be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import HoldfastError
from holdfast.wire.frames import Kind, Reason, Status, TicketRow

from .batch import RETRY_MS_MAX
from .lease import ELSEWHERE_MS
from .state import WAITING

if TYPE_CHECKING:
    from .hold import Hold

TICKETS: Final = int(Kind.TICKETS)
OK: Final = int(Status.OK)
QUEUED: Final = int(Status.QUEUED)
MOVED: Final = int(Status.MOVED)


class Inquiry:
    """Of a hold that waits; one that waits no more by the time of the answer knows better."""

    __slots__ = ("_hold",)

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        hold.group.reads.call(self, TICKETS, hold.name, hold.lease_number, hold.seq)

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        hold = self._hold
        if hold.state is not WAITING:
            return
        if status == MOVED:
            hold.core.after(ELSEWHERE_MS, self._again)
        if status != OK:
            return
        row = msgspec.convert(detail, TicketRow)
        if row.seq != hold.seq or row.status == QUEUED:
            return
        if row.status == OK:
            hold.granted(row.token)
            if row.reason:
                hold.lose(Reason(row.reason))
        else:
            hold.ticket_ended(Reason(row.reason))

    def failed(self, kind: int, error: HoldfastError) -> None:
        if self._hold.state is WAITING:
            self._hold.core.after(RETRY_MS_MAX, self._again)

    def _again(self) -> None:
        if self._hold.state is WAITING and not self._hold.core.closed:
            self._hold.ask_ticket()
