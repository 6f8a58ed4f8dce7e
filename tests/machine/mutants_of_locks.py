"""Seeded bugs of the lock machine: of holds, queues, thefts, caches and counts."""

from __future__ import annotations

import pytest

from holdfast.wire.frames import Allotment, Answers, EventKind, Options, Reason, Section, Status
from holdfast_shard.machine import LockMachine
from holdfast_shard.machine.acquire import Acquire
from holdfast_shard.machine.answering import OK, refused
from holdfast_shard.machine.ledger import Ledger
from holdfast_shard.machine.operations import Operations
from holdfast_shard.machine.rows import (
    CACHE,
    EXCLUSIVE,
    PERMITS,
    SHARED,
    Answer,
    Client,
    Hold,
    Lease,
    Lock,
    Session,
    Tenant,
    Waiter,
)
from tests.machine.seeding import Mutants

MUTANTS = Mutants()


# Holds and tokens.


@MUTANTS.add
def token_from_a_per_lock_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.grant
    last: dict[tuple[int, int, str], int] = {}

    def grant(self: Ledger, lock: Lock, lease: Lease, seq: int, mode: int, permits: int) -> Hold:
        tenant, key = lock.tenant, (id(self), lock.tenant.number, lock.name)
        token, tenant.last_token = tenant.last_token, last.get(key, 0)
        hold = real(self, lock, lease, seq, mode, permits)
        last[key], tenant.last_token = tenant.last_token, token
        return hold

    monkeypatch.setattr(Ledger, "grant", grant)


