"""A quota that is used up: what lets go or keeps alive goes on, the rest waits as it was told or says why it cannot."""

from __future__ import annotations

from random import Random

import pytest

from holdfast.core.call import Call
from holdfast.core.lane import THROTTLE_JITTER
from holdfast.core.retry_pace import RETRIES_PER_S, RETRIES_PER_SEND, RETRIES_SAVED_MAX, RetryPace
from holdfast.core.state import State
from holdfast.errors import HoldfastError, OutcomeUnknown, SessionLost, Throttled
from holdfast.wire.errors import Code
from holdfast.wire.exempt import EXEMPT
from holdfast.wire.frames import Kind, Options
from holdfast.wire.messages import Refusal
from tests.sdk.service import name_in
from tests.sdk.world import Lock, Peer, Promise, World, held

A, B, C = name_in(1, "a"), name_in(1, "b"), name_in(1, "c")


def throttle(world: World, retry_after_ms: int, times: int = 1_000_000, code: Code = Code.THROTTLED) -> list[list[int]]:
    """Refuse sections as a router does, so many times. Returns the kinds of those refused."""
    seen: list[list[int]] = []

    def refuse(group: int, kinds: list[int]) -> Refusal | None:
        if not bytes(kinds).translate(None, EXEMPT) or len(seen) >= times:
            return None
        seen.append(kinds)
        return Refusal(code, "the quota is used up", retry_after_ms, quota="rate", limit=100)

    world.refuse = refuse
    return seen


def raised(promise: Promise) -> BaseException | None:
    assert promise.done()
    return promise.error


def test_belief_counts_from_the_copy_that_was_not_refused(world: World, peer: Peer) -> None:
    throttle(world, 3000, times=1)
    lock = peer.lock(A, ttl_ms=2000, renew=False)
    lock.acquire()
    world.settle()
    world.pass_time(3000 * (1 + THROTTLE_JITTER))
    assert (lock.state(), lock.believed) == (State.HELD, True)
    world.check()
    world.pass_time(2000)
    assert not lock.believed


def test_who_gives_up_after_its_section_was_parted_cancels_its_own(world: World, peer: Peer) -> None:
    given_back, others = held(peer.lock(A)), [peer.lock(B), peer.lock(C)]
    throttle(world, 300, times=1)
    given_back.release()
    for other in others:
        other.acquire()
    world.settle()
    others[0].give_up()
    world.pass_time(600)
    assert [other.state() for other in others] == [State.IDLE, State.HELD]
    assert world.counts()["held"] == 1
    world.check()


def test_a_try_waits_as_it_was_told_and_is_granted(world: World, peer: Peer) -> None:
    refused = throttle(world, 200, times=1)
    lock = peer.lock(A)
    promise = lock.acquire()
    world.settle()
    world.pass_time(180)
    assert (len(refused), promise.done()) == (1, False)
    world.pass_time(200 * THROTTLE_JITTER + 60)
    assert (promise.error, lock.state()) == (None, State.HELD)


@pytest.mark.parametrize("code", [Code.THROTTLED, Code.OVERLOADED, Code.UNAVAILABLE])
def test_releases_and_keepalives_of_a_refused_section_go_on_at_once_under_their_numbers(
    world: World, peer: Peer, code: Code
) -> None:
    kept, given_back, wanted = held(peer.lock(A)), held(peer.lock(B)), peer.lock(C)
    seqs: list[int] = []
    released, asked = given_back.release(), wanted.acquire()
    assert kept.hold.lease is not None
    kept.hold.lease.renew()
    refused = throttle(world, 300, times=1, code=code)
    world.flush()
    (section,) = peer.sent
    seqs = section.seqs
    world.settle()
    assert refused == [[Kind.RELEASE, Kind.ACQUIRE, Kind.KEEPALIVE]]
    assert (released.done(), released.error, asked.done()) == (True, None, False)
    assert kept.hold.lease.renewed_ms > world.now_ms - 1
    world.step(300 * (1 + THROTTLE_JITTER))
    world.flush()
    (again,) = peer.sent
    assert again.seqs == seqs[1:2], "what was done before is not done, nor paid for, twice"
    assert again.floor <= seqs[1]
    world.settle()
    assert wanted.state() == State.HELD
    world.check()


