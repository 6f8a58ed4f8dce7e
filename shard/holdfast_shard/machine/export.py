"""Snapshots of the ledger, piece by piece: globals, 256 buckets of clients, 4,096 slots.

A piece that is about to change while a snapshot is being written is encoded first (the ledger's ``keeper``), so that
the whole is the state of one index though apply goes on. Plain leases are written with their lock, sessions with their
client.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from holdfast.wire.frames import encode
from holdfast.wire.limits import SLOTS

from .ledger import CLIENT_BUCKETS, Ledger
from .rows import Client, Hold, Lease, Lock, Waiter
from .timers import UNTIMED

_decode = msgspec.msgpack.Decoder(tuple[int, int, list[Any]]).decode

GLOBALS, CLIENTS, LOCKS = 0, 1, 2
HOLD, WAITER = 0, 1


class Export:
    """One snapshot under way; iterate it for its chunks. Registers itself as the ledger's keeper until it ends."""

    def __init__(self, ledger: Ledger, head: list[Any]) -> None:
        self._ledger = ledger
        self._todo = [True] * (CLIENT_BUCKETS + SLOTS)
        self._early: deque[bytes] = deque()
        dying = [_reference(item) for item in ledger.dying]
        tenants = [[t.number, t.version, t.held_max, t.waiters_max, t.sessions_max] for t in ledger.tenants.values()]
        self._early.append(encode((GLOBALS, 0, [head, ledger.clock, ledger.counter, tenants, dying])))
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
            rows = [_client_row(client) for client in self._ledger.clients[piece].values()]
            if rows:
                self._early.append(encode((CLIENTS, piece, rows)))
        else:
            slot = piece - CLIENT_BUCKETS
            locks = [_lock_row(lock) for names in self._ledger.tables[slot].values() for lock in names.values()]
            if locks:
                self._early.append(encode((LOCKS, slot, locks)))

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in range(len(self._todo)):
                self._encode(piece)
                while self._early:
                    yield self._early.popleft()
        finally:
            if self._ledger.keeper is self:
                self._ledger.keeper = None


def _reference(item: Lease | Hold) -> list[Any]:
    if isinstance(item, Hold):
        return [item.lease.client.number, item.lease.number, item.token, item.lock.slot, item.lock.name]
    return [item.client.number, item.number, 0, 0, ""]


def _client_row(client: Client) -> list[Any]:
    return [
        client.number, client.tenant.number, client.floor, client.seen, list(client.answers.items()),
        [(number, *entry) for number, entry in client.ended.items()],
        [_lease_row(lease) for lease in client.leases.values() if lease.session],
    ]  # fmt: skip


def _lease_row(lease: Lease) -> list[Any]:
    return [
        lease.number, lease.session, lease.ttl, lease.deadline, lease.change, lease.dead, lease.doomed, lease.text,
        lease.metadata, lease.lost or [],
    ]  # fmt: skip


def _lock_row(lock: Lock) -> list[Any]:
    return [
        lock.tenant.number, lock.name, lock.capacity, lock.closed_until,
        [_hold_row(hold) for hold in lock.holders],
        [_waiter_row(waiter) for waiter in (lock.queue or {}).values()],
    ]  # fmt: skip


def _plain(lease: Lease) -> list[Any]:
    """A plain lease travels with what it has; of a session, the number says all."""
    return [lease.client.number, lease.number] if lease.session else [lease.client.number, *_lease_row(lease)]


def _hold_row(hold: Hold) -> list[Any]:
    return [
        _plain(hold.lease), hold.token, hold.since, hold.seq, hold.asked, hold.mode, hold.permits, hold.count,
        hold.metadata, hold.lock_delay, hold.why, hold.leaving, hold.told, hold.text,
    ]  # fmt: skip


def _waiter_row(waiter: Waiter) -> list[Any]:
    return [
        _plain(waiter.lease), waiter.seq, waiter.asked, waiter.until, waiter.mode, waiter.permits, waiter.capacity,
        waiter.metadata, waiter.lock_delay, waiter.steals, waiter.patient,
    ]  # fmt: skip


def read(chunks: Iterable[bytes]) -> tuple[Ledger, list[Any]]:
    """The ledger of a snapshot, and the head it was written with. Raises ``ValueError`` on anything else."""
    try:
        return _Import().run(chunks)
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no snapshot of a lock machine: {error!r}") from error


