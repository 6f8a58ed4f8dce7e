"""Snapshots of the ledger, piece by piece: globals, 256 buckets of clients with their sessions, 4,096 slots.

A piece that is about to change while a snapshot is being written is encoded first (the ledger's ``keeper``), so that
the whole is the state of one index though apply goes on. A piece is written in chunks of bounded size, for one tag may
put any number of names in one slot. Plain leases are written with their lock, sessions apart from their client. Counts
and timers are not written: rows say all that they are made of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final

import msgspec

from holdfast.wire.frames import encode
from holdfast.wire.limits import SLOTS

from .ledger import Ledger
from .roster import CLIENT_BUCKETS
from .rows import Client, Hold, Lease, Lock, Session, Waiter
from .snapshot_rows import (
    CLIENTS,
    GLOBALS,
    LOCKS,
    SESSIONS,
    ClientRow,
    DyingRow,
    GlobalsRow,
    HoldRow,
    LeaseRow,
    LockRow,
    Row,
    SessionRow,
    TenantRow,
    WaiterRow,
)

CHUNK_BYTES: Final = 1 << 20
"""A chunk ends with the row that makes it this large; the largest row (10,000 holders, 10,000 waiters) has 30 MiB."""

_number_of = attrgetter("number")


class Export:
    """One snapshot under way; iterate it for its chunks. Registers itself as the ledger's keeper until it ends."""

    def __init__(self, ledger: Ledger, head: msgspec.Struct) -> None:
        self._ledger = ledger
        self._todo = [True] * (CLIENT_BUCKETS + SLOTS)
        self._early: deque[bytes] = deque()
        row = GlobalsRow(head, ledger.clock, _tenant_rows(ledger), _dying_rows(ledger))
        self._early.append(encode((GLOBALS, 0, row)))
        ledger.keeper = self

    def client(self, number: int) -> None:
        self._encode(number)

    def slot(self, number: int) -> None:
        self._encode(CLIENT_BUCKETS + number)

    def _encode(self, piece: int) -> None:
        if not self._todo[piece]:
            return
        self._todo[piece] = False
        if piece < CLIENT_BUCKETS:
            clients = self._ledger.clients[piece].values()
            self._write(CLIENTS, piece, (_client_row(client) for client in clients))
            self._write(SESSIONS, piece, (_session_row(lease) for client in clients for lease in _sessions(client)))
        else:
            slot = piece - CLIENT_BUCKETS
            table = self._ledger.tables[slot]
            if table:  # most are empty where little is held
                self._write(LOCKS, slot, (_lock_row(lock) for names in table.values() for lock in names.values()))

    def _write(self, kind: int, number: int, rows: Iterable[Row]) -> None:
        part: list[msgspec.Raw] = []
        size = 0
        for row in rows:
            part.append(msgspec.Raw(encode(row)))
            size += len(part[-1])
            if size >= CHUNK_BYTES:
                self._early.append(encode((kind, number, part)))
                part, size = [], 0
        if part:
            self._early.append(encode((kind, number, part)))

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in range(len(self._todo)):
                self._encode(piece)
                while self._early:
                    yield self._early.popleft()
        finally:
            if self._ledger.keeper is self:
                self._ledger.keeper = None


def _tenant_rows(ledger: Ledger) -> list[TenantRow]:
    return [
        TenantRow(tenant.allotment, tenant.last_token, tenant.last_client, tenant.seen)
        for _, tenant in sorted(ledger.tenants.items())
    ]


def _dying_rows(ledger: Ledger) -> list[DyingRow]:
    """Without what was freed meanwhile, and can never come back."""
    rows = []
    for item in ledger.dying:
        lease = item if isinstance(item, Lease) else item.lease
        client = lease.client
        row = DyingRow(client.tenant.number, client.number, lease.number)
        if isinstance(item, Lease):
            if client.leases.get(item.number) is item:
                rows.append(row)
            continue
        lock = item.lock
        row.slot, row.name = lock.slot, lock.name
        if isinstance(item, Hold):
            row.token = item.token
            if ledger.hold_of(lock, item.token) is item:
                rows.append(row)
        else:
            row.seq = item.seq
            if lock.queue is not None and lock.queue.get((client.number, item.seq)) is item:
                rows.append(row)
    return rows


def _client_row(client: Client) -> ClientRow:
    return ClientRow(
        client.number,
        client.tenant.number,
        client.floor,
        client.seen,
        list(client.answers.items()),
        [(number, *entry) for number, entry in client.ended.items()],
    )


def _sessions(client: Client) -> Iterator[Session]:
    return (lease for lease in client.leases.values() if isinstance(lease, Session))


def _session_row(lease: Session) -> SessionRow:
    return SessionRow(
        lease.client.tenant.number, lease.client.number, lease.number, lease.session, lease.ttl, lease.deadline,
        lease.change, lease.dead, lease.doomed, lease.text, lease.metadata, lease.lost,
    )  # fmt: skip


def _lock_row(lock: Lock) -> LockRow:
    return LockRow(
        lock.tenant.number,
        lock.name,
        lock.capacity,
        lock.closed_until,
        [_hold_row(hold) for hold in lock.holders],
        [_waiter_row(waiter) for waiter in lock.queue.values()] if lock.queue is not None else [],
    )


def _lease_row(lease: Lease) -> LeaseRow:
    plain = None if lease.session else (lease.deadline, lease.change, lease.dead)
    return LeaseRow(lease.client.number, lease.number, plain)


def _hold_row(hold: Hold) -> HoldRow:
    taken = hold.taken
    return HoldRow(
        _lease_row(hold.lease), hold.seq, hold.token, hold.mode, hold.permits, hold.since, hold.asked, hold.count,
        hold.metadata, hold.lock_delay, hold.why, (taken.reason, taken.until, taken.text) if taken else None,
        hold.request,
    )  # fmt: skip


def _waiter_row(waiter: Waiter) -> WaiterRow:
    return WaiterRow(
        _lease_row(waiter.lease), waiter.seq, waiter.asked, waiter.until, waiter.mode, waiter.permits, waiter.capacity,
        waiter.metadata, waiter.lock_delay, waiter.steals, waiter.patient, waiter.request,
    )  # fmt: skip


def canonical(ledger: Ledger) -> Iterator[bytes]:
    """Every row in an order that depends on the state alone."""
    yield encode([ledger.clock, _tenant_rows(ledger), _dying_rows(ledger)])
    for bucket in ledger.clients:
        for _, client in sorted(bucket.items()):
            row = _client_row(client)
            row.answers.sort()
            yield encode(row)
            yield from (encode(_session_row(lease)) for lease in sorted(_sessions(client), key=_number_of))
    for table in ledger.tables:
        for _, names in sorted(table.items()):
            for _, lock in sorted(names.items()):
                yield encode(_lock_row(lock))