def test_what_lets_go_gathers_while_a_section_of_it_is_under_way(world: World, peer: Peer) -> None:
    locks = [held(peer.lock(name_in(1, f"lock{n}"))) for n in range(11)]
    throttle(world, 4000, times=1)
    peer.lock(C).acquire()
    world.settle()
    for lock in locks:
        lock.release()
        world.flush()
    assert [len(section.kinds) for section in peer.sent] == [1]
    world.deliver_up(peer)
    world.deliver_down(peer)
    world.flush()
    assert [len(section.kinds) for section in peer.sent] == [10]


def test_what_lets_go_does_not_share_the_deadline_of_what_waited_long(world: World, peer: Peer) -> None:
    first, second = held(peer.lock(A)), held(peer.lock(B))
    throttle(world, 20_000)
    peer.lock(C, wait_ms=60_000).acquire()
    world.settle()
    peer.cut()
    let_go = [first.release()]
    world.pass_time(3000)
    let_go.append(second.release())
    world.pass_time(2100)
    assert [promise.done() for promise in let_go] == [True, False]


def test_the_end_of_anothers_session_waits_and_that_of_ones_own_does_not(world: World, peer: Peer) -> None:
    session = peer.session()
    held(peer.lock(A, session=session))
    throttle(world, 1000, times=1)
    peer.lock(C).acquire()
    world.settle()
    others = Promise()
    Call(peer.core, others, Kind.END, "", 0, Options(session=bytes(16)), peer.core.groups[1])
    session.core.end(None)
    world.flush()
    assert [list(section.kinds) for section in peer.sent] == [[Kind.END]], "the other's would be refused with it"
    world.settle()
    assert world.counts()["held"] == 0
    assert not others.done()
    world.pass_time(1500)
    assert others.done()


def test_a_router_ends_its_callers_sessions_apart_though_it_says_them_by_their_ids(world: World, peer: Peer) -> None:
    peer.core.vouched = True
    throttle(world, 1000, times=1, code=Code.OVERLOADED)
    peer.lock(C).acquire()
    ended = Promise()
    Call(peer.core, ended, Kind.END, "", 0, Options(session=bytes(16)), peer.core.groups[1])
    world.settle()
    assert ended.done()


def test_what_comes_while_the_quota_is_used_up_waits_behind_unless_it_lets_go(world: World, peer: Peer) -> None:
    one, two = held(peer.lock(A)), held(peer.lock(B))
    refused = throttle(world, 1000, times=1)
    peer.lock(C).acquire()
    world.settle()
    others = [peer.lock(name_in(1, f"more{n}")) for n in range(10)]
    for other in others:
        other.acquire()
    letting_go = [one.release(), two.release()]
    world.settle()
    world.pass_time(900)
    assert len(refused) == 1, "nobody hammers"
    assert [promise.done() for promise in letting_go] == [True, True]
    world.pass_time(500)
    assert {other.state() for other in others} == {State.HELD}


def test_what_gathered_with_an_acquire_before_the_refusal_came_does_not_wait_with_it(world: World, peer: Peer) -> None:
    locks = [held(peer.lock(name_in(1, f"lock{n}"))) for n in range(3)]
    wanted = [peer.lock(name_in(1, f"wanted{n}")) for n in range(3)]
    throttle(world, 1000, times=1)
    promises = []
    for lock, want in zip(locks, wanted, strict=True):
        promises.append(lock.release())
        want.acquire()
        world.flush()
    world.settle()
    assert [promise.done() for promise in promises] == [True] * 3
    world.pass_time(1500)
    assert {want.state() for want in wanted} == {State.HELD}
    assert peer.core.groups[1].writes.floor == peer.core.groups[1].writes.next_seq


