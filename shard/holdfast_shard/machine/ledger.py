"""Who holds what: the rows, and the few primitives that change them.

Every change of a hold, a queue or a lease goes through here, so that counts, timers, events and a snapshot that is
being written stay true. What an operation is answered is the business of ``operations``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Protocol

from holdfast.wire.frames import Event, EventKind, Mode, Reason
from holdfast.wire.limits import ENDED_REASON_MS, FREED_PER_ENTRY_MAX, SLOTS

from .rows import Client, Hold, Lease, Lock, Tenant, Waiter
from .timers import UNTIMED, Timers

CLIENT_BUCKETS = 256
REMEMBERED_MAX = 1000
"""Reasons of lost holds or ended leases kept for one lease or client, whatever their age."""

FREE, QUEUED, STOLEN = 0, 1, 2
"""How a hold was had (``Hold.why``)."""

EXCLUSIVE, SHARED, PERMITS, CACHE = (int(mode) for mode in (Mode.EXCLUSIVE, Mode.SHARED, Mode.PERMITS, Mode.CACHE))

Table = dict[int, dict[str, Lock]]
"""Tenant number -> name -> row."""


class Keeper(Protocol):
    """A snapshot under way: told of each piece just before it changes."""

    def slot(self, number: int) -> None: ...
    def client(self, number: int) -> None: ...


class Ledger:
    def __init__(self) -> None:
        self.clock = 0
        self.counter = 0
        """Last token or client number given; both come from it and never repeat."""
        self.tables: list[Table] = [{} for _ in range(SLOTS)]
        self.clients: list[dict[int, Client]] = [{} for _ in range(CLIENT_BUCKETS)]
        self.tenants: dict[int, Tenant] = {}
        self.sessions: dict[int, dict[bytes, Lease]] = {}
        """Tenant number -> session id -> its part here. Invariant: living leases only."""
        self.timers = Timers()
        self.dying: deque[Lease | Hold] = deque()
        """Marked, not yet freed: dead leases and holds whose last told deadline has passed."""
        self.events: list[Event] = []
        self.keeper: Keeper | None = None
        self._budget = 0

    # Tenants and clients.

    def tenant(self, number: int) -> Tenant:
        found = self.tenants.get(number)
        if found is None:
            found = self.tenants[number] = Tenant(number)
        return found

    def client(self, number: int) -> Client | None:
        return self.clients[number % CLIENT_BUCKETS].get(number)

    def register(self, tenant: Tenant) -> Client:
        self.counter += 1
        client = Client(self.counter, tenant, self.clock)
        self.touch_client(client)
        self.clients[client.number % CLIENT_BUCKETS][client.number] = client
        self.timers.add(client, client.due_key()[0])
        return client

    def touch_client(self, client: Client) -> None:
        if self.keeper is not None:
            self.keeper.client(client.number % CLIENT_BUCKETS)

    def touch_lease(self, lease: Lease) -> None:
        """Plain leases are written with their lock's slot, sessions with their client. Both pieces are due: a plain
        lease that changes may be about to leave its client too."""
        if self.keeper is not None:
            self.keeper.client(lease.client.number % CLIENT_BUCKETS)
            if lease.only is not None:
                self.keeper.slot(lease.only.lock.slot)

    def touch_slot(self, slot: int) -> None:
        if self.keeper is not None:
            self.keeper.slot(slot)

    # Leases.

    def open_lease(self, client: Client, number: int, session: bytes, ttl: int) -> Lease:
        lease = Lease(client, number, session, ttl, self.clock + ttl)
        client.leases[number] = lease
        if session:
            self.touch_client(client)
            client.tenant.sessions += 1
            self.sessions.setdefault(client.tenant.number, {})[session] = lease
        self.timers.add(lease, lease.deadline)
        return lease

    def extend(self, lease: Lease, ttl: int) -> None:
        self.touch_lease(lease)
        lease.ttl = ttl
        lease.deadline = max(lease.deadline, self.clock + ttl)

    def kill(self, lease: Lease, reason: int, text: str = "") -> None:
        """Mark: from here on the lease holds nothing. What it held is freed by :meth:`settle`."""
        if lease.dead:
            return
        self.touch_lease(lease)
        self.touch_client(lease.client)
        lease.dead, lease.text = reason, text or lease.text
        self.timers.discard(lease)
        if lease.session:
            lease.client.tenant.sessions -= 1
            parts = self.sessions[lease.client.tenant.number]
            if parts.get(lease.session) is lease:
                del parts[lease.session]
        if reason != Reason.RELEASED:
            ended = lease.client.ended
            ended[lease.number] = (self.clock, reason, lease.text)
            while len(ended) > REMEMBERED_MAX or next(iter(ended.values()))[0] < self.clock - ENDED_REASON_MS:
                del ended[next(iter(ended))]
        self.dying.append(lease)

    def tell_doomed(self, lease: Lease) -> None:
        """A session is being ended by another: it is told, and ends at the last deadline it was told."""
        lease.change += 1
        self._tell(lease, EventKind.LOST, 0, "", 0, 0, lease.doomed, lease.text)

    def bury(self, lease: Lease) -> None:
        """The lease has nothing left: its row goes."""
        self.touch_client(lease.client)
        if lease.bucket != UNTIMED:
            self.timers.discard(lease)
        client = lease.client
        del client.leases[lease.number]
        client.seen = self.clock

    # Rows.

    def find(self, tenant: Tenant, slot: int, name: str) -> Lock | None:
        names = self.tables[slot].get(tenant.number)
        return None if names is None else names.get(name)

    def row(self, tenant: Tenant, slot: int, name: str) -> Lock:
        """The name's row, made when there is none."""
        table = self.tables[slot]
        names = table.get(tenant.number)
        if names is None:
            names = table[tenant.number] = {}
        lock = names.get(name)
        if lock is None:
            lock = names[name] = Lock(tenant, slot, name)
        return lock

    def tidy(self, lock: Lock) -> None:
        """A free lock leaves no row."""
        if lock.holders or lock.queue is not None or lock.closed_until > self.clock:
            return
        if lock.bucket != UNTIMED:
            self.timers.discard(lock)
        table = self.tables[lock.slot]
        names = table[lock.tenant.number]
        del names[lock.name]
        if not names:
            del table[lock.tenant.number]

    # Holds.

    def grant(self, lock: Lock, lease: Lease, mode: int, permits: int) -> Hold:
        self.counter = token = self.counter + 1
        hold = Hold(lock, lease, token, self.clock)
        hold.mode, hold.permits = mode, permits
        lock.holders.append(hold)
        lock.used += permits
        lease.attach_hold(hold)
        if mode != CACHE:
            lock.tenant.held += 1
        return hold

    def free(self, hold: Hold, reason: int) -> None:
        """End a hold. Whoever is not the one that asked for it is told; the lock is not yet passed on."""
        lock, lease = hold.lock, hold.lease
        self.touch_slot(lock.slot)
        self.touch_lease(lease)
        lock.holders.remove(hold)
        lock.used -= hold.permits
        if hold.bucket != UNTIMED:
            self.timers.discard(hold)
        if hold.mode != CACHE:
            lock.tenant.held -= 1
        if hold.lock_delay and reason == Reason.EXPIRED:
            self.close(lock, hold.lock_delay)
        lease.detach(hold)
        if lease.size() == 0 and (lease.dead or not lease.session):
            self.bury(lease)

    def close(self, lock: Lock, delay: int) -> None:
        """Nobody gets the name for ``delay`` milliseconds (lock delay: Chubby, OSDI'06, 2.4)."""
        lock.closed_until = max(lock.closed_until, self.clock + delay)
        if lock.bucket == UNTIMED:
            self.timers.add(lock, lock.closed_until)

    def lose(self, hold: Hold, reason: int, text: str = "") -> None:
        """Tell a holder that its hold is gone or going."""
        lease = hold.lease
        self.touch_lease(lease)
        lease.change += 1
        if lease.session and not lease.dead:
            lost = lease.lost
            if lost is None:
                lost = lease.lost = []
            lost.append((self.clock, hold.lock.name, hold.token, reason, text))
            if len(lost) > REMEMBERED_MAX or lost[0][0] < self.clock - ENDED_REASON_MS:
                del lost[0]
        elif not lease.session:
            self.touch_client(lease.client)
            lease.client.ended[lease.number] = (self.clock, reason, text)
        self._tell(lease, EventKind.LOST, hold.seq, hold.lock.name, hold.token, 0, reason, text)

    def take_away(self, hold: Hold, reason: int, text: str) -> None:
        """The hold is not extended any more and ends at the last deadline its holder was told."""
        if hold.leaving:
            return
        self.touch_slot(hold.lock.slot)
        hold.leaving, hold.text = reason, text
        hold.told = hold.lease.deadline
        self.lose(hold, reason, text)
        self.timers.add(hold, hold.told)

    # Queues.

    def enqueue(self, lock: Lock, waiter: Waiter) -> None:
        queue = lock.queue
        if queue is None:
            queue = lock.queue = OrderedDict()
        key = (waiter.lease.client.number, waiter.seq)
        queue[key] = waiter
        if waiter.steals:
            queue.move_to_end(key, last=False)
        waiter.lease.attach_waiter(waiter)
        lock.tenant.waiters += 1
        self.timers.add(waiter, waiter.until)
        for hold in lock.holders:
            if hold.mode == CACHE and len(queue) == 1:
                self._tell(hold.lease, EventKind.RECALL, hold.seq, lock.name, hold.token, 0, 0)

    def dequeue(self, waiter: Waiter) -> None:
        """Take a waiter from its queue; the lock is not yet passed on."""
        lock, lease = waiter.lock, waiter.lease
        self.touch_slot(lock.slot)
        self.touch_lease(lease)
        queue = lock.queue
        assert queue is not None
        del queue[(lease.client.number, waiter.seq)]
        if not queue:
            lock.queue = None
        if waiter.bucket != UNTIMED:
            self.timers.discard(waiter)
        lock.tenant.waiters -= 1
        lease.detach(waiter)

    def end_ticket(self, waiter: Waiter, reason: int) -> None:
        """A waiter leaves without a grant, and is told."""
        lease = waiter.lease
        self.dequeue(waiter)
        lease.change += 1
        self._tell(lease, EventKind.ENDED, waiter.seq, waiter.lock.name, 0, 0, reason)
        if lease.size() == 0 and (lease.dead or not lease.session):
            self.bury(lease)

    def pass_on(self, lock: Lock) -> None:
        """Grant to the living at the head of the queue, as far as it fits; then tidy the row."""
        if lock.closed_until <= self.clock:
            while lock.queue is not None:
                waiter = next(iter(lock.queue.values()))
                if waiter.lease.dead:
                    self.end_ticket(waiter, waiter.lease.dead)
                elif not self.fits(lock, waiter.mode, waiter.permits):
                    break
                elif lock.tenant.held >= lock.tenant.held_max:
                    self.end_ticket(waiter, Reason.REFUSED)
                else:
                    self._grant_ticket(lock, waiter)
        if lock.queue is None and not lock.holders:
            lock.capacity = 0
        self.tidy(lock)

    def fits(self, lock: Lock, mode: int, permits: int) -> bool:
        """Whether such a hold can stand beside those there are."""
        holders = lock.holders
        if not holders:
            return True
        if mode == EXCLUSIVE or holders[0].mode != mode:
            return False
        return mode != PERMITS or lock.used + permits <= lock.capacity

    def _grant_ticket(self, lock: Lock, waiter: Waiter) -> None:
        lease = waiter.lease
        self.dequeue(waiter)
        hold = self.grant(lock, lease, waiter.mode, waiter.permits)
        hold.seq, hold.asked = waiter.seq, waiter.asked
        hold.metadata, hold.lock_delay = waiter.metadata, waiter.lock_delay
        hold.why = STOLEN if waiter.steals else QUEUED
        lease.change += 1
        deadline = lease.deadline - waiter.asked
        self._tell(lease, EventKind.GRANTED, waiter.seq, lock.name, hold.token, deadline, 0)

    def _tell(
        self, lease: Lease, kind: int, seq: int, name: str, token: int, deadline: int, reason: int, text: str = ""
    ) -> None:
        self.events.append(
            Event(
                lease.client.number,
                int(kind),
                seq,
                lease.number,
                name,
                token,
                deadline,
                lease.change,
                int(reason),
                text,
            )
        )

    # Running out.

    def advance(self, clock: int) -> None:
        """Mark everything that has run out at ``clock``, before anything passes on."""
        self.clock = clock
        self._budget = FREED_PER_ENTRY_MAX
        woken: list[Lock] = []
        for item in self.timers.take(clock):
            if isinstance(item, Lease):
                self.kill(item, item.doomed or Reason.EXPIRED)
            elif isinstance(item, Hold):
                self.dying.append(item)
            elif isinstance(item, Waiter):
                self.end_ticket(item, Reason.TIMED_OUT)
                woken.append(item.lock)
            elif isinstance(item, Lock):
                woken.append(item)
            elif isinstance(item, Client):
                self._forget(item)
        for lock in woken:
            self.touch_slot(lock.slot)
            if self.find(lock.tenant, lock.slot, lock.name) is lock:
                self.pass_on(lock)
        self.settle()

    def _forget(self, client: Client) -> None:
        self.touch_client(client)
        if client.leases:
            client.seen = self.clock
            self.timers.add(client, client.due_key()[0])
        else:
            del self.clients[client.number % CLIENT_BUCKETS][client.number]

    def settle(self) -> None:
        """Free what is marked, up to ``FREED_PER_ENTRY_MAX`` holds and waiters for one entry."""
        dying = self.dying
        while dying and self._budget > 0:
            item = dying[0]
            if isinstance(item, Hold):
                dying.popleft()
                if item in item.lock.holders:
                    self._budget -= 1
                    self.release_dead(item)
                continue
            left = self._drain(item)
            if not left:
                dying.popleft()

    def _drain(self, lease: Lease) -> bool:
        """Free what a dead lease has; True when the budget ran out first."""
        for waiter in lease.waiters():
            if self._budget <= 0:
                return True
            self._budget -= 1
            self.end_ticket(waiter, lease.dead)
            self.pass_on(waiter.lock)
        for hold in lease.holds():
            if self._budget <= 0:
                return True
            self._budget -= 1
            self.release_dead(hold)
        if lease.client.leases.get(lease.number) is lease:
            self.bury(lease)
        return False

    def release_dead(self, hold: Hold) -> None:
        """Free a hold that is over (its lease is dead, or the last deadline it was told has passed)."""
        lock, reason = hold.lock, hold.leaving or hold.lease.dead
        if not hold.leaving:
            self.lose(hold, reason, hold.lease.text)
        self.free(hold, reason)
        self.pass_on(lock)

    def is_over(self, hold: Hold) -> bool:
        return bool(hold.lease.dead) or (hold.leaving != 0 and hold.told <= self.clock)

    def free_dead(self, lock: Lock) -> None:
        """An operation that meets a hold of a dead lease frees it first."""
        for hold in [hold for hold in lock.holders if self.is_over(hold)]:
            self.release_dead(hold)
