"""Who holds what, as the contract words it (``docs/design.md``, 4 to 6): plain lists, scanned whole for every question.

Nothing here is kept that can be counted or searched, so that nothing can be forgotten when something else changes. What
the machine keeps in wheels, indices and counters is judged by it.
"""

from __future__ import annotations

from holdfast.wire.frames import EventKind, Mode, Reason
from holdfast.wire.limits import (
    CLIENT_IDLE_MS,
    ENDED_REASON_MS,
    HOLDERS_PER_LOCK_MAX,
)
from tests.machine.reference_rows import Allotted, Client, Hold, Lease, Name, Waiter


class Book:
    def __init__(self, freed_max: int) -> None:
        self.freed_max = freed_max
        self.freed_left = 0
        self.clock = 0
        self.tokens: dict[int, list[int]] = {}
        """By tenant, each that was ever given."""
        self.client_numbers: dict[int, list[int]] = {}
        """Likewise."""
        self.clients: list[Client] = []
        self.leases: list[Lease] = []
        self.holds: list[Hold] = []
        """Those of one tenant in the order of their tokens."""
        self.waiters: list[Waiter] = []
        """Of all names; those of one name in the order of its queue."""
        self.closed: dict[Name, int] = {}
        """Lock delays: until when nobody gets the name."""
        self.allotted: dict[int, Allotted] = {}
        self.gone: dict[int, int] = {}
        """Tenants that were deleted -> when that was said, or was looked last whether anything is left."""
        self.over: list[Lease | Hold | Waiter] = []
        """Marked, and to be freed in this order."""
        self.events: list[tuple[int, int, int, int, int, str, int, int, int, int, str]] = []

    # Questions.

    def client(self, tenant: int, number: int) -> Client | None:
        return next((client for client in self.clients if (client.tenant, client.number) == (tenant, number)), None)

    def lease(self, client: Client, number: int) -> Lease | None:
        return next((lease for lease in self.leases if lease.client is client and lease.number == number), None)

    def session(self, tenant: int, session: bytes) -> Lease | None:
        return next((lease for lease in self.sessions(tenant) if lease.session == session), None)

    def sessions(self, tenant: int) -> list[Lease]:
        return [lease for lease in self.leases if lease.session and not lease.dead and lease.client.tenant == tenant]

    def holders(self, name: Name) -> list[Hold]:
        return [hold for hold in self.holds if hold.name == name]

    def queue(self, name: Name) -> list[Waiter]:
        return [waiter for waiter in self.waiters if waiter.name == name]

    def holds_of(self, lease: Lease) -> list[Hold]:
        return sorted((hold for hold in self.holds if hold.lease is lease), key=lambda hold: hold.token)

    def waiters_of(self, lease: Lease) -> list[Waiter]:
        return sorted((waiter for waiter in self.waiters if waiter.lease is lease), key=lambda waiter: waiter.seq)

    def has(self, lease: Lease) -> int:
        return len(self.holds_of(lease)) + len(self.waiters_of(lease))

    def is_over(self, hold: Hold) -> bool:
        return hold.lease.dead != 0 or (hold.taken is not None and hold.taken[1] <= self.clock)

    def is_void(self, waiter: Waiter) -> bool:
        return waiter.lease.dead != 0 or waiter.lease.doomed != 0 or waiter.until <= self.clock

    def is_closed(self, name: Name) -> bool:
        return self.closed.get(name, 0) > self.clock

    def ends(self, hold: Hold) -> int:
        """The last deadline its holder was told."""
        return hold.taken[1] if hold.taken is not None else hold.lease.deadline

    def held(self, tenant: int) -> int:
        return sum(hold.name[0] == tenant and hold.mode != Mode.CACHE and not self.is_over(hold) for hold in self.holds)

    def waiting(self, tenant: int) -> int:
        return sum(waiter.name[0] == tenant and not self.is_void(waiter) for waiter in self.waiters)

    def allotment(self, tenant: int) -> Allotted:
        return self.allotted.get(tenant, Allotted())

    def capacity(self, name: Name) -> int:
        """A semaphore has one while anybody holds or awaits permits of it."""
        items: list[Hold | Waiter] = [*self.holders(name), *self.queue(name)]
        return next((item.capacity for item in items if item.mode == Mode.PERMITS), 0)

    def fits(self, name: Name, mode: int, permits: int) -> bool:
        holders = self.holders(name)
        if not holders:
            return True
        if Mode.EXCLUSIVE in (mode, holders[0].mode) or mode != holders[0].mode or len(holders) >= HOLDERS_PER_LOCK_MAX:
            return False
        return mode != Mode.PERMITS or sum(hold.permits for hold in holders) + permits <= self.capacity(name)

    def due(self) -> int | None:
        """When the next thing runs out."""
        times = [client.seen + CLIENT_IDLE_MS for client in self.clients]
        times += [when + CLIENT_IDLE_MS for when in self.gone.values()]
        times += [lease.deadline for lease in self.leases if not lease.dead]
        times += [waiter.until for waiter in self.waiters if waiter.until > self.clock]
        times += [hold.taken[1] for hold in self.holds if hold.taken is not None and hold.taken[1] > self.clock]
        times += [until for until in self.closed.values() if until > self.clock]
        return min(times, default=None)

    def backlog(self) -> bool:
        return any(item in self.leases or item in self.holds or item in self.waiters for item in self.over)

    # What time does.

    def advance(self, clock: int) -> None:
        """First everything that has run out is marked; then what it had passes on."""
        self.clock, self.freed_left = clock, self.freed_max
        for client in [client for client in self.clients if client.seen + CLIENT_IDLE_MS <= clock]:
            if any(lease.client is client for lease in self.leases):
                client.seen = clock
            else:
                self.clients.remove(client)
        for tenant in [tenant for tenant, when in self.gone.items() if when + CLIENT_IDLE_MS <= clock]:
            if any(client.tenant == tenant for client in self.clients):
                self.gone[tenant] = clock
            else:
                for rows in (self.gone, self.allotted, self.tokens, self.client_numbers):
                    rows.pop(tenant, None)
        single: list[tuple[tuple[int, int, int, int, int], Hold | Waiter]] = [
            ((waiter.until, 1, waiter.name[0], waiter.lease.client.number, waiter.seq), waiter)
            for waiter in self.waiters
            if waiter.until <= clock and waiter not in self.over
        ]
        single += [
            ((hold.taken[1], 2, hold.name[0], hold.lease.client.number, hold.token), hold)
            for hold in self.holds
            if hold.taken is not None and hold.taken[1] <= clock and hold not in self.over
        ]
        self.over += [item for _, item in sorted(single, key=lambda pair: pair[0])]
        ended = [lease for lease in self.leases if not lease.dead and lease.deadline <= clock]
        for lease in sorted(ended, key=lambda lease: (lease.deadline, *lease.client.known_as, lease.number)):
            self.kill(lease, lease.doomed or Reason.EXPIRED)
        opened = sorted((until, name) for name, until in self.closed.items() if until <= clock)
        for _, name in opened:
            del self.closed[name]
        for _, name in opened:
            self.pass_on(name)
        self.settle()

    def settle(self) -> None:
        """Free what is marked, so many holds and waiters for one entry; the rest waits for the next."""
        while self.over and self.freed_left > 0:
            item = self.over[0]
            if isinstance(item, Lease):
                if not self._drain(item):
                    return
            elif isinstance(item, Hold):
                if item in self.holds:
                    self.freed_left -= 1
                    self.release_dead(item)
            elif item in self.waiters:
                self._drop(item, Reason.TIMED_OUT)
            self.over.remove(item)

    def _drain(self, lease: Lease) -> bool:
        for waiter in self.waiters_of(lease):
            if self.freed_left <= 0:
                return False
            self._drop(waiter, lease.dead or lease.doomed)
        for hold in self.holds_of(lease) if lease.dead else []:
            if self.freed_left <= 0:
                return False
            self.freed_left -= 1
            self.release_dead(hold)
        if lease.dead and lease in self.leases:
            self.bury(lease)
        return True

    def _drop(self, waiter: Waiter, reason: int) -> None:
        self.freed_left -= 1
        self.end_ticket(waiter, reason)
        self.pass_on(waiter.name)

    # Ends of leases.

    def kill(self, lease: Lease, reason: int, text: str = "") -> None:
        """From here on the lease has nothing, though what it had may be freed later."""
        if lease.dead:
            return
        lease.dead = int(reason)
        self.over.append(lease)
        if not lease.session:
            lease.dead = next((hold.taken[0] for hold in self.holds_of(lease) if hold.taken), lease.dead)
        elif reason != Reason.RELEASED:
            lease.text = text or lease.text
            self.remember(lease.client, lease.number, reason, lease.text)
            if not lease.doomed:
                lease.change += 1
                self.tell(EventKind.LOST, lease, reason=reason, text=lease.text)

    def doom(self, lease: Lease, reason: int, text: str) -> None:
        """It is told, gets nothing more and dies at the last deadline it was told."""
        lease.doomed, lease.text = int(reason), text
        lease.change += 1
        self.tell(EventKind.LOST, lease, reason=reason, text=text)
        if self.waiters_of(lease):
            self.over.append(lease)

    def bury(self, lease: Lease) -> None:
        self.leases.remove(lease)
        lease.client.seen = self.clock

    def remember(self, client: Client, number: int, reason: int, text: str = "") -> None:
        """Sixty seconds at least; the old ones go when a new one comes."""
        kept = [row for row in client.ended if row[1] != number and row[0] >= self.clock - ENDED_REASON_MS]
        client.ended = [*kept, (self.clock, number, int(reason), text)]

    # Ends of holds.

    def free(self, hold: Hold, reason: int) -> None:
        lease = hold.lease
        self.holds.remove(hold)
        if hold.lock_delay and reason == Reason.EXPIRED:
            self.closed[hold.name] = max(self.closed.get(hold.name, 0), self.clock + hold.lock_delay)
        if not lease.session or (lease.dead and not self.has(lease)):
            self.bury(lease)

    def lose(self, hold: Hold, reason: int, text: str = "") -> None:
        if hold.mode == Mode.CACHE:
            return
        lease = hold.lease
        lease.change += 1
        if lease.session:
            lease.lost.append((self.clock, hold.name[1], hold.token, int(reason)))
        else:
            self.remember(lease.client, lease.number, reason, text)
        self.tell(EventKind.LOST, lease, hold.seq, hold.name[1], hold.token, reason=reason, text=text)

    def take_away(self, hold: Hold, reason: int, text: str) -> None:
        if hold.taken is None:
            self.lose(hold, reason, text)
            hold.taken, hold.taken_text = (int(reason), hold.lease.deadline), text

    def take_now(self, hold: Hold, reason: int, text: str) -> None:
        if hold.taken is None:
            self.lose(hold, reason, text)
        self.free(hold, reason)

    def release_dead(self, hold: Hold) -> None:
        reason = hold.taken[0] if hold.taken is not None else hold.lease.dead
        if hold.taken is None and reason != Reason.RELEASED and not hold.lease.session:
            self.lose(hold, reason)
        self.free(hold, reason)
        self.pass_on(hold.name)

    def free_dead(self, name: Name) -> None:
        """An operation that meets what is over frees it first."""
        for hold in [hold for hold in self.holders(name) if self.is_over(hold)]:
            self.release_dead(hold)
        queue = self.queue(name)
        if queue and self.is_void(queue[0]):
            self.pass_on(name)

    # Queues.

    def enqueue(self, waiter: Waiter) -> None:
        queue = self.queue(waiter.name)
        if waiter.steals and queue:
            self.waiters.insert(self.waiters.index(queue[0]), waiter)
        else:
            self.waiters.append(waiter)
        if not queue:
            for hold in self.holders(waiter.name):
                if hold.mode == Mode.CACHE:
                    self.tell(EventKind.RECALL, hold.lease, hold.seq, hold.name[1], hold.token)

    def end_ticket(self, waiter: Waiter, reason: int) -> None:
        lease = waiter.lease
        reason = lease.dead or reason
        self.waiters.remove(waiter)
        if reason != Reason.RELEASED and not (lease.session and (lease.dead or lease.doomed)):
            lease.change += 1
            self.remember(lease.client, waiter.seq, reason)
            self.tell(EventKind.ENDED, lease, waiter.seq, waiter.name[1], reason=reason)
        if not lease.session:
            self.bury(lease)

    def pass_on(self, name: Name) -> None:
        """To the living at the head of the queue, as far as it fits."""
        while self.queue(name) and not self.is_closed(name):
            waiter = self.queue(name)[0]
            if self.is_void(waiter):
                if self.freed_left <= 0:
                    return
                self.freed_left -= 1
                self.end_ticket(waiter, Reason.TIMED_OUT)
            elif not self.fits(name, waiter.mode, waiter.permits):
                if waiter.patient or self.holders(name)[0].mode == Mode.CACHE:
                    return
                self.end_ticket(waiter, Reason.TIMED_OUT)
            elif self.held(name[0]) >= self.allotment(name[0]).held:
                self.end_ticket(waiter, Reason.REFUSED)
            else:
                self._grant_ticket(waiter)

    def _grant_ticket(self, waiter: Waiter) -> None:
        lease = waiter.lease
        self.waiters.remove(waiter)
        hold = Hold(
            waiter.name, lease, waiter.seq, self.token(waiter.name[0]), waiter.mode, waiter.permits, waiter.capacity,
            self.clock, waiter.asked, waiter.metadata, waiter.lock_delay, "stolen" if waiter.steals else "queued",
            waiter.request,
        )  # fmt: skip
        self.holds.append(hold)
        lease.change += 1
        deadline = lease.deadline - waiter.asked
        self.tell(EventKind.GRANTED, lease, waiter.seq, waiter.name[1], hold.token, deadline)

    # Numbers and events.

    def token(self, tenant: int) -> int:
        """The next one, of this tenant's alone."""
        given = self.tokens.setdefault(tenant, [])
        given.append(1 + max(given, default=0))
        return given[-1]

    def tell(
        self,
        kind: EventKind,
        lease: Lease,
        seq: int = 0,
        name: str = "",
        token: int = 0,
        deadline: int = 0,
        *,
        reason: int = 0,
        text: str = "",
    ) -> None:
        client = lease.client
        self.events.append(
            (
                client.tenant, client.number, int(kind), seq, lease.number, name, token, deadline, lease.change,
                int(reason), text,
            )
        )  # fmt: skip
