"""One lease in one group: how long it is believed, when it is renewed, what has to be fetched first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.wire.errors import HoldfastError, Rejected
from holdfast.wire.frames import HoldsView, Kind, Reason, Status

from .batch import RETRY_MS_MAX, Waiter, fail, settle
from .belief import believed_until, renewal_due, renewed_together
from .state import NO_REASON
from .wheel import UNTIMED

if TYPE_CHECKING:
    from .group import GroupClient
    from .hold import Hold

KEEPALIVE: Final = int(Kind.KEEPALIVE)
HOLDS: Final = int(Kind.HOLDS)
_OK = int(Status.OK)
_CHANGED = int(Status.CHANGED)
_MOVED = int(Status.MOVED)
ELSEWHERE_MS: Final = 20.0
"""Pause before an operation is sent again that met another slot table, for the table to arrive."""


def reason_of(detail: object) -> tuple[Reason, str]:
    """Detail of ``LEASE_ENDED``: [reason, text]. What is not known any more has expired."""
    match detail:
        case [int(reason), str(text)] if reason:
            return Reason(reason), text
        case _:
            return Reason.EXPIRED, ""


class Lease:
    """Belief is extended by what was told in answer to a keepalive whose change number was ours, or by a promise whose
    holds were fetched since: an answer to anything else says nothing about the holds we did not ask about."""

    __slots__ = (
        "_busy", "_fetching", "_heard", "_promise_ms", "_redeemable_ms", "_waiters", "bucket", "change", "group",
        "number", "over", "renewed_ms", "text", "ttl_ms", "until_ms",
    )  # fmt: skip

    def __init__(self, group: GroupClient, number: int, ttl_ms: int, sent_ms: float, deadline_ms: int) -> None:
        self.group = group
        self.number = number
        self.ttl_ms = ttl_ms
        self.until_ms = believed_until(sent_ms, deadline_ms)
        """Belief ends here, whatever timers do."""
        self.renewed_ms = sent_ms
        self.change = 0
        """Change number up to which we know what this lease holds and awaits."""
        self.over: Reason = NO_REASON
        """Why it ended; NONE while it lives."""
        self.text = ""
        self.bucket = UNTIMED
        self._busy = False
        """One keepalive in flight at a time."""
        self._fetching = False
        self._heard = 0
        """Highest change number that an event carried."""
        self._promise_ms = 0.0
        """What a keepalive promised together with ``CHANGED``: believed once the holds are known."""
        self._redeemable_ms = 0.0
        """The promise that had been given when the holds were asked for: a later one needs a later look."""
        self._waiters: tuple[Waiter, ...] = ()

    # What kinds of leases differ in.

    @property
    def name(self) -> str:
        """The lock's name, for its slot; empty for a session."""
        raise NotImplementedError

    @property
    def wanted(self) -> bool:
        """Whether it is to be kept alive."""
        raise NotImplementedError

    def unwanted(self) -> None:
        """The time to look at it has come, and nothing wants it kept alive."""
        raise NotImplementedError

    def out_of_sight(self) -> None:
        """Belief has ended; the group may keep the lease a little longer."""

    def reconcile(self, view: HoldsView) -> None:
        """The group's own list of what this lease holds."""
        raise NotImplementedError

    def attach(self, hold: Hold) -> None:
        """``hold`` waits or is held through this lease from now on."""
        raise NotImplementedError

    def detach(self, hold: Hold) -> None:
        """``hold`` has left."""
        raise NotImplementedError

    def lost(self, token: int, reason: Reason, text: str) -> None:
        """The hold ``token`` is gone or going; token 0: all of it."""
        raise NotImplementedError

    def ended(self) -> None:
        """It is over, for the reason in ``over``."""
        raise NotImplementedError

    @property
    def given_ms(self) -> float:
        """For how long it was last renewed: less than its TTL where the tenant's limit was lowered meanwhile."""
        given_ms = self.until_ms - self.renewed_ms
        return given_ms if given_ms < self.ttl_ms else self.ttl_ms

    @property
    def renewal_ms(self) -> float:
        """When to renew it."""
        return renewal_due(self.renewed_ms, self.given_ms)

    # Time.

    def schedule(self) -> None:
        """Stand in the wheel at whatever comes first: renewing, or the end of belief."""
        due_ms = self.until_ms
        if self.wanted and not self._busy and not self._fetching:
            renewal_ms = renewal_due(self.renewed_ms, self.given_ms)
            if renewal_ms < due_ms:
                due_ms = renewal_ms
        self.group.wheel.add(self, due_ms)

    def due(self, now_ms: float) -> None:
        """The wheel's call."""
        if now_ms >= self.until_ms:
            self.end(Reason.EXPIRED, "it could not be renewed in time" if self.wanted else "")
            self.out_of_sight()
        elif not self.wanted:
            self.unwanted()
        elif self._busy or self._fetching:
            self.group.wheel.add(self, self.until_ms)
        else:
            # Looked for only now: nearly every lock is let go of before.
            together_ms = renewed_together(self.renewed_ms, self.renewal_ms, self.group.writes.client)
            if now_ms < together_ms < self.until_ms:
                self.group.wheel.add(self, together_ms)
            else:
                self.renew()

    def renew(self, waiter: Waiter | None = None) -> None:
        """Send a keepalive, or join the one under way."""
        if waiter is not None:
            self._waiters += (waiter,)
        if not self._busy and not self._fetching:
            self._busy = True
            self.group.writes.call(self, KEEPALIVE, self.name, self.number, self.change, self.ttl_ms)
            self.group.wheel.add(self, self.until_ms)

    def _renew_again(self) -> None:
        if not self.over and self.group.leases.get(self.number) is self:
            self._busy = False
            if self.wanted or self._waiters:
                self.renew()
            else:
                self.schedule()

    def end(self, reason: Reason, text: str = "") -> None:
        """Nothing is believed of it any more. Happens once."""
        if self.over:
            return
        self.over, self.text = reason, text
        self.until_ms = 0.0
        self.close()
        self.ended()

    def close(self) -> None:
        """Leave the books of the group."""
        self.group.wheel.discard(self)
        self.group.leases.pop(self.number, None)
        if self._waiters:
            self._settle_waiters()

    def _settle_waiters(self) -> None:
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            settle(waiter)

    # Answers.

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        if self.over or self.group.leases.get(self.number) is not self:
            return
        if kind == HOLDS:
            self._fetched(status, detail)
            return
        if status == _MOVED:
            # The router's table is older or newer than ours; the lease lives on where it is.
            self.group.core.after(ELSEWHERE_MS, self._renew_again)
            return
        self._busy = False
        if status == _OK:
            self.renewed_ms = sent_ms
            self._extend(believed_until(sent_ms, deadline_ms))
        elif status == _CHANGED:
            self.renewed_ms = sent_ms
            self._promise_ms = max(self._promise_ms, believed_until(sent_ms, deadline_ms))
            self.fetch()
        else:
            self.end(*reason_of(detail))

    def _extend(self, until_ms: float) -> None:
        self.until_ms = max(self.until_ms, until_ms)
        self._settle_waiters()
        self.schedule()

    def failed(self, kind: int, error: HoldfastError) -> None:
        if self.over or self.group.leases.get(self.number) is not self:
            return
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            fail(waiter, error)
        if kind == HOLDS:
            self.group.core.after(RETRY_MS_MAX, self._fetch_again)
        elif isinstance(error, Rejected):
            # No copy of this keepalive is under way. The next one does not go at once: it may be refused as this was.
            self.group.core.after(RETRY_MS_MAX, self._renew_again)

    # Changes.

    def note_change(self, change: int) -> None:
        """An event was numbered ``change``. One that does not follow on what we know says that we missed others."""
        self._heard = max(self._heard, change)
        if change == self.change + 1:
            self.change = change
        elif change > self.change:
            self.fetch()

    def fetch(self) -> None:
        """Ask for the holds; until they are known nothing more is believed than already is."""
        if not self._fetching:
            self._fetching = True
            self._redeemable_ms = self._promise_ms
            self.before_fetch()
            self.group.reads.call(self, HOLDS, self.name, self.number)

    def _fetch_again(self) -> None:
        if not self.over and self.group.leases.get(self.number) is self:
            self._fetching = False
            self.fetch()

    def before_fetch(self) -> None:
        """The holds are about to be asked for."""

    def _fetched(self, status: int, detail: Any) -> None:
        if status == _MOVED:
            # Some name that travelled with it met another slot table.
            self.group.core.after(ELSEWHERE_MS, self._fetch_again)
            return
        self._fetching = False
        if status != _OK:
            self.end(Reason.EXPIRED, "the service does not know this client any more")
            return
        view = msgspec.convert(detail, HoldsView)
        if view.ended:
            self.end(Reason(view.ended), view.text)
            return
        self.change = max(self.change, view.change)
        self.reconcile(view)
        if self.over or self.group.leases.get(self.number) is not self:
            return
        if self._heard > self.change:
            self.fetch()
            return
        self._extend(self._redeemable_ms)
        if self._promise_ms > self._redeemable_ms:
            self.fetch()
        else:
            self._promise_ms = 0.0
