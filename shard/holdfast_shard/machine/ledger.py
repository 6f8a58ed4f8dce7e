"""Who holds what: the rows, and the few primitives that change them.

Every change of a hold, a queue or a lease goes through here, so that counts, timers, events and a snapshot that is
being written stay true. What an operation is answered is the business of ``operations``; what time does, of ``expiry``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, Protocol

from holdfast.wire.frames import Event, EventKind, Reason
from holdfast.wire.limits import ENDED_REASON_MS, HOLDERS_PER_LOCK_MAX, SLOTS

from .roster import REMEMBERED_MAX, Roster
from .rows import (
    CACHE,
    EXCLUSIVE,
    OF_HELD,
    PERMITS,
    QUEUED,
    STOLEN,
    Client,
    Hold,
    Lease,
    Lock,
    Session,
    Taken,
    Tenant,
    Waiter,
)

EXPIRED, RELEASED, TIMED_OUT, REFUSED = (
    int(reason) for reason in (Reason.EXPIRED, Reason.RELEASED, Reason.TIMED_OUT, Reason.REFUSED)
)

Table = dict[int, dict[str, Lock]]
"""Tenant number -> name -> row."""

_SLOT_NUMBERS: Final = tuple(range(SLOTS))
"""One object for each, however many rows have it."""


class Observer(Protocol):
    """Somebody outside who is told of locks that look different now. No part of the state, and none of its business."""

    def touched(self, lock: Lock) -> None: ...


class Ledger(Roster):
    def __init__(self, clock: int = 0) -> None:
        super().__init__(clock)
        self.tables: list[Table] = [{} for _ in range(SLOTS)]
        self.dying: deque[Lease | Hold | Waiter] = deque()
        """Over, and still to be freed: dead leases, holds and waiters whose deadline has passed, and sessions that are
        being ended, for their waiters. What was freed meanwhile may still stand here."""
        self.budget = 0
        """Holds and waiters whose time is over that this entry may still free; the rest waits for the next."""
        self.events: list[Event] = []
        self.observer: Observer | None = None

    def show(self, lock: Lock) -> None:
        """The lock looks different now, or is about to. What runs by itself (ages, remaining times) is not told."""
        if self.observer is not None:
            self.observer.touched(lock)

    # Leases.

    def open_lease(self, client: Client, seq: int, ttl: int) -> Lease:
        """A plain lease; its client's piece has been touched by the section."""
        lease = Lease(client, seq, self.clock + ttl)
        client.leases[seq] = lease
        self.timers.add(lease, lease.deadline)
        return lease

    def open_session(self, client: Client, number: int, session: bytes, ttl: int, metadata: bytes) -> None:
        lease = Session(client, number, session, ttl, self.clock + ttl)
        lease.metadata = metadata
        client.leases[number] = lease
        client.tenant.sessions += 1
        self.sessions.setdefault(client.tenant.number, {})[session] = lease
        self.timers.add(lease, lease.deadline)

    def extend(self, lease: Lease, ttl: int) -> None:
        self.touch_lease(lease)
        if isinstance(lease, Session):
            lease.ttl = ttl
        lease.deadline = max(lease.deadline, self.clock + ttl)

    def doom(self, lease: Session, reason: int, text: str) -> None:
        """Another ends the session: it is told, and dies at the last deadline it was told. It awaits nothing more."""
        self.touch_lease(lease)
        lease.doomed, lease.text = reason, text
        self._count_out_waiters(lease)
        for hold in lease.holds() if self.observer is not None else ():
            self.show(hold.lock)
        lease.change += 1
        self._tell(lease, EventKind.LOST, 0, "", 0, 0, reason, text)
        if lease.waiting:
            self.dying.append(lease)

    def kill(self, lease: Lease, reason: int, text: str = "") -> None:
        """Mark: from here on the lease holds nothing. What it held is freed by ``Expiry.settle``."""
        assert not lease.dead, "a lease ends once"
        self.touch_lease(lease)
        tenant = lease.client.tenant
        for hold in lease.holds():
            if hold.mode != CACHE and not self.is_over(hold):
                tenant.held -= 1
        if not lease.doomed:
            self._count_out_waiters(lease)
        lease.dead = reason
        self.timers.discard(lease)
        if isinstance(lease, Session):
            self._bury_id(lease, reason, text)
        elif isinstance(lease.only, Hold) and lease.only.taken is not None:
            lease.dead = lease.only.taken.reason
        self.dying.append(lease)

    def _count_out_waiters(self, lease: Lease) -> None:
        for waiter in lease.waiters():
            if waiter.until > self.clock:
                lease.client.tenant.waiters -= 1

    def _bury_id(self, lease: Session, reason: int, text: str) -> None:
        lease.client.tenant.sessions -= 1
        del self.sessions[lease.client.tenant.number][lease.session]
        if reason == RELEASED:
            return
        told, lease.text = lease.doomed, text or lease.text
        self.remember(lease.client, lease.number, reason, lease.text)
        if not told:
            lease.change += 1
            self._tell(lease, EventKind.LOST, 0, "", 0, 0, reason, lease.text)

    def bury(self, lease: Lease) -> None:
        """The lease has nothing left: its row goes."""
        client = lease.client
        self.touch_client(client)
        self.timers.discard(lease)
        del client.leases[lease.number]
        client.seen = self.clock

    # Rows.

    def find(self, tenant: Tenant, slot: int, name: str) -> Lock | None:
        if slot >= SLOTS:
            return None
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
            lock = names[name] = Lock(tenant, _SLOT_NUMBERS[slot], name)
        return lock

    def tidy(self, lock: Lock) -> None:
        """A free lock leaves no row."""
        if lock.is_held or lock.queue is not None or lock.closed_until > self.clock:
            return
        self.timers.discard(lock)
        table = self.tables[lock.slot]
        names = table[lock.tenant.number]
        del names[lock.name]
        if not names:
            del table[lock.tenant.number]

    # Holds.

    def hold_of(self, lock: Lock, token: int) -> Hold | None:
        return lock.hold_of(token)

    def grant(self, lock: Lock, lease: Lease, seq: int, mode: int, permits: int) -> Hold:
        tenant = lock.tenant
        tenant.last_token = token = tenant.last_token + 1
        hold = Hold(lock, lease, seq, token, mode, permits, self.clock)
        lock.add(hold)
        lease.attach(hold)
        if mode != CACHE:
            tenant.held += 1
        self.show(lock)
        return hold

    def hand_over(self, hold: Hold, session: Session) -> None:
        """The hold of a plain lease becomes the session's, and is no ticket any more. It ends no sooner than before:
        somebody may count on it."""
        lease = hold.lease
        self.touch_lease(lease)
        self.touch_client(session.client)
        lease.detach(hold)
        self.bury(lease)
        hold.lease, hold.seq = session, 0
        session.deadline = max(session.deadline, lease.deadline)
        session.attach(hold)
        session.change += 1
        self.show(hold.lock)

    def free(self, hold: Hold, reason: int) -> None:
        """End a hold; the lock is not yet passed on."""
        lock, lease = hold.lock, hold.lease
        self.touch_slot(lock.slot)
        self.touch_lease(lease)
        lock.forget_request(hold)
        lock.remove(hold)
        self.timers.discard(hold)
        if hold.mode != CACHE and not self.is_over(hold):
            lock.tenant.held -= 1
        self.show(lock)
        if hold.lock_delay and reason == EXPIRED:
            self._close(lock, hold.lock_delay)
        lease.detach(hold)
        if not lease.session or (lease.dead and lease.size() == 0):
            self.bury(lease)

    def _close(self, lock: Lock, delay: int) -> None:
        """Nobody gets the name for ``delay`` milliseconds (lock delay: Chubby, OSDI'06, 2.4)."""
        lock.closed_until = max(lock.closed_until, self.clock + delay)
        if lock.bucket is None:
            self.timers.add(lock, lock.closed_until)

    def reopen(self, lock: Lock) -> None:
        """End a lock delay before its time."""
        lock.closed_until = 0
        self.timers.discard(lock)

    def lose(self, hold: Hold, reason: int, text: str = "") -> None:
        """Tell a holder that its hold is gone or going. A cacher is not told: what it has ends within a second."""
        if hold.mode == CACHE:
            return
        lease = hold.lease
        self.touch_lease(lease)
        lease.change += 1
        if isinstance(lease, Session):
            lost = lease.lost
            lost.append((self.clock, hold.lock.name, hold.token, reason))
            if len(lost) > REMEMBERED_MAX or lost[0][0] < self.clock - ENDED_REASON_MS:
                del lost[0]
        else:
            self.remember(lease.client, lease.number, reason, text)
        self._tell(lease, EventKind.LOST, hold.seq, hold.lock.name, hold.token, 0, reason, text)

    def take_away(self, hold: Hold, reason: int, text: str) -> None:
        """The hold is not extended any more and ends at the last deadline its holder was told."""
        if hold.taken is not None:
            return
        self.touch_slot(hold.lock.slot)
        self.show(hold.lock)
        self.lose(hold, reason, text)
        hold.taken = Taken(reason, hold.lease.deadline, text)
        self.timers.add(hold, hold.lease.deadline)

    def take_now(self, hold: Hold, reason: int, text: str) -> None:
        """The hold ends at once, whatever its holder believes."""
        if hold.taken is None:
            self.lose(hold, reason, text)
        self.free(hold, reason)

    def is_over(self, hold: Hold) -> bool:
        return hold.lease.dead != 0 or (hold.taken is not None and hold.taken.until <= self.clock)

    def release_dead(self, hold: Hold) -> None:
        """Free a hold that is over, and pass the lock on. The owner of a session is told of its end as a whole."""
        lock, lease = hold.lock, hold.lease
        reason = hold.taken.reason if hold.taken is not None else lease.dead
        if hold.taken is None and reason != RELEASED and not lease.session:
            self.lose(hold, reason)
        self.free(hold, reason)
        self.pass_on(lock)

    def free_dead(self, lock: Lock) -> None:
        """An operation that meets what is over frees it first. The row may go with it."""
        if not self.dying:
            return
        for hold in [hold for hold in lock.holders if self.is_over(hold)]:
            self.release_dead(hold)
        if lock.queue is not None and self.is_void(next(iter(lock.queue.values()))):
            self.pass_on(lock)

    # Queues.

    def enqueue(self, lock: Lock, waiter: Waiter) -> None:
        queue = lock.queue
        if queue is None:
            queue = lock.queue = OrderedDict()
        lock.note_request(waiter)
        key = (waiter.lease.client.number, waiter.seq)
        queue[key] = waiter
        if waiter.steals:
            queue.move_to_end(key, last=False)
        waiter.lease.attach(waiter)
        lock.tenant.waiters += 1
        self.timers.add(waiter, waiter.until)
        self.show(lock)
        if len(queue) == 1:
            for hold in lock.holders:
                if hold.mode == CACHE:
                    self._tell(hold.lease, EventKind.RECALL, hold.seq, lock.name, hold.token, 0, 0)

    def is_void(self, waiter: Waiter) -> bool:
        """Whether the waiter is to get nothing any more."""
        return waiter.lease.dead != 0 or waiter.lease.doomed != 0 or waiter.until <= self.clock

    def dequeue(self, waiter: Waiter) -> None:
        """Take a waiter from its queue; the lock is not yet passed on, nor the lease buried."""
        lock, lease = waiter.lock, waiter.lease
        self.touch_slot(lock.slot)
        self.touch_lease(lease)
        queue = lock.queue
        assert queue is not None
        del queue[(lease.client.number, waiter.seq)]
        lock.forget_request(waiter)
        if not queue:
            lock.queue = None
        self.show(lock)
        self.timers.discard(waiter)
        if not self.is_void(waiter):
            lock.tenant.waiters -= 1
        lease.detach(waiter)

    def end_ticket(self, waiter: Waiter, reason: int) -> None:
        """A waiter leaves without a grant, and is told, unless its owner said so or is told of the session's end."""
        lease = waiter.lease
        reason = lease.dead or reason
        self.dequeue(waiter)
        if reason != RELEASED and not (lease.session and (lease.dead or lease.doomed)):
            lease.change += 1
            self.remember(lease.client, waiter.seq, reason)
            self._tell(lease, EventKind.ENDED, waiter.seq, waiter.lock.name, 0, 0, reason)
        if not lease.session:
            self.bury(lease)

    def pass_on(self, lock: Lock) -> None:
        """Grant to the living at the head of the queue, as far as it fits; then tidy the row."""
        if lock.closed_until <= self.clock:
            while lock.queue is not None:
                waiter = next(iter(lock.queue.values()))
                if self.is_void(waiter):
                    if self.budget <= 0:
                        # It stands among the dying: the entry that frees it passes on from there.
                        break
                    self.budget -= 1
                    self.end_ticket(waiter, TIMED_OUT)
                elif not self.fits(lock, waiter.mode, waiter.permits):
                    if waiter.patient or lock.holders[0].mode == CACHE:
                        break
                    self.end_ticket(waiter, TIMED_OUT)
                elif lock.tenant.held >= lock.tenant.held_max:
                    self.note_refusal(lock.tenant, OF_HELD)
                    self.end_ticket(waiter, REFUSED)
                else:
                    self._grant_ticket(lock, waiter)
        if lock.queue is None and not lock.is_held:
            lock.capacity = 0
        self.tidy(lock)

    def fits(self, lock: Lock, mode: int, permits: int) -> bool:
        """Whether such a hold can stand beside those there are."""
        if not lock.is_held:
            return True
        holders = lock.holders
        if mode == EXCLUSIVE or holders[0].mode != mode or len(holders) >= HOLDERS_PER_LOCK_MAX:
            return False
        return mode != PERMITS or lock.used + permits <= lock.capacity

    def _grant_ticket(self, lock: Lock, waiter: Waiter) -> None:
        lease = waiter.lease
        self.dequeue(waiter)
        hold = self.grant(lock, lease, waiter.seq, waiter.mode, waiter.permits)
        hold.asked = waiter.asked
        hold.metadata, hold.lock_delay = waiter.metadata, waiter.lock_delay
        hold.why, hold.request = STOLEN if waiter.steals else QUEUED, waiter.request
        lock.note_request(hold)
        lease.change += 1
        deadline = lease.deadline - waiter.asked
        self._tell(lease, EventKind.GRANTED, waiter.seq, lock.name, hold.token, deadline, 0)

    def _tell(
        self, lease: Lease, kind: int, seq: int, name: str, token: int, deadline: int, reason: int, text: str = ""
    ) -> None:
        client = lease.client
        event = Event(
            client.tenant.number, client.number, int(kind), seq, lease.number, name, token, deadline, lease.change,
            int(reason), text,
        )  # fmt: skip
        self.events.append(event)
