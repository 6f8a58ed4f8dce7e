"""What an acquire gets: a ticket, the lock; how that is lost, or let go."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any, Final

from holdfast.errors import (
    ClientClosed,
    HoldfastError,
    LockLost,
    LockTimeout,
    Rejected,
    SessionLost,
    Unavailable,
)
from holdfast.wire.frames import Kind, Reason, Status

from .asking import Asking
from .batch import Waiter, fail, settle
from .inquiry import Inquiry
from .lease import ELSEWHERE_MS, reason_of
from .plain_lease import PlainLease
from .refusals import refusal
from .release import Release
from .state import ASKED, HELD, IDLE, LOST, RELEASING, WAITING

ACQUIRE: Final = int(Kind.ACQUIRE)
RELEASE: Final = int(Kind.RELEASE)
OK: Final = int(Status.OK)
QUEUED: Final = int(Status.QUEUED)
MOVED: Final = int(Status.MOVED)

TICKET_GRACE_MS: Final = 500.0
"""How much longer than the service we wait for a ticket's end, should the word of it be lost."""


class Hold(Asking):
    """Invariant: ``lease`` is set while WAITING or HELD (of a session: while ASKED too), and belief in the hold is
    belief in its lease."""

    __slots__ = ()

    # Asking.

    def _ask(self, wait_ms: int) -> None:
        self.state = ASKED
        self._asking += 1
        if self.core.closing:
            self._fail(ClientClosed("the client is closed"))
            return
        group = self.group = self.core.group_of(self.name)
        if self.session is None:
            self.issue(0, wait_ms)
        else:
            part = self.session.part(group)
            self.lease = part
            part.ask(self, wait_ms)

    def issue(self, lease: int, wait_ms: int) -> None:
        """Send the acquire; ``lease`` is the session's number in the group, or 0."""
        batch = self._batch = self.group.writes.call(
            self, ACQUIRE, self.name, lease, 0, self.ttl_ms, wait_ms, self.options
        )
        self._at = len(batch.callers) - 1

    @property
    def lease_number(self) -> int:
        """As ``ACQUIRE`` wants it: the session's number in the group, 0 for a plain lock."""
        return self.lease.number if self.session is not None and self.lease is not None else 0

    def _fail(self, error: BaseException) -> None:
        self._take_back()
        self.state = IDLE
        self._leave()
        waiter, self._waiter = self._waiter, None
        fail(waiter, error)

    def _leave(self) -> None:
        self._listener = None
        self._leave_lease()

    def _leave_lease(self) -> None:
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.detach(self)

    def _take_back(self) -> None:
        """Hear no more of what was asked; a copy that may have left is cancelled."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        # It may have moved: a refused batch is sent again without what need not wait.
        at = self._at if batch.callers[self._at : self._at + 1] == [self] else batch.callers.index(self)
        batch.take_back(at)
        if batch.sent_ms and batch.client == self.group.writes.client:
            self.group.cancel(batch.seqs[at], self.name, batch.leases[at])

    # Answers.

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        """What the group says of the acquire, or of the release."""
        if kind == RELEASE:
            if status == MOVED:
                self._release_again().moved()
            else:
                self.released()
            return
        assert self.state is ASKED, "what is given up hears no more of it"
        self._batch = None
        self.seq = seq
        if status == OK:
            if self.session is None:
                self.lease = PlainLease.of(self, seq, sent_ms, deadline_ms)
            self._held(token)
        elif status == QUEUED:
            self._queued(seq, sent_ms, deadline_ms)
        elif status in (MOVED, Status.UNREGISTERED):
            self.core.after(ELSEWHERE_MS if status == MOVED else 0.0, partial(self._ask_later, self._asking))
        else:
            self._refused(status, detail)
        if self.group.early:
            self.group.replay(seq)

    def _refused(self, status: int, detail: Any) -> None:
        if status == Status.LEASE_ENDED and self.lease is not None:
            self.lease.end(*reason_of(detail))
        if self.state is ASKED and not self._ask_for_a_share(status):
            self.refuse(refusal(status, detail, self.name, self.wait_s))

    def _held(self, token: int) -> None:
        lease = self.lease
        assert lease is not None
        self.token = token
        if lease.until_ms <= self.core.now_ms:
            self.give_back()
            self._fail(LockLost(self.name, token, Reason.EXPIRED, "the grant came too late to be believed"))
            return
        self.state = HELD
        lease.attach(self)
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            self.release(None)
        else:
            waiter.set_result(None)

    def failed(self, kind: int, error: HoldfastError) -> None:
        if kind == RELEASE:
            self._release_again().failed(kind, error)
        elif not isinstance(error, Rejected):
            self._fail(Unavailable(f"lock {self.name!r} was not had, and what was asked is taken back: {error}"))
        else:
            self._batch = None
            self.refuse(error)

    # Tickets.

    def _queued(self, seq: int, sent_ms: float, deadline_ms: int) -> None:
        self.state = WAITING
        if self.session is None:
            self.lease = PlainLease.of(self, seq, sent_ms, deadline_ms)
        assert self.lease is not None
        self.lease.attach(self)
        self.group.tickets[seq] = self
        if self._wait_until_ms != inf:
            self.core.waits.add(self, self._wait_until_ms + TICKET_GRACE_MS)
        if self._waiter is None or self._waiter.done():
            self.give_up()

    def _drop_ticket(self) -> None:
        self.group.tickets.pop(self.seq, None)
        self.core.waits.discard(self)

    def granted(self, token: int) -> None:
        """The ticket became a hold; the deadline stays what it was."""
        self._drop_ticket()
        self._held(token)

    def ticket_ended(self, reason: Reason) -> None:
        """The ticket ended without a grant."""
        self._drop_ticket()
        if reason == Reason.TIMED_OUT:
            self._fail(LockTimeout(self.name, self.wait_s))
        elif reason == Reason.CANCELLED:
            # Asking again would end that one in turn.
            self._fail(Rejected(f"another copy of this request awaits lock {self.name!r} instead"))
        elif reason == Reason.REFUSED:
            self._leave_lease()
            self.state = ASKED
            if not self._ask_for_a_share(Status.QUOTA_HELD):
                self._fail(refusal(Status.QUOTA_HELD, None, self.name, self.wait_s))
        elif self.session is not None:
            self._fail(SessionLost(reason, (), "it ended while this lock was awaited"))
        elif self.wait_ms == 0:
            self._fail(LockTimeout(self.name, self.wait_s))
        else:
            self._leave_lease()
            self.state = ASKED
            self.ask_again()

    def ask_ticket(self) -> None:
        """Ask what has become of the ticket."""
        Inquiry(self)

    def wait_over(self) -> None:
        """Nobody has told us what became of the ticket, and its time is over."""
        self._drop_ticket()
        self.group.cancel(self.seq, self.name, self.lease_number)
        self._fail(LockTimeout(self.name, self.wait_s))

    # Giving up.

    def give_up(self) -> None:
        """The caller does not want it any more: whatever was asked comes to nothing, now or when it can be said."""
        if self.state is ASKED:
            self._take_back()
        elif self.state is WAITING:
            self._drop_ticket()
            self.group.cancel(self.seq, self.name, self.lease_number)
        elif self.state is HELD or self.state is LOST:
            self.release(None)
            return
        else:
            return
        self._waiter = None
        self.state = IDLE
        self._leave()

    # Holding.

    @property
    def until_ms(self) -> float:
        """Until when the lock may be believed held, on the client's clock; 0 when it is not."""
        if self.state is not HELD or self.lease is None or self.core.closed:
            return 0.0
        return self.lease.until_ms

    def lose(self, reason: Reason, text: str = "") -> None:
        """It is gone, or going: nothing of it is believed any more."""
        if self.state is not HELD:
            return
        self.state = LOST
        self.reason, self.text = reason, text
        self._tell(reason, text)

    def _tell(self, reason: Reason, text: str) -> None:
        listener = self._listener
        self._leave()
        if listener is not None:
            listener.hold_lost(reason, text)

    def check_clock(self) -> None:
        """Notice an end of belief that no timer has noticed yet."""
        if self.state is HELD and self.until_ms <= self.core.clock():
            self.lose(Reason.EXPIRED, "it could not be renewed in time")

    def lease_ended(self, reason: Reason, text: str) -> None:
        """The lease that carries this hold or ticket is over."""
        if self.state is HELD:
            self.lose(reason, text)
        elif self.state is WAITING:
            if self.session is None:
                # We may have lost sight of a lease that lives: it must not be granted behind our back.
                self.group.cancel(self.seq, self.name, 0)
                self.ticket_ended(reason)
            else:
                self._drop_ticket()
                self._fail(SessionLost(reason, (), text))
        else:
            self.refuse(SessionLost(reason, (), text))

    def session_closed(self) -> None:
        """The session is being ended by its owner: its end lets go of this too."""
        if self.state is HELD:
            self.state = IDLE
            self.reason = Reason.SESSION_ENDED
            self._tell(Reason.SESSION_ENDED, "")
        else:
            self.lease_ended(Reason.SESSION_ENDED, "")

    def leave_to_its_caller(self) -> None:
        """Whoever was given the token renews and releases it from here on: it is neither kept alive nor given back."""
        assert self.state is HELD, "only what is held can be left to another"
        self.state = IDLE
        self._leave()

    # Letting go.

    @property
    def _may_be_of_a_copy(self) -> bool:
        """Whether the grant may be what another copy of this request got, through another client, for the same caller:
        he may have been told of it there, and believe in it."""
        return self.options is not None and bool(self.options.request)

    def give_back(self) -> None:
        """Let go of a grant that nobody can use, as far as it was this acquire that got it."""
        if self._may_be_of_a_copy:
            self.group.cancel(self.seq, self.name, self.lease_number)
        else:
            self.group.give_back(self.name, self.token)

    def release(self, waiter: Waiter | None) -> None:
        """Let go. What is lost already is let go too, so that whoever took it need not wait for its last deadline."""
        if self.state is LOST or (self.options is not None and self._may_be_of_a_copy):
            self.state = IDLE
            self._leave()
            self.give_back()
            settle(waiter)
            return
        assert self.state is HELD
        assert self.lease is not None
        self.state = RELEASING
        self._waiter = waiter
        self._until_ms = self.lease.until_ms
        self._leave()
        self.group.writes.call(self, RELEASE, self.name, 0, self.token)

    def _release_again(self) -> Release:
        waiter, self._waiter = self._waiter, None
        return Release(self, self._until_ms, waiter)

    def released(self) -> None:
        """It has been let go, or nobody can believe in it any more."""
        assert self.state is RELEASING
        self.state = IDLE
        waiter, self._waiter = self._waiter, None
        settle(waiter)
