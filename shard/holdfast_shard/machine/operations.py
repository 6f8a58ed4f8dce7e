"""The operations: what each is answered, and what it does to the ledger (``docs/design.md``, 6.1).

A handler returns (status, token, deadline, detail); the deadline counts from this entry's reading. A refusal changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.wire.frames import Kind, Options, Reason, Status
from holdfast.wire.limits import (
    CACHE_TTL_MS_MAX,
    HOLDERS_PER_LOCK_MAX,
    LEASES_PER_CLIENT_MAX,
    LOCK_DELAY_MS_MAX,
    LOCKS_PER_SESSION_MAX,
    METADATA_BYTES_MAX,
    PERMITS_MAX,
    REASON_BYTES_MAX,
    REENTRANCY_MAX,
    TTL_MS_MAX,
    TTL_MS_MIN,
    WAIT_MS_MAX,
    WAITERS_PER_LOCK_MAX,
)

from .ledger import CACHE, FREE, PERMITS, STOLEN, Ledger
from .rows import Answer, Client, Hold, Lease, Lock, Waiter

Handler = Callable[[Client, int, int, str, int, int, int, int, Options], Answer]
"""(client, seq, slot, name, lease, token, ttl, wait, options)."""

PLAIN_OPTIONS: Final = Options()
DONE: Final[Answer] = (int(Status.OK), 0, 0, None)
NOT_HELD: Final[Answer] = (int(Status.NOT_HELD), 0, 0, None)
CANCELLED: Final[Answer] = (int(Status.CANCELLED), 0, 0, None)
OK, QUEUED, BUSY = int(Status.OK), int(Status.QUEUED), int(Status.BUSY)


def refused(status: Status, detail: object = None) -> Answer:
    return (int(status), 0, 0, detail)


def invalid(what: str) -> Answer:
    return (int(Status.INVALID), 0, 0, what)


class Operations:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.handlers: dict[int, Handler] = {
            int(Kind.OPEN): self._open,
            int(Kind.ACQUIRE): self._acquire,
            int(Kind.RELEASE): self._release,
            int(Kind.KEEPALIVE): self._keepalive,
            int(Kind.CANCEL): self._cancel,
            int(Kind.FORCE): self._force,
            int(Kind.END): self._end,
        }
        self.named = {int(Kind.ACQUIRE), int(Kind.RELEASE), int(Kind.FORCE)}
        """Kinds that need a slot of this group."""

    # Leases.

    def _open(
        self,
        client: Client,
        seq: int,
        slot: int,
        name: str,
        number: int,
        token: int,
        ttl: int,
        wait: int,
        options: Options,
    ) -> Answer:
        ledger = self._ledger
        number = number or seq
        if len(options.session) != 16:
            return invalid("a session id has 16 bytes")
        if not TTL_MS_MIN <= ttl <= TTL_MS_MAX:
            return invalid(f"ttl is {TTL_MS_MIN} to {TTL_MS_MAX} ms")
        if len(options.metadata) > METADATA_BYTES_MAX:
            return invalid(f"metadata has at most {METADATA_BYTES_MAX} bytes")
        if number in client.leases or options.session in ledger.sessions.get(client.tenant.number, ()):
            return invalid("this session is open already")
        if len(client.leases) >= LEASES_PER_CLIENT_MAX:
            return refused(Status.TOO_MANY_LEASES, LEASES_PER_CLIENT_MAX)
        if client.tenant.sessions >= client.tenant.sessions_max:
            return refused(Status.QUOTA_SESSIONS, client.tenant.sessions_max)
        lease = ledger.open_lease(client, number, options.session, ttl)
        lease.metadata = options.metadata
        return (OK, 0, ttl, None)

    def _keepalive(
        self,
        client: Client,
        seq: int,
        slot: int,
        name: str,
        number: int,
        token: int,
        ttl: int,
        wait: int,
        options: Options,
    ) -> Answer:
        lease = client.leases.get(number)
        if lease is None or lease.dead or lease.doomed:
            return self._ended(client, number, lease)
        if not TTL_MS_MIN <= ttl <= TTL_MS_MAX:
            return invalid(f"ttl is {TTL_MS_MIN} to {TTL_MS_MAX} ms")
        only = lease.only
        if type(only) is Hold and only.leaving:
            # A plain lease is its one hold: nothing of it may outlive what the holder was told.
            return (int(Status.CHANGED), 0, lease.deadline - self._ledger.clock, None)
        if type(only) is Hold and only.mode == CACHE:
            return invalid("a cached 'not held' is not extended")
        self._ledger.extend(lease, ttl)
        status = OK if token == lease.change else int(Status.CHANGED)
        return (status, 0, lease.deadline - self._ledger.clock, None)

    def _ended(self, client: Client, number: int, lease: Lease | None) -> Answer:
        if lease is not None:
            return refused(Status.LEASE_ENDED, [lease.dead or lease.doomed, lease.text])
        _, reason, text = client.ended.get(number, (0, int(Reason.NONE), ""))
        return refused(Status.LEASE_ENDED, [reason, text])

    def _end(
        self,
        client: Client,
        seq: int,
        slot: int,
        name: str,
        number: int,
        token: int,
        ttl: int,
        wait: int,
        options: Options,
    ) -> Answer:
        ledger = self._ledger
        if not options.session:
            lease = client.leases.get(number)
            if lease is None or lease.dead:
                return self._ended(client, number, lease)
            ledger.kill(lease, Reason.RELEASED)
            return DONE
        if len(options.reason.encode()) > REASON_BYTES_MAX:
            return invalid(f"a reason has at most {REASON_BYTES_MAX} bytes")
        lease = ledger.sessions.get(client.tenant.number, {}).get(options.session)
        if lease is None or lease.doomed:
            return refused(Status.LEASE_ENDED, [int(Reason.NONE), ""])
        ledger.touch_lease(lease)
        lease.doomed, lease.text = int(Reason.SESSION_ENDED), options.reason
        if options.now:
            ledger.kill(lease, Reason.SESSION_ENDED, options.reason)
        else:
            ledger.tell_doomed(lease)
        return DONE

    # Acquire.

    def _acquire(
        self,
        client: Client,
        seq: int,
        slot: int,
        name: str,
        number: int,
        token: int,
        ttl: int,
        wait: int,
        options: Options,
    ) -> Answer:
        ledger = self._ledger
        tenant = client.tenant
        lease: Lease | None = None
        if number:
            lease = client.leases.get(number)
            if lease is None or lease.dead or lease.doomed or not lease.session:
                return self._ended(client, number, lease)
        elif not TTL_MS_MIN <= ttl <= TTL_MS_MAX:
            return invalid(f"ttl is {TTL_MS_MIN} to {TTL_MS_MAX} ms")
        elif seq in client.leases:
            return invalid("this seq names a lease already")
        elif len(client.leases) >= LEASES_PER_CLIENT_MAX:
            return refused(Status.TOO_MANY_LEASES, LEASES_PER_CLIENT_MAX)
        if wait < 0 or wait > WAIT_MS_MAX:
            return invalid(f"wait is 0 to {WAIT_MS_MAX} ms")
        if options is not PLAIN_OPTIONS:
            wrong = self._check_options(options, number, ttl)
            if wrong is not None:
                return wrong
        lock = ledger.find(tenant, slot, name)
        if lock is None:
            if tenant.held >= tenant.held_max and options.mode != CACHE:
                return refused(Status.QUOTA_HELD, tenant.held_max)
            if lease is not None and lease.size() >= LOCKS_PER_SESSION_MAX:
                return refused(Status.TOO_MANY_LOCKS, LOCKS_PER_SESSION_MAX)
            ledger.touch_slot(slot)
            lock = ledger.row(tenant, slot, name)
            return self._grant(lock, client, lease, seq, ttl, options, FREE)
        ledger.touch_slot(slot)
        if lock.holders:
            ledger.free_dead(lock)
            # Freeing may have tidied the row away.
            lock = ledger.row(tenant, slot, name)
        answer = self._acquire_row(lock, client, lease, seq, ttl, wait, options)
        ledger.tidy(lock) if answer[0] not in (OK, QUEUED) else None
        return answer

    def _check_options(self, options: Options, number: int, ttl: int) -> Answer | None:
        mode = options.mode
        if mode not in (0, 1, 2, 3):
            return invalid("mode is 0 to 3")
        if mode == PERMITS and not 1 <= options.permits <= options.capacity <= PERMITS_MAX:
            return invalid(f"permits is 1 to capacity, capacity at most {PERMITS_MAX}")
        if mode == CACHE and (number or ttl > CACHE_TTL_MS_MAX or options.steal):
            return invalid(f"a cached 'not held' has a lease of its own of at most {CACHE_TTL_MS_MAX} ms")
        if len(options.metadata) > METADATA_BYTES_MAX:
            return invalid(f"metadata has at most {METADATA_BYTES_MAX} bytes")
        if not 0 <= options.lock_delay_ms <= LOCK_DELAY_MS_MAX:
            return invalid(f"lock delay is 0 to {LOCK_DELAY_MS_MAX} ms")
        if len(options.reason.encode()) > REASON_BYTES_MAX:
            return invalid(f"a reason has at most {REASON_BYTES_MAX} bytes")
        return None

    def _acquire_row(
        self, lock: Lock, client: Client, lease: Lease | None, seq: int, ttl: int, wait: int, options: Options
    ) -> Answer:
        """Acquire of a name that has a row."""
        ledger = self._ledger
        mode = options.mode
        if mode == PERMITS and lock.capacity and lock.capacity != options.capacity:
            return refused(Status.CAPACITY_MISMATCH, [lock.capacity, options.capacity])
        if lease is not None:
            mine = self._mine(lock, lease, options)
            if mine is not None:
                return mine
            if lease.size() >= LOCKS_PER_SESSION_MAX:
                return refused(Status.TOO_MANY_LOCKS, LOCKS_PER_SESSION_MAX)
        if len(lock.holders) >= HOLDERS_PER_LOCK_MAX:
            return refused(Status.TOO_MANY_HOLDERS, HOLDERS_PER_LOCK_MAX)
        open_now = lock.closed_until <= ledger.clock
        if open_now and lock.queue is None and ledger.fits(lock, mode, options.permits):
            if client.tenant.held >= client.tenant.held_max and mode != CACHE:
                return refused(Status.QUOTA_HELD, client.tenant.held_max)
            return self._grant(lock, client, lease, seq, ttl, options, FREE)
        if options.steal:
            return self._steal(lock, client, lease, seq, ttl, wait, options)
        cached = open_now and lock.queue is None and lock.holders[0].mode == CACHE
        if mode == CACHE or (wait == 0 and not cached):
            return (BUSY, 0, 0, self._obstacle(lock))
        return self._queue(lock, client, lease, seq, ttl, wait, options)

    def _mine(self, lock: Lock, lease: Lease, options: Options) -> Answer | None:
        """The answer when the session holds or awaits the name already."""
        for hold in lock.holders:
            if hold.lease is lease and not hold.leaving:
                if not options.reentrant or hold.mode != options.mode or hold.count >= REENTRANCY_MAX:
                    return refused(Status.ALREADY_HELD, hold.token)
                hold.count += 1
                return (OK, hold.token, lease.deadline - self._ledger.clock, None)
        if lock.queue is not None and lease.waiting is not None and len(lease.waiting) < len(lock.queue):
            waits = any(waiter.lock is lock for waiter in lease.waiting.values())
        else:
            waits = lock.queue is not None and any(waiter.lease is lease for waiter in lock.queue.values())
        return refused(Status.ALREADY_HELD, 0) if waits else None

    def _grant(
        self, lock: Lock, client: Client, lease: Lease | None, seq: int, ttl: int, options: Options, why: int
    ) -> Answer:
        ledger = self._ledger
        if lease is None:
            lease = ledger.open_lease(client, seq, b"", ttl)
        else:
            ledger.touch_lease(lease)
        hold = ledger.grant(lock, lease, options.mode, options.permits)
        hold.seq, hold.why = seq, why
        if options is not PLAIN_OPTIONS:
            hold.metadata, hold.lock_delay = options.metadata, options.lock_delay_ms
            if options.mode == PERMITS:
                lock.capacity = options.capacity
        return (OK, hold.token, lease.deadline - ledger.clock, None)

    def _queue(
        self, lock: Lock, client: Client, lease: Lease | None, seq: int, ttl: int, wait: int, options: Options
    ) -> Answer:
        ledger = self._ledger
        tenant = client.tenant
        if lock.queue is not None and len(lock.queue) >= WAITERS_PER_LOCK_MAX:
            return refused(Status.TOO_MANY_WAITERS, WAITERS_PER_LOCK_MAX)
        if tenant.waiters >= tenant.waiters_max:
            return refused(Status.QUOTA_WAITERS, tenant.waiters_max)
        detail = self._obstacle(lock)
        if lease is None:
            lease = ledger.open_lease(client, seq, b"", ttl)
        else:
            ledger.touch_lease(lease)
        waiter = Waiter(lock, lease, seq, ledger.clock, ledger.clock + (wait or 2 * CACHE_TTL_MS_MAX))
        waiter.mode, waiter.permits, waiter.capacity = options.mode, options.permits, options.capacity
        waiter.metadata, waiter.lock_delay = options.metadata, options.lock_delay_ms
        waiter.steals, waiter.patient = options.steal, wait > 0
        if options.mode == PERMITS:
            lock.capacity = options.capacity
        ledger.enqueue(lock, waiter)
        return (QUEUED, 0, lease.deadline - ledger.clock, detail)

    def _obstacle(self, lock: Lock) -> list[int]:
        """[waiters ahead, ms until the first holder's lease would end, ms of lock delay]."""
        clock = self._ledger.clock
        first = min((hold.told if hold.leaving else hold.lease.deadline for hold in lock.holders[:16]), default=clock)
        return [len(lock.queue or ()), max(first - clock, 0), max(lock.closed_until - clock, 0)]

    # Taken away.

    def _steal(
        self, lock: Lock, client: Client, lease: Lease | None, seq: int, ttl: int, wait: int, options: Options
    ) -> Answer:
        ledger = self._ledger
        if not options.now:
            answer = self._queue(lock, client, lease, seq, ttl, wait or WAIT_MS_MAX, options)
            if answer[0] == QUEUED:
                for hold in lock.holders:
                    ledger.take_away(hold, Reason.STOLEN, options.reason)
            return answer
        if client.tenant.held - len(lock.holders) >= client.tenant.held_max:
            return refused(Status.QUOTA_HELD, client.tenant.held_max)
        tenant, slot, name = lock.tenant, lock.slot, lock.name
        for hold in list(lock.holders):
            if not hold.leaving:
                ledger.lose(hold, Reason.STOLEN, options.reason)
            ledger.free(hold, Reason.STOLEN)
        lock.closed_until = 0
        lock = ledger.row(tenant, slot, name)
        return self._grant(lock, client, lease, seq, ttl, options, STOLEN)

    def _force(
        self,
        client: Client,
        seq: int,
        slot: int,
        name: str,
        number: int,
        token: int,
        ttl: int,
        wait: int,
        options: Options,
    ) -> Answer:
        ledger = self._ledger
        if len(options.reason.encode()) > REASON_BYTES_MAX:
            return invalid(f"a reason has at most {REASON_BYTES_MAX} bytes")
        lock = ledger.find(client.tenant, slot, name)
        if lock is None:
            return NOT_HELD
        ledger.touch_slot(slot)
        ledger.free_dead(lock)
        victims = [hold for hold in lock.holders if token in (0, hold.token) and hold.mode != CACHE]
        if not victims:
            return NOT_HELD
        for hold in victims:
            if not options.now:
                ledger.take_away(hold, Reason.FORCED, options.reason)
                continue
            if not hold.leaving:
                ledger.lose(hold, Reason.FORCED, options.reason)
            ledger.free(hold, Reason.FORCED)
        ledger.pass_on(lock)
        return DONE

    # Letting go.

    def _release(
        self,
        client: Client,
        seq: int,
        slot: int,
        name: str,
        number: int,
        token: int,
        ttl: int,
        wait: int,
        options: Options,
    ) -> Answer:
        ledger = self._ledger
        lock = ledger.find(client.tenant, slot, name)
        if lock is None:
            return NOT_HELD
        for hold in lock.holders:
            if hold.token == token:
                break
        else:
            return NOT_HELD
        ledger.touch_slot(slot)
        if ledger.is_over(hold):
            ledger.release_dead(hold)
            return NOT_HELD
        if hold.count > 1:
            hold.count -= 1
            return DONE
        if hold.lease.client is not client:
            ledger.lose(hold, Reason.RELEASED)
        ledger.free(hold, Reason.RELEASED)
        ledger.pass_on(lock)
        return DONE

    def _cancel(
        self,
        client: Client,
        seq: int,
        slot: int,
        name: str,
        number: int,
        token: int,
        ttl: int,
        wait: int,
        options: Options,
    ) -> Answer:
        """Void the acquire whose seq is ``token``: free what it got, or make a later copy of it come to nothing."""
        ledger = self._ledger
        if not 0 < token < seq:
            return invalid("a cancel names an acquire with a lower seq")
        given: Answer | None = None
        if token >= client.floor:
            given = client.answers.get(token)
            client.answers[token] = CANCELLED
            if given is None or given[0] not in (OK, QUEUED):
                return DONE
        lease = client.leases.get(number or token)
        if lease is None:
            return DONE
        item = lease.find_seq(token)
        if item is None and given is not None and given[0] == OK and lease.held is not None:
            item = lease.held.get(given[1])
        if item is None:
            return DONE
        lock = item.lock
        if isinstance(item, Waiter):
            ledger.dequeue(item)
            if lease.size() == 0 and not lease.session:
                ledger.bury(lease)
        elif item.count > 1:
            ledger.touch_slot(lock.slot)
            item.count -= 1
            return DONE
        else:
            ledger.free(item, Reason.CANCELLED)
        ledger.pass_on(lock)
        return DONE