def test_whoever_would_wait_longer_than_it_may_is_told_at_once_which_quota_and_when(world: World) -> None:
    peer = world.peer(timeout_ms=1000).register()
    throttle(world, 3000)
    began = world.now_ms
    promise = peer.lock(A).acquire()
    world.settle()
    error = raised(promise)
    assert isinstance(error, Throttled)
    assert (error.quota, error.limit, error.retry_after_ms) == ("rate", 100, 3000)
    second = peer.lock(B).acquire()
    world.pass_time(1000 / 8 + 40)
    assert isinstance(raised(second), Throttled)
    assert world.now_ms - began < 200


def test_patience_that_ends_while_waiting_ends_as_throttled(world: World) -> None:
    peer = world.peer(timeout_ms=1000).register()
    refused = throttle(world, 400)
    promise = peer.lock(A).acquire()
    world.settle()
    world.pass_time(1100)
    assert isinstance(raised(promise), Throttled)
    assert len(refused) in (2, 3)


def test_who_waits_for_the_lock_waits_for_the_quota_too_but_no_longer(world: World) -> None:
    peer = world.peer(timeout_ms=1000).register()
    throttle(world, 1500, times=2)
    lock = peer.lock(A, wait_ms=10_000)
    lock.acquire()
    world.settle()
    world.pass_time(4000)
    assert lock.state() == State.HELD
    throttle(world, 1500)
    short = peer.lock(B, wait_ms=2000)
    promise = short.acquire()
    world.settle()
    world.pass_time(2100)
    assert isinstance(raised(promise), Throttled)
    session = peer.session()
    through = peer.lock(C, wait_ms=10_000, session=session)
    through.acquire()
    world.settle()
    world.pass_time(1000)
    throttle(world, 0, times=0)
    world.pass_time(2000)
    assert through.state() == State.HELD


def test_who_gives_up_meanwhile_or_closes_is_done(world: World, peer: Peer) -> None:
    throttle(world, 800)
    given_up, closed = peer.lock(A, wait_ms=20_000), peer.lock(B, wait_ms=20_000)
    given_up.acquire()
    promise = closed.acquire()
    world.settle()
    given_up.give_up()
    assert given_up.state() == State.IDLE
    peer.core.let_go()
    world.settle()
    assert promise.done()
    throttle(world, 0, times=0)
    world.pass_time(2000)
    assert world.counts()["held"] == 0


def test_a_refused_number_is_asked_for_when_told_and_callers_hear_why_they_wait(world: World) -> None:
    refused = throttle(world, 700, times=1)
    peer = world.peer()
    lock = peer.lock(A)
    lock.acquire()
    world.settle()
    world.pass_time(600)
    assert len(refused) == 1
    world.pass_time(1000)
    assert lock.state() == State.HELD
    throttle(world, 700)
    other = world.peer(timeout_ms=500)
    promise = other.lock(B).acquire()
    world.settle()
    world.pass_time(200)
    assert isinstance(raised(promise), Throttled)


def test_reads_wait_and_raise_likewise_while_tickets_are_asked_for(world: World, peer: Peer) -> None:
    holder = held(peer.lock(A))
    other = world.peer().register()
    waiting = other.lock(A, wait_ms=60_000)
    waiting.acquire()
    world.settle()
    assert waiting.state() == State.WAITING
    world.lose_event = lambda event: True
    holder.release()
    world.settle()
    refused = throttle(world, 500)
    promise = Promise()
    Call(other.core, promise, Kind.GET, A)
    other.core.groups[1].ask_tickets()
    world.settle()
    assert refused == [[Kind.GET, Kind.TICKETS]]
    assert (waiting.state(), promise.done()) == (State.HELD, False)
    world.pass_time(6000)
    assert isinstance(raised(promise), Throttled)


