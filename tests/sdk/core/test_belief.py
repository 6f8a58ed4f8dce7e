"""Until when a holder may believe. Each case was once a way to believe too long."""

from __future__ import annotations

import pytest

from holdfast.core.belief import RENEWALS_TOGETHER, renewed_together
from holdfast.core.call import Call
from holdfast.core.state import State
from holdfast.core.wheel import GRAIN_MS
from holdfast.errors import LockLost
from holdfast.wire.errors import Code
from holdfast.wire.frames import Allotment, EventKind, Kind, Mode, Options, Reason, encode
from holdfast.wire.limits import CACHE_TTL_MS_MAX
from holdfast.wire.messages import Msg, Refusal
from tests.sdk.service import TENANT, name_in
from tests.sdk.world import Peer, Promise, World, held

TTL = 10_000
SHARE = TTL * 0.99 - 2


def test_belief_counts_from_before_the_sending(world: World, peer: Peer) -> None:
    lock = peer.lock("a", TTL)
    lock.acquire()
    world.flush()
    sent = world.now_ms
    world.step(40)
    world.settle()
    assert lock.hold.until_ms == pytest.approx(sent + SHARE)


def test_a_retry_counts_from_the_first_sending(world: World, peer: Peer) -> None:
    lock = peer.lock("a", TTL)
    lock.acquire()
    world.flush()
    sent = world.now_ms
    world.deliver_up(peer)
    peer.cut()
    world.step(4000)
    peer.connect()
    world.settle()
    assert lock.state() == State.HELD
    assert lock.hold.until_ms == pytest.approx(sent + SHARE)


def test_a_grant_moves_no_deadline(world: World, peer: Peer, other: Peer) -> None:
    first = held(other.lock("a", TTL))
    lock = peer.lock("a", TTL, wait_ms=60_000)
    lock.acquire()
    world.pass_time(30_000)
    keepalives = [kind for kind in world.kinds() if kind == Kind.KEEPALIVE]
    assert len(keepalives) > 10, "a waiter keeps its lease alive"
    lease = lock.hold.lease
    assert lease is not None
    before = lease.until_ms
    first.release()
    world.settle()
    assert lock.state() == State.HELD
    assert lock.hold.until_ms == before


def test_time_asleep_ends_belief_at_once_whatever_timers_do(world: World, peer: Peer) -> None:
    lock = held(peer.lock("a", TTL))
    world.now_ms += 60_000
    assert not lock.believed
    assert lock.losses == []
    peer.core.advance()
    assert lock.losses == [Reason.EXPIRED]


def test_a_renewal_extends_from_before_it_was_sent(world: World, peer: Peer) -> None:
    lock = held(peer.lock("a", TTL))
    world.step(TTL / 3 + 20)
    sent = world.now_ms
    world.step(500)
    world.settle()
    assert lock.hold.until_ms == pytest.approx(sent + SHARE)


def test_a_lock_that_is_not_renewed_is_lost_when_belief_ends(world: World, peer: Peer) -> None:
    lock = held(peer.lock("a", TTL, renew=False))
    world.pass_time(TTL * 0.985)
    assert lock.losses == []
    world.pass_time(TTL * 0.01)
    assert not lock.believed
    assert lock.losses == [Reason.EXPIRED]
    assert Kind.KEEPALIVE not in world.kinds()


def test_a_steal_whose_event_is_lost_is_found_out_before_more_is_believed(
    world: World, peer: Peer, other: Peer
) -> None:
    lock = held(peer.lock("a", TTL))
    world.lose_event = lambda event: event.kind == EventKind.LOST
    told = lock.hold.until_ms
    thief = other.lock("a", TTL, wait_ms=60_000, steal=True)
    thief.acquire()
    world.settle()
    assert lock.believed
    assert thief.state() == State.WAITING
    world.pass_time(TTL / 2)
    assert lock.losses == [Reason.STOLEN]
    assert lock.hold.until_ms == 0.0
    world.pass_time(TTL)
    assert thief.state() == State.HELD
    assert world.now_ms >= told


def test_a_stolen_lock_passes_on_as_soon_as_its_holder_lets_go(world: World, peer: Peer, other: Peer) -> None:
    lock = held(peer.lock("a", TTL))
    thief = other.lock("a", TTL, wait_ms=60_000, steal=True)
    thief.acquire()
    world.settle()
    assert lock.losses == [Reason.STOLEN]
    assert thief.state() == State.WAITING
    lock.release()
    world.settle()
    assert thief.state() == State.HELD


class SessionOfTwo:
    """A session that holds ``a`` and ``b`` of one group."""

    def __init__(self, peer: Peer) -> None:
        self.session = peer.session(TTL)
        self.name_a, self.name_b = name_in(1, "a"), name_in(1, "b")
        self.a = held(peer.lock(self.name_a, session=self.session))
        self.b = held(peer.lock(self.name_b, session=self.session))


