"""Snapshots of the ledger, piece by piece: globals, 256 buckets of clients with their sessions, 4,096 slots.

A piece that is about to change while a snapshot is being written is encoded first (the ledger's ``keeper``), so that
the whole is the state of one index though apply goes on. A piece is written in chunks of bounded size, for one tag may
put any number of names in one slot. Plain leases are written with their lock, sessions apart from their client. Counts
and timers are not written: rows say all that they are made of.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import msgspec

from holdfast.wire.frames import encode
from holdfast.wire.limits import SLOTS

from .ledger import CLIENT_BUCKETS, Ledger
from .rows import CACHE, Answer, Client, Hold, Lease, Lock, Session, Taken, Waiter

GLOBALS, CLIENTS, LOCKS, SESSIONS = 0, 1, 2, 3

CHUNK_BYTES: Final = 1 << 20
"""A chunk ends with the row that makes it this large; the largest row (10,000 holders, 10,000 waiters) has 30 MiB."""

T = TypeVar("T")

_number_of = attrgetter("number")


class _Row(msgspec.Struct, array_like=True, gc=False):
    pass


class TenantRow(_Row):
    number: int
    version: int
    held_max: int
    waiters_max: int
    sessions_max: int


class DyingRow(_Row):
    """A lease when ``name`` is empty; else its hold or its waiter of that name, by token or by seq."""

    client: int
    lease: int
    slot: int = 0
    name: str = ""
    token: int = 0
    seq: int = 0


class GlobalsRow(_Row, Generic[T]):
    head: T
    clock: int
    counter: int
    tenants: list[TenantRow]
    dying: list[DyingRow]


class SessionRow(_Row):
    client: int
    number: int
    session: bytes
    ttl: int
    deadline: int
    change: int
    dead: int
    doomed: int
    text: str
    metadata: bytes
    lost: list[tuple[int, str, int, int]]


class ClientRow(_Row):
    number: int
    tenant: int
    floor: int
    seen: int
    answers: list[tuple[int, Answer]]
    ended: list[tuple[int, int, int, str]]


class LeaseRow(_Row):
    """``plain`` is (deadline, change, dead) of a plain lease, which travels with what it has; a session has a row."""

    client: int
    number: int
    plain: tuple[int, int, int] | None


class HoldRow(_Row):
    lease: LeaseRow
    seq: int
    token: int
    mode: int
    permits: int
    since: int
    asked: int
    count: int
    metadata: bytes
    lock_delay: int
    why: int
    taken: tuple[int, int, str] | None


class WaiterRow(_Row):
    lease: LeaseRow
    seq: int
    asked: int
    until: int
    mode: int
    permits: int
    capacity: int
    metadata: bytes
    lock_delay: int
    steals: bool
    patient: bool


class LockRow(_Row):
    tenant: int
    name: str
    capacity: int
    closed_until: int
    holders: list[HoldRow]
    queue: list[WaiterRow]


_decode_piece = msgspec.msgpack.Decoder(tuple[int, int, msgspec.Raw]).decode
_decode_clients = msgspec.msgpack.Decoder(list[ClientRow]).decode
_decode_sessions = msgspec.msgpack.Decoder(list[SessionRow]).decode
_decode_locks = msgspec.msgpack.Decoder(list[LockRow]).decode


class Export:
    """One snapshot under way; iterate it for its chunks. Registers itself as the ledger's keeper until it ends."""

    def __init__(self, ledger: Ledger, head: msgspec.Struct) -> None:
        self._ledger = ledger
        self._todo = [True] * (CLIENT_BUCKETS + SLOTS)
        self._early: deque[bytes] = deque()
        tenants = [
            TenantRow(tenant.number, tenant.version, tenant.held_max, tenant.waiters_max, tenant.sessions_max)
            for tenant in ledger.tenants.values()
        ]
        row = GlobalsRow(head, ledger.clock, ledger.counter, tenants, _dying_rows(ledger))
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
            rows = (_lock_row(lock) for names in self._ledger.tables[slot].values() for lock in names.values())
            self._write(LOCKS, slot, rows)

    def _write(self, kind: int, number: int, rows: Iterable[_Row]) -> None:
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


def _dying_rows(ledger: Ledger) -> list[DyingRow]:
    """Without what was freed meanwhile, and can never come back."""
    rows = []
    for item in ledger.dying:
        if isinstance(item, Lease):
            if item.client.leases.get(item.number) is item:
                rows.append(DyingRow(item.client.number, item.number))
            continue
        client, lock = item.lease.client, item.lock
        if isinstance(item, Hold):
            if ledger.hold_of(lock, item.token) is item:
                rows.append(DyingRow(client.number, item.lease.number, lock.slot, lock.name, token=item.token))
        elif lock.queue is not None and lock.queue.get((client.number, item.seq)) is item:
            rows.append(DyingRow(client.number, item.lease.number, lock.slot, lock.name, seq=item.seq))
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
        lease.client.number, lease.number, lease.session, lease.ttl, lease.deadline, lease.change, lease.dead,
        lease.doomed, lease.text, lease.metadata, lease.lost,
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
    )  # fmt: skip


