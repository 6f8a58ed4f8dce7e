"""A session: one lease in each group in which something is held or awaited through it, under one id."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from holdfast.errors import ClientClosed, HoldfastError, OutcomeUnknown, Rejected, SessionLost, Unavailable
from holdfast.wire.frames import HoldsView, Kind, Options, Reason, Status
from holdfast.wire.limits import HOLDS_PAGE_MAX

from .batch import RETRY_MS_MAX, Waiter, fail, settle
from .belief import SESSION_RENEWAL_MS_MAX, believed_until
from .group import END, GroupClient
from .hold import Hold
from .lease import Lease
from .refusals import refusal, share_pause_ms
from .state import HELD

if TYPE_CHECKING:
    from .client import ClientCore

OPEN: Final = int(Kind.OPEN)
_OK = int(Status.OK)
_UNREGISTERED = int(Status.UNREGISTERED)
LOST_REMEMBERED_MAX: Final = 1000
"""A group's list of what a lease lost may be cut off at this length."""


class SessionListener(Protocol):
    def session_lost(self, reason: Reason, names: tuple[str, ...], text: str) -> None:
        """A part is over, and with it the holds of ``names``."""


class SessionCore:
    def __init__(
        self, core: ClientCore, listener: SessionListener, session_id: bytes, ttl_ms: int, metadata: bytes
    ) -> None:
        self.core = core
        self.listener = listener
        self.id = session_id
        self.ttl_ms = ttl_ms
        self.metadata = metadata
        self.closed = False
        self.over = Reason.NONE
        """Why a part was lost; a session with a lost part takes no new locks."""
        self.text = ""
        self._parts: dict[int, SessionPart] = {}
        self._ending: list[Waiter] = []

    def part(self, group: GroupClient) -> SessionPart:
        found = self._parts.get(group.number)
        if found is None:
            found = self._parts[group.number] = SessionPart(self, group)
        return found

    def reopen(self, part: SessionPart, deferred: list[tuple[Hold, int]]) -> None:
        """What was asked for while ``part`` was being ended goes through a new one: nothing known of a lease, and no
        answer under way, is about another."""
        if self.closed or self.over or self.core.closing:
            for hold, _ in deferred:
                hold.refuse(self.refusal())
            self.drop(part)
            return
        if self._parts.get(part.group.number) is part:
            del self._parts[part.group.number]
        for hold, wait_ms in deferred:
            part.forget(hold)
            fresh = self.part(part.group)
            hold.lease = fresh
            fresh.ask(hold, wait_ms)

    def refusal(self) -> HoldfastError:
        """Why nothing is acquired through this session any more."""
        if self.core.closing:
            return ClientClosed("the client was closed")
        return SessionLost(self.over or Reason.RELEASED, (), self.text or "the session was ended")

    def drop(self, part: SessionPart) -> None:
        if self._parts.get(part.group.number) is part:
            del self._parts[part.group.number]
        self._settle_ending()

    def lost(self, part: SessionPart, names: tuple[str, ...]) -> None:
        self.drop(part)
        if not self.closed:
            self.over, self.text = part.over, part.text
            self.listener.session_lost(part.over, names, part.text)

    def end(self, waiter: Waiter | None) -> None:
        """Let go of everything at once; the waiter ends when every group has said so."""
        self.closed = True
        if self.core.closed:
            settle(waiter)
            return
        if waiter is not None:
            self._ending.append(waiter)
            due_ms = self.core.clock() + self.core.timeout_ms
            self.core.after(self.core.timeout_ms, partial(self._end_overdue, waiter, due_ms))
        for part in list(self._parts.values()):
            part.finish()
        self._settle_ending()

    def _settle_ending(self) -> None:
        if self.closed and not self._parts:
            waiters, self._ending = self._ending, []
            for waiter in waiters:
                settle(waiter)

    def _end_overdue(self, waiter: Waiter, due_ms: float) -> None:
        if waiter not in self._ending:
            return
        left_ms = due_ms - self.core.clock()
        if left_ms > 0 and not self.core.closed:
            # Called early, because the client is closing: it still has a moment to be answered.
            self.core.after(left_ms, partial(self._end_overdue, waiter, due_ms))
            return
        self._ending.remove(waiter)
        fail(waiter, OutcomeUnknown(f"not every group answered within {self.core.timeout_ms / 1000:g} s"))

    def end_failed(self, error: HoldfastError) -> None:
        waiters, self._ending = self._ending, []
        for waiter in waiters:
            fail(waiter, error)


