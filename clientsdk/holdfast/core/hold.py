"""One acquire and what it gets: asked, waiting, held, lost, let go."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

from holdfast.errors import (
    ClientClosed,
    HoldfastError,
    LockLost,
    LockTimeout,
    Rejected,
    SessionLost,
    Throttled,
    Unavailable,
)
from holdfast.wire.frames import Kind, Options, Reason, Status
from holdfast.wire.limits import WAIT_MS_MAX

from .batch import Batch, Waiter, fail, settle
from .inquiry import Inquiry
from .lease import ELSEWHERE_MS, Lease, reason_of
from .plain_lease import PlainLease
from .refusals import refusal, share_pause_ms
from .release import Release
from .state import ASKED, HELD, IDLE, LOST, RELEASING, WAITING
from .wheel import UNTIMED

if TYPE_CHECKING:
    from .client import ClientCore
    from .session import SessionCore

ACQUIRE: Final = int(Kind.ACQUIRE)
RELEASE: Final = int(Kind.RELEASE)
OK: Final = int(Status.OK)
QUEUED: Final = int(Status.QUEUED)
MOVED: Final = int(Status.MOVED)

TICKET_GRACE_MS: Final = 500.0
"""How much longer than the service we wait for a ticket's end, should the word of it be lost."""


class Listener(Protocol):
    def hold_lost(self, reason: Reason, text: str) -> None:
        """The lock was held and is so no longer, for another reason than a release of ours."""


class Hold:
    """Invariant: ``lease`` is set while WAITING or HELD (of a session: while ASKED too), and belief in the hold is
    belief in its lease."""

    __slots__ = (
        "_asking", "_at", "_batch", "_listener", "_out_of_share", "_until_ms", "_wait_until_ms", "_waiter", "bucket",
        "core", "group", "lease", "name", "options", "reason", "renews", "seq", "session", "state", "text", "token",
        "ttl_ms", "wait_ms",
    )  # fmt: skip

    def __init__(
        self,
        core: ClientCore,
        name: str,
        ttl_ms: int,
        wait_ms: int,
        options: Options | None,
        session: SessionCore | None,
        renews: bool,
    ) -> None:
        self.core = core
        self.name = name
        self.ttl_ms = ttl_ms
        self.wait_ms = wait_ms
        self.options = options
        self.session = session
        self.renews = renews
        self.state = IDLE
        self.token = 0
        self.lease: Lease | None = None
        self.reason = Reason.NONE
        self.text = ""
        self.bucket = UNTIMED
        self._listener: Listener | None = None
        """Only while something can be lost: a lock that is not in use makes no cycle with its hold, which would be left
        to the garbage collector."""
        self._out_of_share = 0
        """How often it was refused because the group's share was used up."""
        self._asking = 0
        """Counts what was asked: an earlier one's pause must not ask for a later one."""
        self._batch: Batch | None = None
        """The acquire under way: whose answer we wait for."""
        self._waiter: Waiter | None = None
        self._until_ms = 0.0
        """While it is let go of: until when it was believed."""

    # Asking.

    def acquire(self, waiter: Waiter, listener: Listener | None) -> None:
        """Ask for the lock. The waiter ends when it is held, or with the reason why it is not."""
        assert self.state is IDLE or self.state is LOST, "this hold is in use"
        self._waiter = waiter
        self._listener = listener
        self.reason, self.text, self.token = Reason.NONE, "", 0
        self._out_of_share = 0
        # A try may have to wait too, for cachers, and what would tell it so may be lost: no longer than for any answer.
        patience_ms = self.wait_ms or self.core.timeout_ms
        self._wait_until_ms = self.core.clock() + patience_ms if patience_ms < WAIT_MS_MAX else inf
        self._ask(self.wait_ms)

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

    def ask_again(self) -> None:
        """What was asked came to nothing through no fault of the caller's."""
        if self.state is not ASKED:
            return
        left_ms = self.wait_ms
        if self._wait_until_ms != inf:
            left_ms = int(self._wait_until_ms - self.core.clock())
            if left_ms <= 0:
                self._fail(LockTimeout(self.name, self.wait_s))
                return
        self._ask(left_ms if self.wait_ms else 0)
        self.limit()

    def limit(self) -> None:
        """The answer comes by a detour: not later than one asked for at the end of the wait would come."""
        if self._wait_until_ms != inf:
            late_ms = self.core.timeout_ms if self.wait_ms else 0
            self.core.after(self._wait_until_ms + late_ms - self.core.clock(), partial(self._too_late, self._asking))

    def _too_late(self, asking: int) -> None:
        if asking == self._asking and self.state is ASKED:
            closed = ClientClosed("the client is closed") if self.core.closing else None
            self._fail(closed or LockTimeout(self.name, self.wait_s))

    def _ask_later(self, asking: int) -> None:
        if asking == self._asking:
            self.ask_again()

    @property
    def wait_s(self) -> float | None:
        return None if self.wait_ms >= WAIT_MS_MAX else self.wait_ms / 1000

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

    def _ask_for_a_share(self, status: int) -> bool:
        """Ask once more later, if that may help and patience lasts."""
        pause_ms = share_pause_ms(status, self._out_of_share, self.core.rng)
        if pause_ms is None or self.core.clock() + pause_ms >= self._wait_until_ms:
            return False
        self._out_of_share += 1
        self.core.after(pause_ms, partial(self._ask_later, self._asking))
        return True

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

    def refuse(self, error: HoldfastError) -> None:
        """Nothing was sent, or nothing came of it. Who may wait for the lock may wait for a quota, too."""
        if self.state is not ASKED:
            return
        if isinstance(error, Throttled) and self.wait_ms:
            free_ms = self.core.clock() + error.retry_after_ms
            if free_ms < self._wait_until_ms:
                self.core.after(error.retry_after_ms, partial(self._ask_later, self._asking))
                return
        self._fail(error)

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