def _waiter_row(waiter: Waiter) -> WaiterRow:
    return WaiterRow(
        _lease_row(waiter.lease), waiter.seq, waiter.asked, waiter.until, waiter.mode, waiter.permits, waiter.capacity,
        waiter.metadata, waiter.lock_delay, waiter.steals, waiter.patient,
    )  # fmt: skip


def read(chunks: Iterable[bytes], head: type[T]) -> tuple[Ledger, T]:
    """The ledger of a snapshot, and the head it was written with. Raises ``ValueError`` on anything else."""
    try:
        return _Import().run(chunks, head)
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError) as error:
        raise ValueError(f"this is no snapshot of a lock machine: {error!r}") from error


class _Import:
    """Locks may arrive before the clients they name, so rows are kept until all are there."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._locks: list[tuple[int, LockRow]] = []
        self._clients: list[ClientRow] = []
        self._sessions: list[SessionRow] = []

    def run(self, chunks: Iterable[bytes], head: type[T]) -> tuple[Ledger, T]:
        decode_globals = msgspec.msgpack.Decoder(GlobalsRow[head]).decode  # type: ignore[valid-type]
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
        if found is None:
            raise ValueError("a snapshot has a piece of globals")
        self._globals(found)
        for client in self._clients:
            self._client(client)
        for session in self._sessions:
            self._session(session)
        for slot, lock in self._locks:
            self._lock(slot, lock)
        self._in_order()
        self._ledger.dying.extend(self._dying(row) for row in found.dying)
        return self._ledger, found.head

    def _globals(self, row: GlobalsRow[Any]) -> None:
        ledger = self._ledger = Ledger(row.clock)
        ledger.counter = row.counter
        for allotted in row.tenants:
            tenant = ledger.tenant(allotted.number)
            tenant.version, tenant.held_max = allotted.version, allotted.held_max
            tenant.waiters_max, tenant.sessions_max = allotted.waiters_max, allotted.sessions_max

    def _client(self, row: ClientRow) -> None:
        client = Client(row.number, self._ledger.tenant(row.tenant), row.seen)
        client.floor = row.floor
        client.answers = dict(row.answers)
        client.ended = {number: (when, reason, text) for number, when, reason, text in row.ended}
        self._ledger.clients_of(client)[client.number] = client
        self._ledger.timers.add(client, client.due_key()[0])

    def _session(self, row: SessionRow) -> None:
        client = self._ledger.clients[row.client % CLIENT_BUCKETS][row.client]
        lease = Session(client, row.number, row.session, row.ttl, row.deadline)
        lease.change, lease.dead, lease.doomed, lease.text = row.change, row.dead, row.doomed, row.text
        lease.metadata, lease.lost = row.metadata, row.lost
        client.leases[lease.number] = lease
        if not lease.dead:
            client.tenant.sessions += 1
            self._ledger.sessions.setdefault(client.tenant.number, {})[lease.session] = lease
            self._ledger.timers.add(lease, lease.deadline)

    def _lease(self, row: LeaseRow) -> Lease:
        client = self._ledger.clients[row.client % CLIENT_BUCKETS][row.client]
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
        lease = self._lease(row.lease)
        hold = Hold(lock, lease, row.seq, row.token, row.mode, row.permits, row.since)
        hold.asked, hold.count, hold.metadata = row.asked, row.count, row.metadata
        hold.lock_delay, hold.why = row.lock_delay, row.why
        lock.holders.append(hold)
        lock.used += hold.permits
        lease.attach(hold)
        if row.taken is not None:
            hold.taken = Taken(*row.taken)
        over = self._ledger.is_over(hold)
        if hold.mode != CACHE and not over:
            lock.tenant.held += 1
        if hold.taken is not None and hold.taken.until > self._ledger.clock:
            self._ledger.timers.add(hold, hold.taken.until)

    def _waiter(self, lock: Lock, row: WaiterRow) -> None:
        lease = self._lease(row.lease)
        waiter = Waiter(lock, lease, row.seq, row.asked, row.until)
        waiter.mode, waiter.permits, waiter.capacity = row.mode, row.permits, row.capacity
        waiter.metadata, waiter.lock_delay = row.metadata, row.lock_delay
        waiter.steals, waiter.patient = row.steals, row.patient
        assert lock.queue is not None
        lock.queue[(lease.client.number, waiter.seq)] = waiter
        lease.attach(waiter)
        if not self._ledger.is_void(waiter):
            lock.tenant.waiters += 1
        if waiter.until > self._ledger.clock:
            self._ledger.timers.add(waiter, waiter.until)

    def _in_order(self) -> None:
        """Rows came by slot: a session's holds stand in the order of their tokens."""
        for sessions in self._ledger.clients:
            for client in sessions.values():
                for lease in client.leases.values():
                    if isinstance(lease, Session):
                        lease.held = dict(sorted(lease.held.items()))

    def _dying(self, row: DyingRow) -> Lease | Hold | Waiter:
        client = self._ledger.clients[row.client % CLIENT_BUCKETS][row.client]
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


def canonical(ledger: Ledger) -> Iterator[bytes]:
    """Every row in an order that depends on the state alone."""
    yield encode([ledger.clock, ledger.counter, _dying_rows(ledger)])
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
