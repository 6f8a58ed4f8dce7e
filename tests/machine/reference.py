"""The naive reference of the lock machine: entries in, answers and events out (``docs/design.md``, 4 to 6).

It takes what an entry means, not its bytes. Of ``INVALID`` it says no reason, for the words are the machine's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from holdfast.wire.errors import InvalidName
from holdfast.wire.frames import GONE, Allotment, Kind, Mode, Options, Reason, Section, Stamped, Status
from holdfast.wire.limits import (
    ANSWERS_PER_CLIENT_MAX,
    CACHE_TTL_MS_MAX,
    LOCK_DELAY_MS_MAX,
    METADATA_BYTES_MAX,
    PERMITS_MAX,
    REASON_BYTES_MAX,
    SESSION_ID_BYTES,
    TTL_MS_MAX,
    TTL_MS_MIN,
    WAIT_MS_MAX,
)
from holdfast.wire.names import check_name, slot_of
from holdfast_shard.machine import Genesis
from tests.machine.reference_book import Book
from tests.machine.reference_rows import Allotted, Client, Hold, Lease, Name, Waiter

Answer = tuple[int, int, int, object]
"""(status, token, deadline, detail)."""

DONE: Answer = (Status.OK, 0, 0, None)
INVALID: Answer = (Status.INVALID, 0, 0, None)
NOT_HELD: Answer = (Status.NOT_HELD, 0, 0, None)
CANCELLED: Answer = (Status.CANCELLED, 0, 0, None)


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation out of its columns."""

    kind: int
    seq: int
    name: str
    lease: int
    token: int
    ttl: int
    wait: int
    options: Options