@MUTANTS.add
def tokens_counted_for_all_tenants_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the gaps between its own a tenant could tell how much others do."""
    real = Ledger.grant

    def grant(self: Ledger, lock: Lock, lease: Lease, seq: int, mode: int, permits: int) -> Hold:
        lock.tenant.last_token = max(tenant.last_token for tenant in self.tenants.values())
        return real(self, lock, lease, seq, mode, permits)

    monkeypatch.setattr(Ledger, "grant", grant)


@MUTANTS.add
def clients_counted_for_all_tenants_together(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.register

    def register(self: Ledger, tenant: Tenant) -> Client:
        tenant.last_client = max(other.last_client for other in self.tenants.values())
        return real(self, tenant)

    monkeypatch.setattr(Ledger, "register", register)


@MUTANTS.add
def permits_overdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.fits

    def fits(self: Ledger, lock: Lock, mode: int, permits: int) -> bool:
        return real(self, lock, mode, permits - 1 if mode == PERMITS else permits)

    monkeypatch.setattr(Ledger, "fits", fits)


@MUTANTS.add
def another_capacity_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock, "is_semaphore", property(lambda self: False))


@MUTANTS.add
def readers_beside_a_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.fits

    def fits(self: Ledger, lock: Lock, mode: int, permits: int) -> bool:
        return real(self, lock, mode, permits) or (mode == SHARED and lock.holders[0].mode == EXCLUSIVE)

    monkeypatch.setattr(Ledger, "fits", fits)


@MUTANTS.add
def keepalive_shortens_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.extend

    def extend(self: Ledger, lease: Lease, ttl: int) -> None:
        lease.deadline = 0
        real(self, lease, ttl)

    monkeypatch.setattr(Ledger, "extend", extend)


@MUTANTS.add
def one_release_undoes_every_reentry(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Operations._release

    def release(self: Operations, client: Client, seq: int, slot: int, name: str, number: int, token: int,
                ttl: int, wait: int, options: Options) -> Answer:  # fmt: skip
        lock = self._ledger.find(client.tenant, slot, name)
        hold = lock and self._ledger.hold_of(lock, token)
        if hold:
            hold.count = 1
        return real(self, client, seq, slot, name, number, token, ttl, wait, options)

    monkeypatch.setattr(Operations, "_release", release)


# Queues.


@MUTANTS.add
def queue_lifo(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.enqueue

    def enqueue(self: Ledger, lock: Lock, waiter: Waiter) -> None:
        real(self, lock, waiter)
        assert lock.queue is not None
        lock.queue.move_to_end((waiter.lease.client.number, waiter.seq), last=False)

    monkeypatch.setattr(Ledger, "enqueue", enqueue)


@MUTANTS.add
def writer_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Acquire._contend

    def contend(self: Acquire, lock: Lock, client: Client, session: Session | None, seq: int, ttl: int, wait: int,
                options: Options) -> Answer:  # fmt: skip
        if options.mode == SHARED and session is None and lock.holders and lock.holders[0].mode == SHARED:
            return self._grant_free(lock, client, session, seq, ttl, options, 0)
        return real(self, lock, client, session, seq, ttl, wait, options)

    monkeypatch.setattr(Acquire, "_contend", contend)


@MUTANTS.add
def waiter_granted_after_its_lease_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "is_void", lambda self, waiter: waiter.until <= self.clock)


@MUTANTS.add
def heavy_waiter_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.pass_on

    def pass_on(self: Ledger, lock: Lock) -> None:
        if lock.queue is not None and lock.closed_until <= self.clock:
            fitting = [key for key, waiter in lock.queue.items() if self.fits(lock, waiter.mode, waiter.permits)]
            if fitting:
                lock.queue.move_to_end(fitting[0], last=False)
        real(self, lock)

    monkeypatch.setattr(Ledger, "pass_on", pass_on)


@MUTANTS.add
def missed_grant_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger._grant_ticket

    def grant_ticket(self: Ledger, lock: Lock, waiter: Waiter) -> None:
        real(self, lock, waiter)
        waiter.lease.change -= 1

    monkeypatch.setattr(Ledger, "_grant_ticket", grant_ticket)


# Taken away.


def without_event(monkeypatch: pytest.MonkeyPatch, kind: EventKind, reason: int | None) -> None:
    real = Ledger._tell

    def tell(self: Ledger, lease: Lease, told: int, seq: int, name: str, token: int, deadline: int, why: int,
             text: str = "") -> None:  # fmt: skip
        if told != kind or reason not in (None, why):
            real(self, lease, told, seq, name, token, deadline, why, text)

    monkeypatch.setattr(Ledger, "_tell", tell)


@MUTANTS.add
def lost_steal_event(monkeypatch: pytest.MonkeyPatch) -> None:
    without_event(monkeypatch, EventKind.LOST, Reason.STOLEN)


@MUTANTS.add
def steal_leaves_the_change_number(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.take_away

    def take_away(self: Ledger, hold: Hold, reason: int, text: str) -> None:
        change = hold.lease.change
        real(self, hold, reason, text)
        hold.lease.change = change

    monkeypatch.setattr(Ledger, "take_away", take_away)


@MUTANTS.add
def steal_does_not_wait_for_the_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "take_away", Ledger.take_now)


@MUTANTS.add
def ended_session_frees_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def doom(self: Ledger, lease: Session, reason: int, text: str) -> None:
        self.kill(lease, reason, text)

    monkeypatch.setattr(Ledger, "doom", doom)


@MUTANTS.add
def stolen_hold_is_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.extend

    def extend(self: Ledger, lease: Lease, ttl: int) -> None:
        real(self, lease, ttl)
        for hold in lease.holds():
            if hold.taken is not None:
                hold.taken.until = lease.deadline

    monkeypatch.setattr(Ledger, "extend", extend)


@MUTANTS.add
def ended_session_gets_its_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_void(self: Ledger, waiter: Waiter) -> bool:
        return waiter.lease.dead != 0 or waiter.until <= self.clock

    monkeypatch.setattr(Ledger, "is_void", is_void)


@MUTANTS.add
def reason_of_an_end_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "remember", lambda self, client, number, reason, text="": None)


# Cached "not held".


@MUTANTS.add
def cache_not_invalidated(monkeypatch: pytest.MonkeyPatch) -> None:
    without_event(monkeypatch, EventKind.RECALL, None)


@MUTANTS.add
def acquired_beside_a_cacher(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.fits

    def fits(self: Ledger, lock: Lock, mode: int, permits: int) -> bool:
        return real(self, lock, mode, permits) or all(hold.mode == CACHE for hold in lock.holders)

    monkeypatch.setattr(Ledger, "fits", fits)


@MUTANTS.add
def cache_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Operations._keepalive

    def keepalive(self: Operations, client: Client, seq: int, slot: int, name: str, number: int, token: int,
                  ttl: int, wait: int, options: Options) -> Answer:  # fmt: skip
        lease = client.leases.get(number)
        if lease is not None and isinstance(lease.only, Hold) and lease.only.mode == CACHE and not lease.dead:
            self._ledger.extend(lease, ttl)
            return (OK, 0, lease.deadline - self._ledger.clock, None)
        return real(self, client, seq, slot, name, number, token, ttl, wait, options)

    monkeypatch.setattr(Operations, "_keepalive", keepalive)


# Counts.


@MUTANTS.add
def count_not_decremented(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.free

    def free(self: Ledger, hold: Hold, reason: int) -> None:
        counts = hold.mode != CACHE and not self.is_over(hold) and reason == Reason.RELEASED
        real(self, hold, reason)
        hold.lock.tenant.held += counts

    monkeypatch.setattr(Ledger, "free", free)


@MUTANTS.add
def expired_waiter_counted_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def count_out(self: Ledger, lease: Lease) -> None:
        lease.client.tenant.waiters -= len(lease.waiters())

    monkeypatch.setattr(Ledger, "_count_out_waiters", count_out)


@MUTANTS.add
def older_allotment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Tenant.allot

    def allot(self: Tenant, allotment: Allotment) -> None:
        self.version = -1
        real(self, allotment)

    monkeypatch.setattr(Tenant, "allot", allot)


@MUTANTS.add
def deleted_tenant_leaves_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "forget_tenant", lambda self, tenant: None)


@MUTANTS.add
def deleted_tenant_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    real = LockMachine._newcomer

    def newcomer(self: LockMachine, tenant: int, section: Section) -> Answers:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tenant, "is_gone", False)
            return real(self, tenant, section)

    monkeypatch.setattr(LockMachine, "_newcomer", newcomer)


@MUTANTS.add
def generous_to_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no allotment may hold a little, as if that could not add up over groups."""
    real = Tenant.__init__

    def init(self: Tenant, number: int) -> None:
        real(self, number)
        self.held_max = 10

    monkeypatch.setattr(Tenant, "__init__", init)


@MUTANTS.add
def limits_lost_by_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the groups are told alike is left out of the row."""
    monkeypatch.setattr(
        Tenant,
        "allotment",
        property(lambda self: Allotment(self.number, self.version, self.held_max, self.waiters_max, self.sessions_max)),
    )


@MUTANTS.add
def lowered_ttl_ends_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keepalive beyond a limit that was lowered meanwhile is refused, and its lock lost."""
    real = Operations._keepalive

    def keepalive(self: Operations, client: Client, seq: int, slot: int, name: str, number: int, token: int,
                  ttl: int, wait: int, options: Options) -> Answer:  # fmt: skip
        if ttl > client.tenant.ttl_max:
            return refused(Status.QUOTA_TTL, client.tenant.ttl_max)
        return real(self, client, seq, slot, name, number, token, ttl, wait, options)

    monkeypatch.setattr(Operations, "_keepalive", keepalive)