def test_a_gap_between_events_is_looked_into_at_once(world: World, peer: Peer, other: Peer) -> None:
    """Once the later event is noted, no keepalive would say CHANGED for the earlier one."""
    two = SessionOfTwo(peer)
    world.lose_event = lambda event: event.kind == EventKind.LOST and event.name == two.name_a
    for name in (two.name_a, two.name_b):
        other.lock(name, TTL, wait_ms=60_000, steal=True).acquire()
        world.settle()
    assert two.a.losses == two.b.losses == [Reason.STOLEN]


def test_a_cacher_is_told_when_somebody_wants_the_name_and_makes_way(world: World, peer: Peer, other: Peer) -> None:
    cached = held(peer.lock("a", CACHE_TTL_MS_MAX, renew=False, mode=int(Mode.CACHE)))
    lock = other.lock("a", TTL)
    lock.acquire()
    world.settle()
    assert cached.losses == [Reason.NONE]
    assert not cached.believed
    assert lock.state() == State.WAITING
    cached.release()
    world.settle()
    assert lock.state() == State.HELD


def test_changed_holds_are_fetched_before_a_keepalive_is_believed(world: World, peer: Peer, other: Peer) -> None:
    two = SessionOfTwo(peer)
    world.lose_event = lambda event: event.kind == EventKind.LOST
    other.lock(two.name_a, TTL, wait_ms=60_000, steal=True).acquire()
    world.settle()
    before = two.b.hold.until_ms
    world.step(TTL / 3 + 20)
    world.flush()
    world.deliver_up(peer)
    world.deliver_down(peer)
    assert two.b.hold.until_ms == before, "the answer said CHANGED"
    assert two.a.losses == []
    world.settle()
    assert two.a.losses == [Reason.STOLEN]
    assert two.b.losses == []
    assert two.b.hold.until_ms > before


def test_no_other_answer_extends_a_session(world: World, peer: Peer, other: Peer) -> None:
    """The hold that was taken away is not to be believed longer for an acquire that saw the lease extended."""
    two = SessionOfTwo(peer)
    world.lose_event = lambda event: event.kind == EventKind.LOST
    told = two.a.hold.until_ms
    other.lock(two.name_a, TTL, wait_ms=60_000, steal=True).acquire()
    world.settle()
    world.step(TTL / 3 + 20)
    third = peer.lock(name_in(1, "c"), session=two.session)
    world.flush()
    # The keepalive is applied, and extends the lease; its answer is lost on the way, and HOLDS never asked.
    world.deliver_up(peer)
    _, group, request, _ = peer.down.popleft()
    peer.down.append((Msg.REFUSED, group, request, encode(Refusal(Code.OUTCOME_UNKNOWN, "lost", 1000))))
    world.deliver_down(peer)
    third.acquire()
    world.flush()
    while peer.up:
        world.deliver_up(peer)
    while peer.down:
        world.deliver_down(peer)
    assert third.state() == State.HELD
    assert two.a.hold.until_ms <= told


def test_a_grant_that_was_missed_is_found_by_the_keepalive(world: World, peer: Peer, other: Peer) -> None:
    first = held(other.lock("a", TTL))
    lock = peer.lock("a", TTL, wait_ms=60_000)
    lock.acquire()
    world.settle()
    world.lose_event = lambda event: event.kind == EventKind.GRANTED
    first.release()
    world.settle()
    assert lock.state() == State.WAITING
    world.pass_time(TTL / 2)
    assert lock.state() == State.HELD
    assert lock.believed


def test_a_grant_that_was_missed_and_stolen_is_let_go_when_that_is_found(world: World, peer: Peer, other: Peer) -> None:
    """Simulation, seed 1003379: it was left until its last deadline, against its own client's quota, too."""
    first = held(other.lock("a", TTL))
    lock = peer.lock("a", TTL, wait_ms=60_000)
    lock.acquire()
    world.settle()
    world.lose_event = lambda event: event.kind in (EventKind.GRANTED, EventKind.LOST)
    first.release()
    world.settle()
    assert lock.state() == State.WAITING
    world.lose_event = lambda event: event.kind == EventKind.LOST
    thief = other.lock("a", TTL, wait_ms=60_000, steal=True)
    thief.acquire()
    world.settle()
    assert thief.state() == State.WAITING
    world.pass_time(TTL / 2)
    assert thief.state() == State.HELD
    assert lock.state() == State.WAITING


def test_a_grant_too_old_to_be_believed_is_given_back(world: World, peer: Peer, other: Peer) -> None:
    lock = peer.lock("a", ttl_ms=200)
    promise = lock.acquire()
    world.flush()
    world.deliver_up(peer)
    world.now_ms += 199
    world.settle()
    assert isinstance(promise.error, LockLost)
    assert lock.state() == State.IDLE
    assert held(other.lock("a", TTL))