class Reference(Book):
    def __init__(self, freed_max: int, genesis: Genesis) -> None:
        super().__init__(freed_max)
        self.owned = frozenset(genesis.slots)
        for allotment in genesis.allotments:
            self._allot(allotment)
        self.term = 0
        self.base = 0

    # Entries.

    def apply(
        self, term: int, stamp: int | None, elapsed_ms: int, frames: list[list[Stamped]]
    ) -> tuple[list[list[list[Answer]]], list[object]] | None:
        """Answers by frame and section, and events; None when the entry is refused. No stamp: a term's first entry."""
        if term > self.term:
            self.term, self.base = term, self.clock
        if stamp is None:
            return [], []
        if stamp != term:
            return None
        self.advance(max(self.clock, self.base + elapsed_ms))
        answers = [[self._section(stamped) for stamped in sections] for sections in frames]
        self.settle()
        events: list[object] = list(self.events)
        self.events = []
        return answers, events

    def owns(self, name: Name) -> bool:
        return name[1] != "" and slot_of(*name) in self.owned

    def _section(self, stamped: Stamped) -> list[Answer]:
        section = stamped.section
        if stamped.tenant < 0:
            return [INVALID] * len(section.kinds)
        if stamped.tenant == 0:
            return [self._system(asked) for asked in operations_of(section)]
        if section.client == 0:
            if section.kinds != bytes([Kind.REGISTER]):
                return [(Status.UNREGISTERED, 0, 0, None)] * len(section.kinds)
            if self.allotment(stamped.tenant).version == GONE:
                return [(Status.UNREGISTERED, 0, 0, None)]
            number = 1 + max(self.client_numbers.get(stamped.tenant, [0]))
            self.client_numbers.setdefault(stamped.tenant, []).append(number)
            self.clients.append(Client(number, stamped.tenant, self.clock))
            return [(Status.OK, number, 0, None)]
        client = self.client(stamped.tenant, section.client)
        if client is None:
            return [(Status.UNREGISTERED, 0, 0, None)] * len(section.kinds)
        client.seen = self.clock
        client.floor = max(client.floor, section.floor)
        client.answers = {seq: answer for seq, answer in client.answers.items() if seq >= client.floor}
        return [self._once(client, asked) for asked in operations_of(section)]

    def _system(self, asked: Asked) -> Answer:
        allotment = asked.options.allotment
        if asked.kind != Kind.ALLOT or allotment is None or allotment.tenant <= 0:
            return INVALID
        self._allot(allotment)
        return DONE

    def _allot(self, allotment: Allotment) -> None:
        if allotment.version > self.allotment(allotment.tenant).version:
            self.allotted[allotment.tenant] = Allotted(*msgspec.structs.astuple(allotment)[1:])
            if allotment.version == GONE:
                self.gone[allotment.tenant] = self.clock

    def _once(self, client: Client, asked: Asked) -> Answer:
        if asked.seq in client.answers:
            return client.answers[asked.seq]
        if asked.seq < client.floor:
            return (Status.STALE, 0, 0, None)
        if asked.seq >= client.floor + ANSWERS_PER_CLIENT_MAX:
            return (Status.TOO_FAR, 0, 0, None)
        operation = {
            Kind.OPEN: self._open, Kind.ACQUIRE: self._acquire, Kind.RELEASE: self._release,
            Kind.KEEPALIVE: self._keepalive, Kind.CANCEL: self._cancel, Kind.FORCE: self._force, Kind.END: self._end,
            Kind.RENEW: self._renew,
        }.get(Kind(asked.kind))  # fmt: skip
        if operation is None:
            return INVALID
        named = asked.kind in (Kind.ACQUIRE, Kind.RELEASE, Kind.FORCE, Kind.RENEW)
        if named and not self.owns((client.tenant, asked.name)):
            return (Status.MOVED, 0, 0, None)
        answer = operation(client, asked)
        client.answers[asked.seq] = answer
        return answer

    # Limits of the tenant.

    def _long(self, tenant: int, ttl: int) -> Answer | None:
        ttl_max = self.allotment(tenant).ttl_ms
        return (Status.QUOTA_TTL, 0, 0, ttl_max) if ttl > ttl_max else None

    def _text(self, tenant: int, options: Options) -> Answer | None:
        if not good_texts(options):
            return INVALID
        metadata_max = self.allotment(tenant).metadata_bytes
        return (Status.QUOTA_METADATA, 0, 0, metadata_max) if len(options.metadata) > metadata_max else None

    # Leases.

    def _open(self, client: Client, asked: Asked) -> Answer:
        options, number = asked.options, asked.lease or asked.seq
        if len(options.session) != SESSION_ID_BYTES or not good_ttl(asked.ttl):
            return INVALID
        wrong = self._long(client.tenant, asked.ttl) or self._text(client.tenant, options)
        if wrong is not None:
            return wrong
        if self.lease(client, number) or self.session(client.tenant, options.session):
            return INVALID
        sessions_max = self.allotment(client.tenant).sessions
        if len(self.sessions(client.tenant)) >= sessions_max:
            return (Status.QUOTA_SESSIONS, 0, 0, sessions_max)
        deadline = self.clock + asked.ttl
        self.leases.append(Lease(client, number, deadline, options.session, asked.ttl, options.metadata))
        return (Status.OK, 0, asked.ttl, None)

    def _keepalive(self, client: Client, asked: Asked) -> Answer:
        by_id = asked.options.session
        lease = self.session(client.tenant, by_id) if by_id else self.lease(client, asked.lease)
        if lease is None or lease.dead or lease.doomed:
            return self._ended(client, asked.lease, lease)
        if not good_ttl(asked.ttl):
            return INVALID
        own = [] if lease.session else self.holds_of(lease)
        if own and own[0].taken:
            return (Status.CHANGED, 0, lease.deadline - self.clock, None)
        if own and own[0].mode == Mode.CACHE:
            return INVALID
        lease.ttl = min(asked.ttl, self.allotment(client.tenant).ttl_ms)
        lease.deadline = max(lease.deadline, self.clock + lease.ttl)
        status = Status.OK if asked.token == lease.change else Status.CHANGED
        return (status, 0, lease.deadline - self.clock, None)

    def _ended(self, client: Client, number: int, lease: Lease | None) -> Answer:
        if lease is not None:
            return (Status.LEASE_ENDED, 0, 0, [lease.dead or lease.doomed, lease.text])
        known = next((row for row in client.ended if row[1] == number), (0, 0, 0, ""))
        return (Status.LEASE_ENDED, 0, 0, [known[2], known[3]])

    def _end(self, client: Client, asked: Asked) -> Answer:
        options = asked.options
        if not options.session:
            lease = self.lease(client, asked.lease)
            if lease is None or lease.dead:
                return self._ended(client, asked.lease, lease)
            self.kill(lease, Reason.RELEASED)
            return DONE
        wrong = self._text(client.tenant, options)
        if wrong is not None:
            return wrong
        session = self.session(client.tenant, options.session)
        if session is None:
            return self._ended(client, 0, None)
        if options.now:
            self.kill(session, Reason.SESSION_ENDED, options.reason)
        elif not session.doomed:
            self.doom(session, Reason.SESSION_ENDED, options.reason)
        return DONE

    def _renew(self, client: Client, asked: Asked) -> Answer:
        name, by_id = (client.tenant, asked.name), asked.options.session
        if (not by_id and not good_ttl(asked.ttl)) or not good_name(asked.name):
            return INVALID
        hold = next((hold for hold in self.holders(name) if hold.token == asked.token), None)
        if hold is None:
            return NOT_HELD
        if self.is_over(hold):
            self.release_dead(hold)
            return NOT_HELD
        lease = hold.lease
        if hold.mode == Mode.CACHE:
            return INVALID
        if by_id:
            session = self.session(client.tenant, by_id)
            if session is None or session.doomed:
                return self._ended(client, 0, session)
            if lease is session and not hold.taken:
                return (Status.OK, hold.token, session.deadline - self.clock, None)
            if lease is not session and not lease.session and not hold.taken:
                hold.lease, hold.seq = session, 0
                session.deadline = max(session.deadline, lease.deadline)
                self.bury(lease)
                session.change += 1
                return (Status.OK, hold.token, session.deadline - self.clock, None)
        if lease.session and not (by_id and lease.session == by_id):
            return INVALID
        if hold.taken:
            return (Status.CHANGED, 0, hold.taken[1] - self.clock, [hold.taken[0], hold.taken_text])
        ttl = min(asked.ttl, self.allotment(client.tenant).ttl_ms)
        lease.deadline = max(lease.deadline, self.clock + ttl)
        return (Status.OK, hold.token, lease.deadline - self.clock, None)

    # Letting go.

    def _release(self, client: Client, asked: Asked) -> Answer:
        name = (client.tenant, asked.name)
        if not good_name(asked.name):
            return INVALID
        hold = next((hold for hold in self.holders(name) if hold.token == asked.token), None)
        if hold is None:
            return NOT_HELD
        if self.is_over(hold):
            self.release_dead(hold)
            return NOT_HELD
        if hold.count > 1:
            hold.count -= 1
            return DONE
        if hold.lease.client is not client or hold.seq == 0:
            self.lose(hold, Reason.RELEASED)
        self.free(hold, Reason.RELEASED)
        self.pass_on(name)
        return DONE

    def _force(self, client: Client, asked: Asked) -> Answer:
        name = (client.tenant, asked.name)
        wrong = self._text(client.tenant, asked.options)
        if wrong is not None:
            return wrong
        if not good_name(asked.name):
            return INVALID
        self.free_dead(name)
        victims = [hold for hold in self.holders(name) if asked.token in (0, hold.token) and hold.mode != Mode.CACHE]
        for hold in victims:
            (self.take_now if asked.options.now else self.take_away)(hold, Reason.FORCED, asked.options.reason)
        if not victims:
            return NOT_HELD
        self.pass_on(name)
        return DONE

    def _cancel(self, client: Client, asked: Asked) -> Answer:
        target = asked.token
        if not 0 < target < asked.seq:
            return INVALID
        given = client.answers.get(target)
        if target >= client.floor:
            client.answers[target] = CANCELLED
            if given is None or given[0] not in (Status.OK, Status.QUEUED):
                return DONE
        lease = self.lease(client, asked.lease or target)
        for waiter in self.waiters_of(lease) if lease else []:
            if waiter.seq == target:
                self.waiters.remove(waiter)
                if not waiter.lease.session:
                    self.bury(waiter.lease)
                self.pass_on(waiter.name)
                return DONE
        for hold in self.holds_of(lease) if lease else []:
            if hold.seq == target or (given is not None and hold.token == given[1] and hold.name[1] == asked.name):
                if hold.count > 1:
                    hold.count -= 1
                else:
                    self.free(hold, Reason.CANCELLED)
                    self.pass_on(hold.name)
                return DONE
        return DONE

    # Acquiring.

    def _acquire(self, client: Client, asked: Asked) -> Answer:
        options, session = asked.options, None
        if asked.lease:
            session = self.lease(client, asked.lease)
            if session is None or not session.session or session.dead or session.doomed:
                return self._ended(client, asked.lease, session)
        else:
            wrong = INVALID if not good_ttl(asked.ttl) else self._long(client.tenant, asked.ttl)
            if wrong is not None:
                return wrong
            if self.lease(client, asked.seq):
                return INVALID
        if not 0 <= asked.wait <= WAIT_MS_MAX or not good_options(options, asked):
            return INVALID
        wrong = self._text(client.tenant, options)
        if wrong is not None:
            return wrong
        if not good_name(asked.name):
            return INVALID
        name = (client.tenant, asked.name)
        part = self.session(client.tenant, options.session) if options.session and session is None else None
        if options.session and session is None and (part is None or part.doomed):
            return self._ended(client, 0, part)
        self.free_dead(name)
        again = self._again(name, options.request) if options.request else None
        if again is not None:
            return again
        holders, queue = self.holders(name), self.queue(name)
        if options.mode == Mode.PERMITS and self.capacity(name) not in (0, options.capacity):
            return (Status.CAPACITY_MISMATCH, 0, 0, [self.capacity(name), options.capacity])
        for hold in holders:
            if session is not None and hold.lease is session and hold.taken is None:
                if not options.reentrant or options.mode != hold.mode:
                    return (Status.ALREADY_HELD, 0, 0, hold.token)
                hold.count += 1
                return (Status.OK, hold.token, session.deadline - self.clock, None)
        if session is not None and any(waiter.lease is session for waiter in queue):
            return (Status.ALREADY_HELD, 0, 0, 0)
        for hold in holders:
            if part is not None and hold.lease is part and hold.taken is None:
                return (Status.ALREADY_HELD, 0, 0, hold.token)
        cached = bool(holders) and holders[0].mode == Mode.CACHE
        if not self.is_closed(name) and (not queue or options.steal):
            if self.fits(name, options.mode, options.permits):
                return self._grant(name, client, session, asked, "free")
            if cached:
                return self._queue(name, client, session, asked, asked.wait)
        if options.steal and not cached:
            return self._steal(name, client, session, asked)
        if options.mode == Mode.CACHE or asked.wait == 0:
            return (Status.BUSY, 0, 0, self._obstacle(name, len(queue)))
        return self._queue(name, client, session, asked, asked.wait)

    def _again(self, name: Name, request: bytes) -> Answer | None:
        """The same request, through whichever client: its hold is answered again, its place in the queue given up."""
        for hold in self.holders(name):
            if hold.request == request and hold.taken is None:
                return (Status.OK, hold.token, hold.lease.deadline - self.clock, None)
        for waiter in self.queue(name):
            if waiter.request == request and not self.is_void(waiter):
                self.end_ticket(waiter, Reason.CANCELLED)
                self.pass_on(name)
        return None

    def _lease_for(self, client: Client, session: Lease | None, asked: Asked) -> Lease:
        if session is not None:
            return session
        lease = Lease(client, asked.seq, self.clock + asked.ttl)
        self.leases.append(lease)
        return lease

    def _grant(self, name: Name, client: Client, session: Lease | None, asked: Asked, why: str) -> Answer:
        options, held_max = asked.options, self.allotment(client.tenant).held
        if options.mode != Mode.CACHE and self.held(client.tenant) >= held_max:
            return (Status.QUOTA_HELD, 0, 0, held_max)
        lease = self._lease_for(client, session, asked)
        permits = options.permits if options.mode == Mode.PERMITS else 1
        token = self.token(client.tenant)
        self.holds.append(
            Hold(
                name, lease, asked.seq, token, options.mode, permits, options.capacity, self.clock, self.clock,
                options.metadata, options.lock_delay_ms, why, options.request,
            )
        )  # fmt: skip
        return (Status.OK, token, lease.deadline - self.clock, None)

    def _queue(self, name: Name, client: Client, session: Lease | None, asked: Asked, wait: int) -> Answer:
        options, waiters_max = asked.options, self.allotment(client.tenant).waiters
        per_lock = self.allotment(client.tenant).waiters_per_lock
        if len(self.queue(name)) >= per_lock:
            return (Status.TOO_MANY_WAITERS, 0, 0, per_lock)
        if self.waiting(client.tenant) >= waiters_max:
            return (Status.QUOTA_WAITERS, 0, 0, waiters_max)
        ahead = 0 if options.steal else len(self.queue(name))
        obstacle = self._obstacle(name, ahead)
        lease = self._lease_for(client, session, asked)
        # A try waits for cachers alone, and they are gone before this.
        until = self.clock + (wait or 2 * CACHE_TTL_MS_MAX)
        permits = options.permits if options.mode == Mode.PERMITS else 1
        self.enqueue(
            Waiter(
                name, lease, asked.seq, self.clock, until, options.mode, permits, options.capacity, options.metadata,
                options.lock_delay_ms, options.steal, wait > 0, options.request,
            )
        )  # fmt: skip
        return (Status.QUEUED, 0, lease.deadline - self.clock, obstacle)

    def _obstacle(self, name: Name, ahead: int) -> list[int]:
        """[waiters ahead, until the first holder's lease ends, of the lock delay]."""
        first = min((self.ends(hold) for hold in self.holders(name)), default=self.clock)
        return [ahead, max(first - self.clock, 0), max(self.closed.get(name, 0) - self.clock, 0)]

    def _steal(self, name: Name, client: Client, session: Lease | None, asked: Asked) -> Answer:
        holders, held_max = self.holders(name), self.allotment(client.tenant).held
        if not asked.options.now:
            answer = self._queue(name, client, session, asked, asked.wait or WAIT_MS_MAX)
            for hold in holders if answer[0] == Status.QUEUED else []:
                self.take_away(hold, Reason.STOLEN, asked.options.reason)
            return answer
        if self.held(client.tenant) - len(holders) >= held_max:
            return (Status.QUOTA_HELD, 0, 0, held_max)
        for hold in holders:
            self.take_now(hold, Reason.STOLEN, asked.options.reason)
        self.closed.pop(name, None)
        answer = self._grant(name, client, session, asked, "stolen")
        self.pass_on(name)
        return answer


