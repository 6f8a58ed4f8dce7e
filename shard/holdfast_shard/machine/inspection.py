"""Reads: what there is to see of locks, leases, tickets and sessions. Nothing here changes a row."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nsmallest
from typing import Any

from holdfast.wire.frames import (
    HeldRow,
    HolderView,
    HoldsView,
    Kind,
    LockPage,
    LockView,
    Options,
    Reason,
    SessionPage,
    SessionView,
    Status,
    TicketRow,
)
from holdfast.wire.limits import (
    ENDED_REASON_MS,
    HOLDERS_SHOWN_MAX,
    HOLDS_PAGE_MAX,
    LIST_PAGE_MAX,
    SESSION_ID_BYTES,
    SLOTS,
)

from .envelope import ReadBudget
from .ledger import Ledger
from .rows import CACHE, PERMITS, Answer, Client, Hold, Lease, Lock, Session, Tenant, Waiter

WHY = ("free", "queued", "stolen")
ROW_BYTES = 96
"""What a row takes besides its texts, at most."""


class Inspection:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def answer(
        self,
        tenant: Tenant,
        client: Client | None,
        kind: int,
        slot: int,
        name: str,
        lease: int,
        token: int,
        options: Options,
        budget: ReadBudget,
    ) -> Answer:
        budget.rows_left -= 1
        match kind:
            case Kind.GET:
                return (int(Status.OK), 0, 0, self.look(tenant, slot, name, budget))
            case Kind.CHECK:
                return self._check(tenant, slot, name, token)
            case Kind.LIST:
                return self._list(tenant, name, options, budget)
            case Kind.SESSIONS:
                return self._sessions(tenant, options, budget)
            case Kind.HOLDS if options.session:
                return (
                    int(Status.OK),
                    0,
                    0,
                    self._holds(self._ledger.session(tenant, options.session), _ENDED, budget),
                )
            case Kind.HOLDS | Kind.TICKETS if client is None:
                return (int(Status.UNREGISTERED), 0, 0, None)
            case Kind.HOLDS if client is not None:
                ended = client.ended.get(lease, _ENDED)
                return (int(Status.OK), 0, 0, self._holds(client.leases.get(lease), ended, budget))
            case Kind.TICKETS if client is not None:
                return (int(Status.OK), 0, 0, self._ticket(client, lease, token, name))
        return (int(Status.INVALID), 0, 0, "no such read")

    # Locks.

    def look(self, tenant: Tenant, slot: int, name: str, budget: ReadBudget) -> LockView:
        lock = self._ledger.find(tenant, slot, name)
        return self._view(lock, budget) if lock is not None else LockView(name, 0, 0, [])

    def _view(self, lock: Lock, budget: ReadBudget) -> LockView:
        clock = self._ledger.clock
        living = [hold for hold in lock.holders if hold.mode != CACHE and not self._ledger.is_over(hold)]
        holders = [self._holder(hold) for hold in living[:HOLDERS_SHOWN_MAX]]
        budget.rows_left -= len(lock.holders)
        capacity = lock.capacity
        if capacity and not (lock.holders and lock.holders[0].mode == PERMITS):
            # Whoever waits for permits may be the last of the queue.
            budget.rows_left -= len(lock.queue or ())
            capacity = capacity if lock.is_semaphore else 0
        budget.bytes_left -= ROW_BYTES + len(lock.name) + sum(ROW_BYTES + len(row.metadata) for row in holders)
        closed_ms = max(lock.closed_until - clock, 0)
        return LockView(lock.name, capacity, len(lock.queue or ()), holders, closed_ms, len(living))

    def _holder(self, hold: Hold) -> HolderView:
        lease, clock = hold.lease, self._ledger.clock
        leaving, ends = _end_of(hold)
        return HolderView(
            hold.token, hold.mode, hold.permits, lease.client.number, lease.number, lease.session,
            hold.metadata or lease.metadata, clock - hold.since, ends - clock, WHY[hold.why], leaving, hold.count,
        )  # fmt: skip

    def _check(self, tenant: Tenant, slot: int, name: str, token: int) -> Answer:
        lock = self._ledger.find(tenant, slot, name)
        hold = None if lock is None else self._ledger.hold_of(lock, token)
        if hold is not None and not self._ledger.is_over(hold):
            return (int(Status.OK), token, 0, None)
        return (int(Status.NOT_HELD), 0, 0, None)

    def _list(self, tenant: Tenant, prefix: str, options: Options, budget: ReadBudget) -> Answer:
        """Rows by slot, then by name; the cursor is the last of them. A page may be short, or even empty."""
        limit = _page_of(options)
        start, after = 0, ""
        if options.cursor:
            number, _, after = options.cursor.partition(":")
            if not (number.isascii() and number.isdecimal() and len(number) <= 4) or int(number) >= SLOTS:
                return _NO_CURSOR
            start = int(number)
        found: list[LockView] = []
        for slot in range(start, SLOTS):
            if budget.spent:
                return (int(Status.OK), 0, 0, LockPage(found, f"{slot}:{after}"))
            names = self._ledger.tables[slot].get(tenant.number)
            budget.rows_left -= 1
            if names:
                budget.rows_left -= len(names)
                for name in sorted(name for name in names if name > after and name.startswith(prefix)):
                    view = self._view(names[name], budget)
                    if view.holders or view.waiters or view.closed_ms:
                        found.append(view)
                        if len(found) >= limit or budget.bytes_left <= 0:
                            return (int(Status.OK), 0, 0, LockPage(found, f"{slot}:{name}"))
            after = ""
        return (int(Status.OK), 0, 0, LockPage(found, ""))

    # Leases and tickets.

    def _holds(self, lease: Lease | None, ended: tuple[int, int, str], budget: ReadBudget) -> HoldsView:
        """``ended``: when and why, if there is no such lease."""
        clock = self._ledger.clock
        if lease is None:
            return HoldsView(0, ended[1], [], [], [], ended[2])
        held = [_held(hold) for hold in lease.holds() if not self._ledger.is_over(hold)][:HOLDS_PAGE_MAX]
        lost = [
            (name, token, reason)
            for when, name, token, reason in (lease.lost if isinstance(lease, Session) else ())
            if when >= clock - ENDED_REASON_MS
        ]
        waiting = [waiter.seq for waiter in lease.waiters()][:HOLDS_PAGE_MAX]
        budget.rows_left -= lease.size() + len(lost)
        budget.bytes_left -= sum(ROW_BYTES + len(row.name) for row in held) + 9 * len(waiting)
        budget.bytes_left -= sum(ROW_BYTES + len(name) for name, _, _ in lost)
        return HoldsView(lease.change, lease.dead or lease.doomed, held, waiting, lost, lease.text)

    def _ticket(self, client: Client, number: int, seq: int, name: str) -> TicketRow:
        """The state of one acquire. Gone without a trace means released, or ended more than 60 s ago."""
        lease = client.leases.get(number or seq)
        item = None if lease is None or lease.dead else lease.find_seq(seq)
        if isinstance(item, Waiter):
            assert lease is not None
            return TicketRow(seq, int(Status.QUEUED), 0, lease.deadline - item.asked, 0, name, lease.number)
        if isinstance(item, Hold) and not self._ledger.is_over(item):
            row = _held(item)
            return TicketRow(seq, int(Status.OK), row.token, row.deadline_ms, row.leaving, row.name, item.lease.number)
        _, reason, _ = client.ended.get(seq) or client.ended.get(number) or (0, int(Reason.NONE), "")
        return TicketRow(seq, int(Status.NOT_HELD), 0, 0, reason, name, number or seq)

    # Sessions.

    def _sessions(self, tenant: Tenant, options: Options, budget: ReadBudget) -> Answer:
        """By session id; the cursor is the last id, as hex."""
        limit = _page_of(options)
        try:
            after = bytes.fromhex(options.cursor)
        except ValueError:
            return _NO_CURSOR
        if len(after) not in (0, SESSION_ID_BYTES):
            return _NO_CURSOR
        parts = self._ledger.sessions.get(tenant.number, {})
        ids = nsmallest(limit + 1, (session for session in parts if session > after))
        views = [self._session(parts[session]) for session in ids[:limit]]
        budget.rows_left -= len(parts)
        budget.bytes_left -= sum(ROW_BYTES + len(view.metadata) for view in views)
        return (int(Status.OK), 0, 0, SessionPage(views, ids[limit - 1].hex() if len(ids) > limit else ""))

    def _session(self, lease: Session) -> SessionView:
        return SessionView(
            lease.session, lease.client.number, lease.number, lease.ttl, lease.deadline - self._ledger.clock,
            len(lease.held), len(lease.waiting), lease.metadata,
        )  # fmt: skip

    # Counts.

    def tenants(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, tenant in self._ledger.tenants.items():
            yield number, {"held": tenant.held, "waiters": tenant.waiters, "sessions": tenant.sessions}


_ENDED = (0, int(Reason.RELEASED), "")
"""Of a lease of which nothing is known any more."""
_NO_CURSOR: Answer = (int(Status.INVALID), 0, 0, "this cursor was not given by a list")


def _page_of(options: Options) -> int:
    return options.limit if 0 < options.limit <= LIST_PAGE_MAX else LIST_PAGE_MAX


def _end_of(hold: Hold) -> tuple[int, int]:
    """(reason, when): what it is being taken away for, if it is, and the last deadline its holder was told."""
    if hold.taken is not None:
        return hold.taken.reason, hold.taken.until
    return hold.lease.doomed, hold.lease.deadline


def _held(hold: Hold) -> HeldRow:
    leaving, ends = _end_of(hold)
    return HeldRow(hold.lock.name, hold.token, hold.seq, ends - hold.asked, leaving)
