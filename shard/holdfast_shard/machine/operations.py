"""The operations other than acquire: what each is answered and does to the ledger (``docs/design.md``, 6.1)."""

from __future__ import annotations

from holdfast.wire.frames import Kind, Options, Reason, Status
from holdfast.wire.limits import LEASES_PER_CLIENT_MAX, LOCKS_PER_SESSION_MAX, SESSION_ID_BYTES

from .acquire import Acquire
from .answering import (
    CANCELLED,
    CHANGED,
    DONE,
    NOT_HELD,
    OK,
    QUEUED,
    Handler,
    invalid,
    lease_ended,
    refused,
    wrong_name,
    wrong_texts,
    wrong_ttl,
)
from .ledger import Ledger
from .rows import CACHE, OF_SESSIONS, Answer, Client, Hold, Lease, Waiter

NAMED = frozenset({int(Kind.ACQUIRE), int(Kind.RELEASE), int(Kind.FORCE), int(Kind.RENEW)})
"""Kinds that need a slot of this group."""


class Operations:
    __slots__ = ("_ledger", "handlers")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.handlers: dict[int, Handler] = {
            int(Kind.OPEN): self._open,
            int(Kind.ACQUIRE): Acquire(ledger),
            int(Kind.RELEASE): self._release,
            int(Kind.KEEPALIVE): self._keepalive,
            int(Kind.CANCEL): self._cancel,
            int(Kind.FORCE): self._force,
            int(Kind.END): self._end,
            int(Kind.RENEW): self._renew,
        }

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
        tenant = client.tenant
        number = number or seq
        if len(options.session) != SESSION_ID_BYTES:
            return invalid(f"a session id has {SESSION_ID_BYTES} bytes")
        wrong = wrong_ttl(ttl, tenant) or wrong_texts(options, tenant)
        if wrong is not None:
            return wrong
        if number in client.leases or options.session in ledger.sessions.get(tenant.number, ()):
            return invalid("this session is open already")
        if len(client.leases) >= LEASES_PER_CLIENT_MAX:
            return refused(Status.TOO_MANY_LEASES, LEASES_PER_CLIENT_MAX)
        if tenant.sessions >= tenant.sessions_max:
            ledger.note_refusal(tenant, OF_SESSIONS)
            return refused(Status.QUOTA_SESSIONS, tenant.sessions_max)
        ledger.open_session(client, number, options.session, ttl, options.metadata)
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
        by_id = options.session
        lease = self._ledger.session(client.tenant, by_id) if by_id else client.leases.get(number)
        if lease is None or lease.dead or lease.doomed:
            return lease_ended(client, number, lease)
        wrong = wrong_ttl(ttl, client.tenant)
        if wrong is not None:
            if wrong[0] != Status.QUOTA_TTL:
                return wrong
            # A limit that was lowered takes nothing away: the lease goes on in shorter steps.
            ttl = client.tenant.ttl_max
        only = lease.only
        if type(only) is Hold:
            # A plain lease is its one hold: nothing of it may outlive what the holder was told.
            if only.taken is not None:
                return (CHANGED, 0, lease.deadline - self._ledger.clock, None)
            if only.mode == CACHE:
                return invalid("a cached 'not held' is not extended")
        self._ledger.extend(lease, ttl)
        status = OK if token == lease.change else CHANGED
        return (status, 0, lease.deadline - self._ledger.clock, None)

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
                return lease_ended(client, number, lease)
            ledger.kill(lease, Reason.RELEASED)
            return DONE
        wrong = wrong_texts(options, client.tenant)
        if wrong is not None:
            return wrong
        session = ledger.session(client.tenant, options.session)
        if session is None:
            return lease_ended(client, 0, None)
        if options.now:
            ledger.kill(session, Reason.SESSION_ENDED, options.reason)
        elif not session.doomed:
            ledger.doom(session, Reason.SESSION_ENDED, options.reason)
        return DONE

    def _renew(
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
        """Extend a plain lease by what it holds, whoever's it is; or hand what it holds over to a session."""
        ledger = self._ledger
        wrong = None if options.session else wrong_ttl(ttl, client.tenant)
        if wrong is not None:
            if wrong[0] != Status.QUOTA_TTL:
                return wrong
            # As with a keepalive.
            ttl = client.tenant.ttl_max
        lock = ledger.find(client.tenant, slot, name)
        if lock is None:
            return wrong_name(name) or NOT_HELD
        hold = ledger.hold_of(lock, token)
        if hold is None:
            return NOT_HELD
        if ledger.is_over(hold):
            ledger.release_dead(hold)
            return NOT_HELD
        lease = hold.lease
        if hold.mode == CACHE:
            return invalid("a cached 'not held' is neither extended nor handed over")
        if options.session:
            return self._hand_over(client, hold, options.session)
        if lease.session:
            return invalid("a session holds it: keep the session alive instead")
        if hold.taken is not None:
            return (CHANGED, 0, hold.taken.until - ledger.clock, [hold.taken.reason, hold.taken.text])
        ledger.extend(lease, ttl)
        return (OK, token, lease.deadline - ledger.clock, None)

    def _hand_over(self, client: Client, hold: Hold, session_id: bytes) -> Answer:
        ledger = self._ledger
        session = ledger.session(client.tenant, session_id)
        if session is None or session.doomed:
            return lease_ended(client, 0, session)
        mine = hold.lease is session
        if hold.lease.session and not mine:
            return invalid("another session holds it")
        if hold.taken is not None:
            return (CHANGED, 0, hold.taken.until - ledger.clock, [hold.taken.reason, hold.taken.text])
        if not mine:
            if session.size() >= LOCKS_PER_SESSION_MAX:
                return refused(Status.TOO_MANY_LOCKS, LOCKS_PER_SESSION_MAX)
            ledger.hand_over(hold, session)
        return (OK, hold.token, session.deadline - ledger.clock, None)

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
            return wrong_name(name) or NOT_HELD
        hold = ledger.hold_of(lock, token)
        if hold is None:
            return NOT_HELD
        if ledger.is_over(hold):
            ledger.release_dead(hold)
            return NOT_HELD
        if hold.count > 1:
            ledger.touch_slot(slot)
            hold.count -= 1
            ledger.show(lock)
            return DONE
        if hold.lease.client is not client or not hold.seq:
            # Also what was handed over to a session: whoever opened it may act for many.
            ledger.lose(hold, Reason.RELEASED)
        ledger.free(hold, Reason.RELEASED)
        ledger.pass_on(lock)
        return DONE

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
        wrong = wrong_texts(options, client.tenant)
        if wrong is not None:
            return wrong
        lock = ledger.find(client.tenant, slot, name)
        if lock is None:
            return wrong_name(name) or NOT_HELD
        ledger.free_dead(lock)
        victims = [hold for hold in lock.holders if token in (0, hold.token) and hold.mode != CACHE]
        if not victims:
            return NOT_HELD
        take = ledger.take_now if options.now else ledger.take_away
        for hold in victims:
            take(hold, Reason.FORCED, options.reason)
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
        item = None if lease is None else self._find(lease, token, given, slot, name)
        if item is None:
            return DONE
        lock = item.lock
        ledger.touch_slot(lock.slot)
        if isinstance(item, Waiter):
            ledger.dequeue(item)
            if not item.lease.session:
                ledger.bury(item.lease)
        elif item.count > 1:
            item.count -= 1
            ledger.show(lock)
            return DONE
        else:
            ledger.free(item, Reason.CANCELLED)
        ledger.pass_on(lock)
        return DONE

    def _find(self, lease: Lease, seq: int, given: Answer | None, slot: int, name: str) -> Hold | Waiter | None:
        """What the acquire ``seq`` got through ``lease``; by its name where that finds it, for leases may be large."""
        lock = self._ledger.find(lease.client.tenant, slot, name)
        if lock is not None:
            waiter = lock.queue.get((lease.client.number, seq)) if lock.queue is not None else None
            if waiter is not None:
                return waiter if waiter.lease is lease else None
            # An acquire that found the lock held by its own session, ``reentrant``, was answered that hold's token.
            for hold in lock.holders:
                if hold.lease is lease and (hold.seq == seq or (given is not None and hold.token == given[1])):
                    return hold
        return lease.find_seq(seq)
