"""The lease of a single lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.wire.frames import HeldRow, HoldsView, Reason

from .belief import renewal_due
from .lease import Lease
from .state import HELD, WAITING

if TYPE_CHECKING:
    from .hold import Hold


class PlainLease(Lease):
    """A lease that a lock or a ticket has for itself; its number is the acquire's seq."""

    __slots__ = ("_hold",)
    _hold: Hold

    @staticmethod
    def of(hold: Hold, seq: int, sent_ms: float, deadline_ms: int) -> PlainLease:
        """The lease that the acquire ``seq`` got."""
        group = hold.group
        lease = group.leases[seq] = PlainLease(group, seq, hold.ttl_ms, sent_ms, deadline_ms)
        lease._hold = hold
        # Whether it is wanted then is seen then: most locks are let go long before.
        group.wheel.add(lease, renewal_due(sent_ms, lease.given_ms))
        return lease

    @property
    def name(self) -> str:
        return self._hold.name

    @property
    def wanted(self) -> bool:
        return self._hold.renews or self._hold.state is WAITING

    def attach(self, hold: Hold) -> None:
        """It stands in the wheel from the beginning, whether what it carries waits or is held."""

    def detach(self, hold: Hold) -> None:
        self.close()

    def unwanted(self) -> None:
        """It runs out by itself."""
        self.group.wheel.add(self, self.until_ms)

    def lost(self, token: int, reason: Reason, text: str) -> None:
        if self._hold.state is HELD:
            self._hold.lose(reason, text)
        elif self._hold.state is WAITING:
            # Granted and lost again before either was heard of.
            self._hold.lease_ended(reason, text)

    def reconcile(self, view: HoldsView) -> None:
        hold = self._hold
        row: HeldRow | None = view.held[0] if view.held else None
        if hold.state is WAITING:
            if row is not None and not row.leaving:
                hold.granted(row.token)
            elif row is not None:
                self.lost(row.token, Reason(row.leaving), view.text)
            elif hold.seq not in view.waiting:
                hold.ticket_ended(Reason.NONE)
        elif hold.state is HELD:
            if row is None or row.token != hold.token:
                hold.lose(Reason.EXPIRED)
            elif row.leaving:
                hold.lose(Reason(row.leaving), view.text)

    def ended(self) -> None:
        self._hold.lease_ended(self.over, self.text)