def test_a_lock_released_in_time_is_never_renewed(world: World, peer: Peer) -> None:
    for _ in range(20):
        lock = held(peer.lock("a", TTL))
        world.pass_time(TTL / 4)
        lock.release()
        world.settle()
    assert Kind.KEEPALIVE not in world.kinds()


def test_a_lease_has_one_keepalive_in_flight(world: World, peer: Peer) -> None:
    held(peer.lock("a", TTL))
    for _ in range(int(TTL * 0.9 / 100)):
        world.step(100)
        world.flush()
    assert sum(section.kinds.count(Kind.KEEPALIVE) for section in peer.sent) == 1


def test_leases_had_one_after_the_other_are_renewed_together(world: World, peer: Peer) -> None:
    began = world.now_ms
    locks = []
    for number in range(32):
        locks.append(held(peer.lock(name_in(1, f"lock{number}"), TTL)))
        world.pass_time(4, grain_ms=4)
    renewals = []
    while world.now_ms < began + TTL / 3 * (1 + 1 / RENEWALS_TOGETHER) + 32 * 4 + 2 * GRAIN_MS:
        world.step(4)
        world.flush()
        renewals += [len(section.kinds) for section in peer.sent]
        world.settle()
    assert sum(renewals) == 32, "nobody waits longer than a 32nd of the time between two"
    # In 128 ms there are two or three moments of 64 ms, and eight or nine turns of the wheel.
    assert len(renewals) <= 3
    assert all(lock.hold.until_ms > began + SHARE / 3 + SHARE for lock in locks)


@pytest.mark.parametrize("every_ms", [100, 3333, 10_000, 28_800_000])
def test_a_renewal_waits_for_others_a_little_and_processes_do_not_meet(every_ms: int) -> None:
    moments = set()
    for client in range(1, 9):
        waits = [renewed_together(at, at + every_ms, client) - at - every_ms for at in range(1000)]
        assert min(waits) >= 0
        assert max(waits) <= every_ms / RENEWALS_TOGETHER
        moments.add(renewed_together(0, every_ms, client))
    assert len(moments) == 8


def test_what_is_renewed_more_often_than_every_32_ms_waits_for_nobody() -> None:
    assert renewed_together(1000, 1031, 1) == 1031


def test_one_keepalive_renews_all_locks_of_a_session_in_a_group(world: World, peer: Peer) -> None:
    session = peer.session(TTL)
    locks = [held(peer.lock(name_in(1 + n % 2, f"lock{n}"), session=session)) for n in range(20)]
    world.log.clear()
    world.pass_time(TTL / 3 + 100)
    assert world.kinds().count(Kind.KEEPALIVE) == 2
    world.pass_time(3 * TTL)
    assert all(lock.believed for lock in locks)


def test_a_session_of_a_long_ttl_is_renewed_while_reasons_are_remembered(world: World, peer: Peer) -> None:
    session = peer.session(3_600_000)
    held(peer.lock("a", session=session))
    world.log.clear()
    world.pass_time(60_000, grain_ms=100)
    assert world.kinds().count(Kind.KEEPALIVE) >= 2


def test_what_runs_out_with_nobody_to_ask_is_lost_with_all_of_its_part(world: World, peer: Peer) -> None:
    session = peer.session(TTL)
    one, two = name_in(1), name_in(2)
    held(peer.lock(one, session=session))
    held(peer.lock(two, session=session))
    peer.cut()
    world.pass_time(TTL)
    assert set(session.losses) == {(Reason.EXPIRED, (one,)), (Reason.EXPIRED, (two,))}


def test_a_session_ended_by_another_loses_its_locks(world: World, peer: Peer, other: Peer) -> None:
    two = SessionOfTwo(peer)
    promise = Promise()
    options = Options(session=two.session.core.id, reason="maintenance")
    Call(other.core, promise, Kind.END, "", 0, options, other.core.group(1))
    world.settle()
    assert two.a.losses == two.b.losses == [Reason.SESSION_ENDED]
    assert two.session.losses == [(Reason.SESSION_ENDED, (two.name_a, two.name_b))]
    assert two.a.hold.text == "maintenance"


def test_a_message_of_another_kind_changes_nothing(world: World, peer: Peer) -> None:
    lock = held(peer.lock("a", TTL))
    peer.core.message(Msg.PONG, 0, 0, b"")
    peer.core.message(Msg.ANSWERS, 1, 4711, b"")
    assert lock.believed


def test_a_lease_outlives_a_lowered_limit(world: World, peer: Peer) -> None:
    lock = held(peer.lock("a", 60_000))
    group = peer.core.group_of("a").number
    world.leaders[group].allot(Allotment(TENANT, 2, 10, 10, 10, ttl_ms=5000))
    world.pass_time(200_000)
    assert lock.losses == []
    assert lock.state() == State.HELD
