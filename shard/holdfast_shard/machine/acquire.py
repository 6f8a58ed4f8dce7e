"""Acquire: granted at once, queued, busy or refused; and stealing (``docs/design.md``, 6.1 to 6.3)."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.wire.frames import Options, Reason, Status
from holdfast.wire.limits import (
    CACHE_TTL_MS_MAX,
    HOLDERS_PER_LOCK_MAX,
    LEASES_PER_CLIENT_MAX,
    LOCK_DELAY_MS_MAX,
    LOCKS_PER_SESSION_MAX,
    PERMITS_MAX,
    REENTRANCY_MAX,
    REQUEST_ID_BYTES,
    WAIT_MS_MAX,
)

from .answering import (
    BUSY,
    OK,
    PLAIN_OPTIONS,
    QUEUED,
    invalid,
    lease_ended,
    refused,
    wrong_name,
    wrong_texts,
    wrong_ttl,
)
from .ledger import Ledger
from .rows import (
    CACHE,
    EXCLUSIVE,
    FREE,
    OF_HELD,
    OF_WAITERS,
    PERMITS,
    STOLEN,
    Answer,
    Client,
    Hold,
    Lease,
    Lock,
    Session,
    Tenant,
    Waiter,
)

TRY_WAIT_MS = 2 * CACHE_TTL_MS_MAX
"""A try waits for cachers, who are gone before that."""
LOOKED_AT_MAX = 16
"""Holders looked at to say how long the first of them still has: an estimate for whoever is turned away."""


class Acquire:
    __slots__ = ("_ledger",)

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __call__(
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
        session: Session | None = None
        if number:
            lease = client.leases.get(number)
            if not isinstance(lease, Session) or lease.dead or lease.doomed:
                return lease_ended(client, number, lease)
            session = lease
        wrong = self._check(client, session, seq, ttl, wait, options)
        if wrong is not None:
            return wrong
        if options.session and session is None:
            # On behalf of a session that another client may have opened: what is got is handed over to it later.
            part = ledger.session(client.tenant, options.session)
            if part is None or part.doomed:
                return lease_ended(client, 0, part)
        lock = ledger.find(client.tenant, slot, name)
        if lock is None:
            wrong = wrong_name(name)
            if wrong is not None:
                return wrong
            ledger.touch_slot(slot)
        else:
            ledger.touch_slot(slot)
            ledger.free_dead(lock)
            again = self._again(lock, options.request) if lock.requests else None
            if again is not None:
                return again
        # Freeing may have tidied the row away, and a refusal leaves none.
        lock = ledger.row(client.tenant, slot, name)
        if lock.is_held or lock.queue is not None or lock.closed_until > ledger.clock:
            return self._contend(lock, client, session, seq, ttl, wait, options)
        answer = self._grant_free(lock, client, session, seq, ttl, options, FREE)
        if answer[0] != OK:
            ledger.tidy(lock)
        return answer

    def _check(
        self, client: Client, session: Session | None, seq: int, ttl: int, wait: int, options: Options
    ) -> Answer | None:
        if session is None:
            wrong = wrong_ttl(ttl, client.tenant)
            if wrong is not None:
                return wrong
            if seq in client.leases:
                return invalid("this seq names a lease already")
            if len(client.leases) >= LEASES_PER_CLIENT_MAX:
                return refused(Status.TOO_MANY_LEASES, LEASES_PER_CLIENT_MAX)
        if wait < 0 or wait > WAIT_MS_MAX:
            return invalid(f"wait is 0 to {WAIT_MS_MAX} ms")
        return None if options is PLAIN_OPTIONS else _check_options(options, session, ttl, client.tenant)

    def _contend(
        self, lock: Lock, client: Client, session: Session | None, seq: int, ttl: int, wait: int, options: Options
    ) -> Answer:
        """Acquire of a name that is held, awaited or closed."""
        ledger = self._ledger
        mode = options.mode
        if mode == PERMITS and lock.capacity != options.capacity and lock.is_semaphore:
            return refused(Status.CAPACITY_MISMATCH, [lock.capacity, options.capacity])
        if session is not None:
            mine = self._mine(lock, session, options)
            if mine is not None:
                return mine
        elif options.session:
            for hold in lock.holders:
                if hold.lease.session == options.session and hold.taken is None:
                    return refused(Status.ALREADY_HELD, hold.token)
        holders = lock.holders
        # What fits beside the holders takes nothing from anybody, also when it steals; it only passes the queue.
        if lock.closed_until <= ledger.clock and (lock.queue is None or options.steal):
            if ledger.fits(lock, mode, options.permits):
                return self._grant_free(lock, client, session, seq, ttl, options, FREE)
            if mode != EXCLUSIVE and len(holders) >= HOLDERS_PER_LOCK_MAX and holders[0].mode == mode:
                return refused(Status.TOO_MANY_HOLDERS, HOLDERS_PER_LOCK_MAX)
            if mode != CACHE and holders[0].mode == CACHE:
                return self._queue(lock, client, session, seq, ttl, wait, options)
        if options.steal and not (holders and holders[0].mode == CACHE):
            return self._steal(lock, client, session, seq, ttl, wait, options)
        if mode == CACHE or wait == 0:
            return (BUSY, 0, 0, self._obstacle(lock))
        return self._queue(lock, client, session, seq, ttl, wait, options)

    def _again(self, lock: Lock, request: bytes) -> Answer | None:
        """The answer when this very request holds the name already. One that waits leaves the queue: whoever asks again
        awaits nothing of the first copy any more."""
        ledger = self._ledger
        item = lock.requests.get(request) if lock.requests else None
        if isinstance(item, Hold):
            return None if item.taken is not None else (OK, item.token, item.lease.deadline - ledger.clock, None)
        if item is not None and not ledger.is_void(item):
            ledger.end_ticket(item, Reason.CANCELLED)
            ledger.pass_on(lock)
        return None

    def _mine(self, lock: Lock, session: Session, options: Options) -> Answer | None:
        """The answer when the session holds or awaits the name already."""
        holds: Iterable[Hold] = lock.holders
        if len(session.held) < len(lock.holders):
            holds = session.held.values()
        mine = [hold for hold in holds if hold.lease is session and hold.lock is lock and hold.taken is None]
        if mine:
            # Several when one was handed over to it; a session's holds are in no order that survives a snapshot.
            hold = min(mine, key=_token_of)
            if not options.reentrant or hold.mode != options.mode or hold.count >= REENTRANCY_MAX:
                return refused(Status.ALREADY_HELD, hold.token)
            hold.count += 1
            self._ledger.show(lock)
            return (OK, hold.token, session.deadline - self._ledger.clock, None)
        if lock.queue is None or not session.waiting:
            return None
        waiters: Iterable[Waiter] = session.waiting.values()
        if len(lock.queue) < len(session.waiting):
            waiters = lock.queue.values()
        if any(waiter.lease is session and waiter.lock is lock for waiter in waiters):
            return refused(Status.ALREADY_HELD, 0)
        return None

    def _grant_free(
        self, lock: Lock, client: Client, session: Session | None, seq: int, ttl: int, options: Options, why: int
    ) -> Answer:
        ledger = self._ledger
        tenant = client.tenant
        mode = options.mode
        if tenant.held >= tenant.held_max and mode != CACHE:
            ledger.note_refusal(tenant, OF_HELD)
            return refused(Status.QUOTA_HELD, tenant.held_max)
        lease: Lease
        if session is None:
            lease = ledger.open_lease(client, seq, ttl)
        elif session.size() >= LOCKS_PER_SESSION_MAX:
            return refused(Status.TOO_MANY_LOCKS, LOCKS_PER_SESSION_MAX)
        else:
            lease = session
        if options is PLAIN_OPTIONS:
            hold = ledger.grant(lock, lease, seq, EXCLUSIVE, 1)
        else:
            hold = ledger.grant(lock, lease, seq, mode, options.permits if mode == PERMITS else 1)
            hold.metadata, hold.lock_delay, hold.why = options.metadata, options.lock_delay_ms, why
            hold.request = options.request
            lock.note_request(hold)
            if mode == PERMITS:
                lock.capacity = options.capacity
        return (OK, hold.token, lease.deadline - ledger.clock, None)

    def _queue(
        self, lock: Lock, client: Client, session: Session | None, seq: int, ttl: int, wait: int, options: Options
    ) -> Answer:
        ledger = self._ledger
        tenant = client.tenant
        if session is not None and session.size() >= LOCKS_PER_SESSION_MAX:
            return refused(Status.TOO_MANY_LOCKS, LOCKS_PER_SESSION_MAX)
        if len(lock.queue or ()) >= tenant.waiters_per_lock:
            return refused(Status.TOO_MANY_WAITERS, tenant.waiters_per_lock)
        if tenant.waiters >= tenant.waiters_max:
            ledger.note_refusal(tenant, OF_WAITERS)
            return refused(Status.QUOTA_WAITERS, tenant.waiters_max)
        obstacle = self._obstacle(lock)
        if options.steal:
            # It passes those who wait.
            obstacle[0] = 0
        lease = session if session is not None else ledger.open_lease(client, seq, ttl)
        waiter = Waiter(lock, lease, seq, ledger.clock, ledger.clock + (wait or TRY_WAIT_MS))
        waiter.mode = options.mode
        if options.mode == PERMITS:
            waiter.permits, waiter.capacity = options.permits, options.capacity
            lock.capacity = options.capacity
        waiter.metadata, waiter.lock_delay = options.metadata, options.lock_delay_ms
        waiter.steals, waiter.patient, waiter.request = options.steal, wait > 0, options.request
        ledger.enqueue(lock, waiter)
        return (QUEUED, 0, lease.deadline - ledger.clock, obstacle)

    def _obstacle(self, lock: Lock) -> list[int]:
        """[waiters ahead, ms until the first holder's lease would end, ms of lock delay]."""
        clock = self._ledger.clock
        first = min(
            (hold.taken.until if hold.taken else hold.lease.deadline for hold in lock.holders[:LOOKED_AT_MAX]),
            default=clock,
        )
        return [len(lock.queue or ()), max(first - clock, 0), max(lock.closed_until - clock, 0)]

    def _steal(
        self, lock: Lock, client: Client, session: Session | None, seq: int, ttl: int, wait: int, options: Options
    ) -> Answer:
        ledger = self._ledger
        if not options.now:
            answer = self._queue(lock, client, session, seq, ttl, wait or WAIT_MS_MAX, options)
            if answer[0] == QUEUED:
                for hold in lock.holders:
                    ledger.take_away(hold, Reason.STOLEN, options.reason)
            return answer
        if client.tenant.held - len(lock.holders) >= client.tenant.held_max:
            ledger.note_refusal(client.tenant, OF_HELD)
            return refused(Status.QUOTA_HELD, client.tenant.held_max)
        if session is not None and session.size() >= LOCKS_PER_SESSION_MAX:
            return refused(Status.TOO_MANY_LOCKS, LOCKS_PER_SESSION_MAX)
        for hold in list(lock.holders):
            ledger.take_now(hold, Reason.STOLEN, options.reason)
        ledger.reopen(lock)
        answer = self._grant_free(lock, client, session, seq, ttl, options, STOLEN)
        ledger.pass_on(lock)
        return answer


def _token_of(hold: Hold) -> int:
    return hold.token


def _check_options(options: Options, session: Session | None, ttl: int, tenant: Tenant) -> Answer | None:
    mode = options.mode
    if not 0 <= mode <= CACHE:
        return invalid(f"mode is 0 to {CACHE}")
    if mode == PERMITS and not 1 <= options.permits <= options.capacity <= PERMITS_MAX:
        return invalid(f"permits is 1 to capacity, capacity at most {PERMITS_MAX}")
    if len(options.request) not in (0, REQUEST_ID_BYTES):
        return invalid(f"a request id has {REQUEST_ID_BYTES} bytes")
    if mode == CACHE:
        takes = options.steal or options.reentrant or options.lock_delay_ms or options.request
        if session is not None or ttl > CACHE_TTL_MS_MAX or takes:
            return invalid(f"a cached 'not held' has its own lease of at most {CACHE_TTL_MS_MAX} ms, and takes nothing")
    if not 0 <= options.lock_delay_ms <= LOCK_DELAY_MS_MAX:
        return invalid(f"lock delay is 0 to {LOCK_DELAY_MS_MAX} ms")
    return wrong_texts(options, tenant)