class SessionPart(Lease):
    """Number 0 until the group has opened it. Invariant: nothing is asked on it before that."""

    __slots__ = ("_deferred", "_ending", "_fetched_tokens", "_holds", "_opening", "_out_of_share", "_users", "session")

    def __init__(self, session: SessionCore, group: GroupClient) -> None:
        super().__init__(group, 0, session.ttl_ms, 0.0, 0)
        self.session = session
        self._holds: dict[int, tuple[Hold, ...]] = {}
        """By token; several of one token when it is held reentrantly."""
        self._users: dict[Hold, None] = {}
        """Whoever asks, awaits or holds through this part."""
        self._deferred: list[tuple[Hold, int]] = []
        """Acquires that wait for the part to be opened, each with its wait."""
        self._fetched_tokens: set[int] = set()
        self._opening = False
        self._out_of_share = 0
        """How often its opening was refused because the group's share of sessions was used up."""
        self._ending = False

    @property
    def name(self) -> str:
        return ""

    @property
    def wanted(self) -> bool:
        return bool(self._users) and not self._ending

    # Opening.

    def ask(self, hold: Hold, wait_ms: int) -> None:
        """Send an acquire through this part, once it is open."""
        session = self.session
        if session.closed or session.over or session.core.closing:
            if not (self._users or self.number or self._opening):
                session.drop(self)
            hold.refuse(session.refusal())
            return
        self._users[hold] = None
        if self.number and not self._ending:
            hold.issue(self.number, wait_ms)
            return
        self._deferred.append((hold, wait_ms))
        hold.limit()
        if not self._opening and not self._ending:
            self._open()

    def _open(self) -> None:
        self._opening = True
        self.group.opening[self] = None
        options = Options(session=self.session.id, metadata=self.session.metadata)
        self.group.writes.call(self, OPEN, ttl_ms=self.ttl_ms, options=options)

    def _opened(self, status: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float) -> None:
        if status == _UNREGISTERED:
            self._open()
            return
        if status != _OK:
            self._not_opened(status, detail)
            return
        self._opening = False
        self.group.opening.pop(self, None)
        self.number = seq
        self.until_ms = believed_until(sent_ms, deadline_ms)
        self.renewed_ms = sent_ms
        self.group.leases[seq] = self
        if self._ending:
            self._send_end()
            return
        self.schedule()
        deferred, self._deferred = self._deferred, []
        for hold, wait_ms in deferred:
            if hold in self._users:
                hold.issue(seq, wait_ms)

    def _not_opened(self, status: int, detail: Any) -> None:
        core = self.group.core
        pause_ms = None if self._ending else share_pause_ms(status, self._out_of_share, core.rng)
        if pause_ms is not None:
            self._out_of_share += 1
            core.after(pause_ms, self._open_again)
            return
        self._opening = False
        self.group.opening.pop(self, None)
        if self._ending:
            self._end_answered()
        else:
            self._refuse_deferred(refusal(status, detail, "", None))

    def _open_again(self) -> None:
        if self._ending or self.group.core.closing:
            self._opening = False
            self.group.opening.pop(self, None)
            self._end_answered()
        else:
            self._open()

    def _refuse_deferred(self, error: HoldfastError) -> None:
        deferred, self._deferred = self._deferred, []
        if not self._opening and not self._ending:
            self.session.drop(self)
        for hold, _ in deferred:
            if hold in self._users:
                hold.refuse(error)

    # Users.

    def attach(self, hold: Hold) -> None:
        if hold.state is HELD:
            self._holds[hold.token] = (*self._holds.get(hold.token, ()), hold)

    def detach(self, hold: Hold) -> None:
        self._users.pop(hold, None)
        others = tuple(other for other in self._holds.get(hold.token, ()) if other is not hold)
        if others:
            self._holds[hold.token] = others
        else:
            self._holds.pop(hold.token, None)

    def unwanted(self) -> None:
        """Nothing was held or awaited for a third of the TTL: the group need not keep it."""
        self.finish()

    # Lease.

    @property
    def renewal_ms(self) -> float:
        return min(super().renewal_ms, self.renewed_ms + SESSION_RENEWAL_MS_MAX)

    def schedule(self) -> None:
        due_ms = self.renewal_ms
        if self._busy or self._fetching or due_ms > self.until_ms:
            due_ms = self.until_ms
        self.group.wheel.add(self, due_ms)

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        if kind == OPEN:
            self._opened(status, deadline_ms, detail, seq, sent_ms)
        elif kind == END:
            self._end_answered()
        elif not self._ending:
            super().answered(kind, status, token, deadline_ms, detail, seq, sent_ms)

    def failed(self, kind: int, error: HoldfastError) -> None:
        if kind == OPEN:
            if isinstance(error, Rejected):
                self._opening = False
                self.group.opening.pop(self, None)
            else:
                error = Unavailable(f"the session could not be opened: {error}")
            self._refuse_deferred(error)
        elif kind == END:
            self.session.end_failed(error)
            if isinstance(error, Rejected):
                self.group.core.after(RETRY_MS_MAX, self._end_again)
            if not isinstance(error, ClientClosed):
                error = Unavailable(f"the session could not be opened anew: {error}")
            self._refuse_deferred(error)
        elif not self._ending:
            super().failed(kind, error)

    def lost(self, token: int, reason: Reason, text: str) -> None:
        if token == 0:
            self.end(reason, text)
            return
        for hold in self._holds.get(token, ()):
            hold.lose(reason, text)

    def before_fetch(self) -> None:
        self._fetched_tokens = set(self._holds)

    def reconcile(self, view: HoldsView) -> None:
        group = self.group
        seen: set[int] = set()
        for row in view.held:
            seen.add(row.token)
            if row.token in self._holds:
                if row.leaving:
                    self.lost(row.token, Reason(row.leaving), view.text)
                continue
            # What nobody here knows or wants is taken back by the cancel that followed its acquire, never by its token:
            # a reentrant acquire under way may be about to get that same token.
            hold = group.tickets.get(row.seq)
            if hold is not None and hold.lease is self and not row.leaving:
                hold.granted(row.token)
        reasons = {token: Reason(reason) for _, token, reason in view.lost}
        whole = len(view.held) < HOLDS_PAGE_MAX or len(view.lost) >= LOST_REMEMBERED_MAX
        for token in self._fetched_tokens - seen if whole else self._fetched_tokens & reasons.keys():
            self.lost(token, reasons.get(token, Reason.EXPIRED), "")
        if len(view.waiting) < HOLDS_PAGE_MAX:
            self._reconcile_tickets(set(view.waiting))

    def _reconcile_tickets(self, waiting: set[int]) -> None:
        """Tickets that are neither waiting nor granted any more: ask what became of each."""
        for seq, hold in list(self.group.tickets.items()):
            if hold.lease is self and seq not in waiting:
                hold.ask_ticket()

    def ended(self) -> None:
        names = tuple(hold.name for holds in self._holds.values() for hold in holds[:1])
        users = list(self._users)
        self.session.lost(self, names)
        for hold in users:
            hold.lease_ended(self.over, self.text)

    def out_of_sight(self) -> None:
        # Nothing is to be granted on it behind our back.
        self.group.end_lease(self.number)

    # Ending.

    def finish(self) -> None:
        """End the part, with whatever is held through it."""
        if self._ending:
            return
        self._ending = True
        for hold in list(self._users):
            hold.session_closed()
        if self.number:
            self._send_end()
        elif not self._opening:
            self._end_answered()

    def _send_end(self) -> None:
        self.group.wheel.discard(self)
        self.group.leases.pop(self.number, None)
        self.group.writes.call(self, END, "", self.number)

    def _end_answered(self) -> None:
        deferred, self._deferred = self._deferred, []
        wanted = [(hold, wait_ms) for hold, wait_ms in deferred if hold in self._users]
        if wanted:
            self.session.reopen(self, wanted)
        else:
            self.session.drop(self)

    def forget(self, hold: Hold) -> None:
        """The hold goes through another part."""
        self._users.pop(hold, None)

    def _end_again(self) -> None:
        # However late: a group without a leader lets no time pass, so the lease may live although nobody believes it,
        # and a part that is opened beside it would be refused.
        if self.group.core.closed:
            self._end_answered()
        else:
            self._send_end()