def test_a_copy_that_may_have_been_carried_out_is_never_called_refused(world: World) -> None:
    peer = world.peer(timeout_ms=1000).register()
    lock = held(peer.lock(A))
    released = lock.release()
    wanted = peer.lock(B).acquire()
    world.flush()
    peer.cut()
    peer.connect()
    throttle(world, 5000)
    world.settle()
    assert (released.done(), released.error) == (True, None)
    world.pass_time(1200)
    assert not isinstance(raised(wanted), Throttled)
    throttle(world, 0, times=0)
    world.pass_time(10_000)
    assert world.counts()["held"] == 0


@pytest.mark.parametrize("seed", range(30))
def test_any_pattern_of_refusals_cuts_and_losses_keeps_every_promise(seed: int) -> None:
    rng = Random(seed)
    world = World(seed=seed)
    peers = [world.peer(timeout_ms=2000) for _ in range(2)]

    def refuse(group: int, kinds: list[int]) -> Refusal | None:
        if bytes(kinds).translate(None, EXEMPT) and rng.random() < 0.5:
            code = rng.choice([Code.THROTTLED, Code.OVERLOADED, Code.UNAVAILABLE])
            return Refusal(code, "no", rng.choice([1, 50, 400, 3000]), quota="rate", limit=1)
        return None

    world.refuse = refuse
    promises: list[tuple[Lock, Promise]] = []
    for _ in range(150):
        peer = rng.choice(peers)
        lock = peer.lock(name_in(1, f"n{rng.randrange(6)}"), ttl_ms=3000, wait_ms=rng.choice([0, 0, 5000]))
        promises.append((lock, lock.acquire()))
        for other in rng.sample(peer.locks, min(3, len(peer.locks))):
            if other.state() == State.HELD:
                other.release()
        if rng.random() < 0.1:
            peer.cut()
        world.pass_time(rng.choice([0, 20, 200]))
        for one in peers:
            one.connect()
        world.settle()
        world.check()
    for _ in range(3):
        for lock, _ in promises:
            if lock.state() == State.HELD:
                lock.release()
        world.pass_time(8000)
    for _, promise in promises:
        assert promise.done()
        assert promise.error is None or isinstance(promise.error, HoldfastError)
        assert not isinstance(promise.error, OutcomeUnknown | SessionLost)
    world.refuse = lambda group, kinds: None
    world.pass_time(20_000)
    assert (world.counts()["held"], world.counts()["waiters"]) == (0, 0)
    for peer in peers:
        for group in peer.core.groups.values():
            assert group.writes.floor == group.writes.next_seq, "nothing is under way for ever"


def test_a_budget_lets_few_retries_through_and_loses_none() -> None:
    budget = RetryPace(0.0)
    assert [budget.spend(0.0) for _ in range(int(RETRIES_SAVED_MAX))] == [0.0] * int(RETRIES_SAVED_MAX)
    assert budget.spend(0.0) == pytest.approx(1000 / RETRIES_PER_S)
    assert budget.spend(0.0) == pytest.approx(2000 / RETRIES_PER_S)
    for _ in range(int(4 / RETRIES_PER_SEND)):
        budget.sent()
    assert budget.spend(0.0) == 0.0
    assert budget.spend(10_000.0) == 0.0


def test_a_service_in_trouble_is_asked_no_more_often_than_the_budget_allows(world: World, peer: Peer) -> None:
    tries = 0

    def refuse(group: int, kinds: list[int]) -> Refusal:
        nonlocal tries
        tries += 1
        return Refusal(Code.OVERLOADED, "no", 1)

    world.refuse = refuse
    for n in range(4):
        peer.lock(name_in(1 + n % 2, f"lock{n}")).acquire()
    world.settle()
    world.pass_time(4000, grain_ms=5)
    assert 5 < tries <= RETRIES_SAVED_MAX + 4 * RETRIES_PER_S + 4