def operations_of(section: Section) -> list[Asked]:
    columns = zip(
        section.kinds, section.seqs, section.names, section.leases, section.tokens, section.ttls, section.waits,
        strict=True,
    )  # fmt: skip
    return [
        Asked(kind, seq, name, lease, token, ttl, wait, section.options.get(at, Options()))
        for at, (kind, seq, name, lease, token, ttl, wait) in enumerate(columns)
    ]


def good_ttl(ttl: int) -> bool:
    return TTL_MS_MIN <= ttl <= TTL_MS_MAX


def good_texts(options: Options) -> bool:
    return len(options.metadata) <= METADATA_BYTES_MAX and len(options.reason.encode()) <= REASON_BYTES_MAX


def good_name(name: str) -> bool:
    try:
        check_name(name)
    except InvalidName:
        return False
    return True


def good_options(options: Options, asked: Asked) -> bool:
    if not 0 <= options.mode <= Mode.CACHE or not 0 <= options.lock_delay_ms <= LOCK_DELAY_MS_MAX:
        return False
    if options.mode == Mode.PERMITS and not 1 <= options.permits <= options.capacity <= PERMITS_MAX:
        return False
    if len(options.request) not in (0, 16):
        return False
    if options.mode == Mode.CACHE:
        takes = options.steal or options.reentrant or options.lock_delay_ms or options.request
        if asked.lease or asked.ttl > CACHE_TTL_MS_MAX or takes:
            return False
    return True
