"""The ledger of a snapshot: counts and timers are made anew from its rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from holdfast.wire.frames import decoder

from .ledger import Ledger
from .rows import CACHE, Client, Hold, Lease, Lock, Session, Taken, Waiter
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
    SessionRow,
    WaiterRow,
)

T = TypeVar("T")

_decode_piece = decoder(tuple[int, int, msgspec.Raw])
_decode_clients = decoder(list[ClientRow])
_decode_sessions = decoder(list[SessionRow])
_decode_locks = decoder(list[LockRow])


def read(chunks: Iterable[bytes], head: type[T]) -> tuple[Ledger, T]:
    """The ledger of a snapshot, and the head it was written with. Raises ``ValueError`` on anything else."""
    try:
        return _Import().run(chunks, head)
    except (msgspec.DecodeError, LookupError) as error:
        raise ValueError(f"this is no snapshot of a lock machine: {error!r}") from error


class _Import:
    """Locks may arrive before the clients they name, so rows are kept until all are there."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._locks: list[tuple[int, LockRow]] = []
        self._clients: list[ClientRow] = []
        self._sessions: list[SessionRow] = []

    def run(self, chunks: Iterable[bytes], head: type[T]) -> tuple[Ledger, T]:
        # A class that comes as an argument is a type to msgspec, but none to mypy.
        decode_globals = decoder(GlobalsRow[head])  # type: ignore[valid-type]
        found: GlobalsRow[T] | None = None
        for chunk in chunks:
            kind, number, rows = _decode_piece(chunk)
            if kind == GLOBALS:
                found = decode_globals(rows)
            elif kind == CLIENTS:
                self._clients += _decode_clients(rows)
            elif kind == SESSIONS:
                self._sessions += _decode_sessions(rows)
            elif kind == LOCKS:
                self._locks += [(number, row) for row in _decode_locks(rows)]
            else:
                raise ValueError(f"pieces of kind {kind} of a snapshot are not known here")
        if found is None:
            raise ValueError("a snapshot has a piece of globals")
        self._globals(found)
        for client in self._clients:
            self._client(client)
        for session in self._sessions:
            self._session(session)
        for slot, lock in self._locks:
            self._lock(slot, lock)
        self._ledger.dying.extend(self._dying(row) for row in found.dying)
        return self._ledger, found.head

    def _globals(self, row: GlobalsRow[Any]) -> None:
        ledger = self._ledger = Ledger(row.clock)
        for told in row.tenants:
            tenant = ledger.tenant(told.allotment.tenant)
            tenant.allot(told.allotment)
            tenant.last_token, tenant.last_client = told.last_token, told.last_client
            if tenant.is_gone:
                ledger.watch_gone(tenant, told.seen)

    def _client(self, row: ClientRow) -> None:
        client = Client(row.number, self._ledger.tenant(row.tenant), row.seen)
        client.floor = row.floor
        client.answers = dict(row.answers)
        client.ended = {number: (when, reason, text) for number, when, reason, text in row.ended}
        self._ledger.put_client(client)

    def _session(self, row: SessionRow) -> None:
        client = self._client_of(row.tenant, row.client)
        lease = Session(client, row.number, row.session, row.ttl, row.deadline)
        lease.change, lease.dead, lease.doomed, lease.text = row.change, row.dead, row.doomed, row.text
        lease.metadata, lease.lost = row.metadata, row.lost
        client.leases[lease.number] = lease
        if not lease.dead:
            client.tenant.sessions += 1
            self._ledger.sessions.setdefault(client.tenant.number, {})[lease.session] = lease
            self._ledger.timers.add(lease, lease.deadline)

    def _client_of(self, tenant: int, number: int) -> Client:
        client = self._ledger.client(tenant, number)
        if client is None:
            raise ValueError(f"this snapshot names client {number} of tenant {tenant}, whose row it lacks")
        return client

    def _lease(self, tenant: int, row: LeaseRow) -> Lease:
        client = self._client_of(tenant, row.client)
        if row.plain is None:
            return client.leases[row.number]
        deadline, change, dead = row.plain
        lease = client.leases[row.number] = Lease(client, row.number, deadline)
        lease.change, lease.dead = change, dead
        if not dead:
            self._ledger.timers.add(lease, deadline)
        return lease

    def _lock(self, slot: int, row: LockRow) -> None:
        ledger = self._ledger
        lock = ledger.row(ledger.tenant(row.tenant), slot, row.name)
        lock.capacity, lock.closed_until = row.capacity, row.closed_until
        if lock.closed_until > ledger.clock:
            ledger.timers.add(lock, lock.closed_until)
        for hold in row.holders:
            self._hold(lock, hold)
        if row.queue:
            lock.queue = OrderedDict()
        for waiter in row.queue:
            self._waiter(lock, waiter)

    def _hold(self, lock: Lock, row: HoldRow) -> None:
        lease = self._lease(lock.tenant.number, row.lease)
        hold = Hold(lock, lease, row.seq, row.token, row.mode, row.permits, row.since)
        hold.asked, hold.count, hold.metadata = row.asked, row.count, row.metadata
        hold.lock_delay, hold.why, hold.request = row.lock_delay, row.why, row.request
        lock.add(hold)
        lock.note_request(hold)
        lease.attach(hold)
        if row.taken is not None:
            hold.taken = Taken(*row.taken)
        over = self._ledger.is_over(hold)
        if hold.mode != CACHE and not over:
            lock.tenant.held += 1
        if hold.taken is not None and hold.taken.until > self._ledger.clock:
            self._ledger.timers.add(hold, hold.taken.until)

    def _waiter(self, lock: Lock, row: WaiterRow) -> None:
        lease = self._lease(lock.tenant.number, row.lease)
        waiter = Waiter(lock, lease, row.seq, row.asked, row.until)
        waiter.mode, waiter.permits, waiter.capacity = row.mode, row.permits, row.capacity
        waiter.metadata, waiter.lock_delay = row.metadata, row.lock_delay
        waiter.steals, waiter.patient, waiter.request = row.steals, row.patient, row.request
        lock.note_request(waiter)
        assert lock.queue is not None
        lock.queue[(lease.client.number, waiter.seq)] = waiter
        lease.attach(waiter)
        if not self._ledger.is_void(waiter):
            lock.tenant.waiters += 1
        if waiter.until > self._ledger.clock:
            self._ledger.timers.add(waiter, waiter.until)

    def _dying(self, row: DyingRow) -> Lease | Hold | Waiter:
        client = self._client_of(row.tenant, row.client)
        if not row.name:
            return client.leases[row.lease]
        lock = self._ledger.tables[row.slot][client.tenant.number][row.name]
        found: Hold | Waiter | None = None
        if row.token:
            found = self._ledger.hold_of(lock, row.token)
        elif lock.queue is not None:
            found = lock.queue.get((row.client, row.seq))
        if found is None:
            raise ValueError(f"this snapshot names a row that it lacks: {row}")
        return found