class _Import:
    """Locks may arrive before the clients they name, so rows are kept until all are there."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._head: list[Any] | None = None
        self._dying: list[list[Any]] = []
        self._locks: list[tuple[int, list[Any]]] = []
        self._clients: list[list[Any]] = []

    def run(self, chunks: Iterable[bytes]) -> tuple[Ledger, list[Any]]:
        for chunk in chunks:
            kind, number, rows = _decode(chunk)
            if kind == GLOBALS:
                self._head, self._ledger.clock, self._ledger.counter, tenants, self._dying = rows
                for tenant in tenants:
                    self._tenant(tenant)
            elif kind == CLIENTS:
                self._clients += rows
            else:
                self._locks += [(number, row) for row in rows]
        if self._head is None:
            raise ValueError("a snapshot has a piece of globals")
        for row in self._clients:
            self._client(row)
        for slot, row in self._locks:
            self._lock(slot, row)
        for bucket in self._ledger.clients:
            for client in bucket.values():
                for lease in client.leases.values():
                    if lease.held:
                        lease.held = dict(sorted(lease.held.items()))
        for reference in self._dying:
            self._dead(reference)
        return self._ledger, self._head

    def _tenant(self, row: list[Any]) -> None:
        tenant = self._ledger.tenant(row[0])
        tenant.version, tenant.held_max, tenant.waiters_max, tenant.sessions_max = row[1:]

    def _client(self, row: list[Any]) -> None:
        number, tenant, floor, seen, answers, ended, leases = row
        client = Client(number, self._ledger.tenant(tenant), seen)
        client.floor = floor
        client.answers = {seq: tuple(answer) for seq, answer in answers}
        client.ended = {lease: (when, reason, text) for lease, when, reason, text in ended}
        self._ledger.clients[number % CLIENT_BUCKETS][number] = client
        self._ledger.timers.add(client, client.due_key()[0])
        for lease in leases:
            self._lease(client, lease)

    def _lease(self, client: Client, row: list[Any]) -> Lease:
        number, session, ttl, deadline, change, dead, doomed, text, metadata, lost = row
        lease = Lease(client, number, session, ttl, deadline)
        lease.change, lease.dead, lease.doomed, lease.text, lease.metadata = change, dead, doomed, text, metadata
        lease.lost = [tuple(entry) for entry in lost] or None
        client.leases[number] = lease
        if not dead:
            self._ledger.timers.add(lease, deadline)
            if session:
                client.tenant.sessions += 1
                self._ledger.sessions.setdefault(client.tenant.number, {})[session] = lease
        return lease

    def _of(self, row: list[Any]) -> Lease:
        number, rest = row[0], row[1:]
        client = self._ledger.clients[number % CLIENT_BUCKETS][number]
        return client.leases[rest[0]] if len(rest) == 1 else self._lease(client, rest)

    def _lock(self, slot: int, row: list[Any]) -> None:
        tenant, name, capacity, closed_until, holds, waiters = row
        lock = self._ledger.row(self._ledger.tenant(tenant), slot, name)
        lock.capacity, lock.closed_until = capacity, closed_until
        if closed_until > self._ledger.clock:
            self._ledger.timers.add(lock, closed_until)
        for hold in holds:
            self._hold(lock, hold)
        if waiters:
            lock.queue = OrderedDict()
        for waiter in waiters:
            self._waiter(lock, waiter)

    def _hold(self, lock: Lock, row: list[Any]) -> None:
        lease = self._of(row[0])
        hold = Hold(lock, lease, row[1], row[2])
        (hold.seq, hold.asked, hold.mode, hold.permits, hold.count, hold.metadata, hold.lock_delay, hold.why,
         hold.leaving, hold.told, hold.text) = row[3:]  # fmt: skip
        lock.holders.append(hold)
        lock.used += hold.permits
        lease.attach_hold(hold)
        if hold.mode != 3:
            lock.tenant.held += 1
        if hold.leaving and hold.told > self._ledger.clock:
            self._ledger.timers.add(hold, hold.told)

    def _waiter(self, lock: Lock, row: list[Any]) -> None:
        lease = self._of(row[0])
        waiter = Waiter(lock, lease, row[1], row[2], row[3])
        (waiter.mode, waiter.permits, waiter.capacity, waiter.metadata, waiter.lock_delay, waiter.steals,
         waiter.patient) = row[4:]  # fmt: skip
        assert lock.queue is not None
        lock.queue[(lease.client.number, waiter.seq)] = waiter
        lease.attach_waiter(waiter)
        lock.tenant.waiters += 1
        assert waiter.bucket == UNTIMED
        self._ledger.timers.add(waiter, waiter.until)

    def _dead(self, reference: list[Any]) -> None:
        client, number, token, slot, name = reference
        if not token:
            self._ledger.dying.append(self._ledger.clients[client % CLIENT_BUCKETS][client].leases[number])
            return
        tenant = self._ledger.clients[client % CLIENT_BUCKETS][client].tenant
        lock = self._ledger.find(tenant, slot, name)
        if lock is not None:
            self._ledger.dying.extend(hold for hold in lock.holders if hold.token == token)


def canonical(ledger: Ledger) -> Iterator[bytes]:
    """Every row in an order that depends on the state alone."""
    yield encode([ledger.clock, ledger.counter, [_reference(item) for item in ledger.dying]])
    for bucket in ledger.clients:
        for _, client in sorted(bucket.items()):
            row = _client_row(client)
            yield encode([*row[:4], sorted(row[4]), sorted(row[5]), sorted(row[6])])
    for table in ledger.tables:
        for _, names in sorted(table.items()):
            for _, lock in sorted(names.items()):
                yield encode(_lock_row(lock))
