"""Orders of messages, answers and calls that once went wrong."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.core.call import Call
from holdfast.core.state import State
from holdfast.errors import ClientClosed, LockTimeout, OutcomeUnknown, SessionLost
from holdfast.wire.errors import Code
from holdfast.wire.frames import EventKind, Kind
from holdfast.wire.messages import Refusal
from tests.sdk.service import name_in
from tests.sdk.world import Peer, Promise, Session, World, held

TTL = 10_000
A, B = name_in(1, "a"), name_in(1, "b")


def moved_once(world: World) -> None:
    once = iter([Refusal(Code.MOVED, "moved")])
    world.refuse = lambda group, kinds: next(once, None)


def arrive(peer: Peer) -> None:
    """What the peer has sent is carried out; the answers are still on their way."""
    while peer.up:
        peer.world.deliver_up(peer)


def test_a_session_part_opened_anew_knows_nothing_of_the_lease_before(world: World, peer: Peer, other: Peer) -> None:
    session = peer.session(TTL)
    first = held(other.lock(A, TTL))
    one = peer.lock(A, wait_ms=60_000, session=session)
    one.acquire()
    world.settle()
    first.release()
    world.settle()
    assert one.state() == State.HELD, "by an event, so under a raised change number"
    one.release()
    world.settle()
    while not any(Kind.END in section.kinds for section in peer.sent):
        world.step(20)
        world.flush()
    two = peer.lock(B, session=session)
    two.acquire()
    world.settle()
    assert two.state() == State.HELD
    world.lose_event = lambda event: event.kind == EventKind.LOST
    thief = other.lock(B, TTL, wait_ms=60_000, steal=True)
    thief.acquire()
    world.settle()
    for _ in range(1000):
        world.step(20)
        world.settle()
        world.check()


def test_a_look_at_the_holds_redeems_no_promise_that_came_after_it(world: World, peer: Peer, other: Peer) -> None:
    session = peer.session(TTL)
    one = held(peer.lock(A, session=session))
    held(peer.lock(B, session=session))
    part = one.hold.lease
    assert part is not None
    world.lose_event = lambda event: event.kind == EventKind.LOST
    told = one.hold.until_ms
    world.step(TTL / 3 + 20)
    world.flush()
    keepalive = peer.up.popleft()
    part.fetch()
    world.flush()
    world.deliver_up(peer)
    old_view = peer.down.pop()
    thief = other.lock(A, TTL, wait_ms=60_000, steal=True)
    thief.acquire()
    world.flush()
    arrive(other)
    peer.up.appendleft(keepalive)
    world.deliver_up(peer)
    peer.down.append(old_view)
    world.settle()
    assert one.hold.until_ms <= told


def test_a_look_at_the_holds_takes_nothing_from_a_reentrant_acquire_under_way(world: World, peer: Peer) -> None:
    session = peer.session(TTL)
    first = held(peer.lock(A, session=session, reentrant=True))
    assert first.hold.lease is not None
    first.hold.lease.fetch()
    world.flush()
    arrive(peer)
    second = peer.lock(A, session=session, reentrant=True)
    second.acquire()
    first.release()
    world.settle()
    assert second.state() == State.HELD
    world.check()


def test_an_answer_that_cannot_be_read_loses_nobody(world: World, peer: Peer) -> None:
    promise = peer.lock(A).acquire()
    world.flush()
    arrive(peer)
    kind, group, request, _ = peer.down.popleft()
    with pytest.raises(msgspec.DecodeError):
        peer.core.message(kind, group, request, b"\xc1")
    peer.cut()
    peer.connect()
    world.settle()
    world.pass_time(20_000)
    assert promise.done()


def test_closing_does_not_forget_who_pauses(world: World, peer: Peer) -> None:
    world.refuse = lambda group, kinds: Refusal(Code.MOVED, "moved")
    acquire = peer.lock(A).acquire()
    get = Promise()
    Call(peer.core, get, Kind.GET, B)
    world.settle()
    peer.core.let_go()
    peer.core.close()
    assert isinstance(acquire.error, ClientClosed)
    assert isinstance(get.error, ClientClosed)


def test_ending_a_session_whose_opening_was_never_answered_has_a_deadline(world: World, peer: Peer) -> None:
    session = peer.session(TTL)
    asked = peer.lock(A, session=session).acquire()
    for _ in range(300):
        world.step(20)
        world.flush()
    assert asked.error
    ended = Promise()
    session.core.end(ended)
    for _ in range(300):
        world.step(20)
        world.flush()
    assert isinstance(ended.error, OutcomeUnknown)


def test_a_keepalive_that_met_another_slot_table_loses_nothing(world: World, peer: Peer) -> None:
    lock = held(peer.lock(A, TTL))
    moved_once(world)
    world.pass_time(2 * TTL)
    assert lock.losses == []
    assert lock.believed


def test_what_was_given_up_in_a_pause_is_not_asked_for_again(world: World, peer: Peer) -> None:
    lock = peer.lock(A)
    lock.acquire()
    moved_once(world)
    world.settle()
    lock.give_up()
    lock.acquire()
    world.flush()
    world.step(40)
    world.flush()
    assert sum(section.kinds.count(Kind.ACQUIRE) for section in peer.sent) == 1


def ending(world: World, peer: Peer) -> tuple[Session, Promise]:
    """A session whose idle part is being ended, and an acquire through it that waits for that."""
    session = peer.session(TTL)
    first = held(peer.lock(A, session=session))
    part = first.hold.lease
    assert part is not None
    first.release()
    world.settle()
    part.unwanted()
    world.flush()
    asked = peer.lock(B, session=session).acquire()
    world.flush()
    return session, asked


def test_closing_while_a_part_is_being_ended_settles_who_waits_for_it(world: World, peer: Peer) -> None:
    _, asked = ending(world, peer)
    peer.core.let_go()
    peer.core.close()
    assert isinstance(asked.error, ClientClosed)


def test_a_part_that_ends_while_its_client_closes_is_not_opened_anew(world: World, peer: Peer) -> None:
    _, asked = ending(world, peer)
    peer.core.let_go()
    world.settle()
    assert isinstance(asked.error, ClientClosed)
    peer.core.close()
    assert world.leaders[1].machine.counts()["held"] == 0


def test_ending_a_session_whose_part_is_being_ended_settles(world: World, peer: Peer) -> None:
    session, asked = ending(world, peer)
    ended = Promise()
    session.core.end(ended)
    world.settle()
    assert ended.done()
    assert ended.error is None
    assert isinstance(asked.error, SessionLost)


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.OUTCOME_UNKNOWN])
def test_who_waits_for_a_part_to_end_has_a_deadline(world: World, peer: Peer, code: Code) -> None:
    world.refuse = lambda group, kinds: Refusal(code, "no leader") if Kind.END in kinds else None
    session, asked = ending(world, peer)
    world.pass_time(3 * TTL)
    assert asked.done()
    world.refuse = lambda group, kinds: None
    world.pass_time(2 * TTL)
    assert held(peer.lock(B, session=session))


def test_who_waits_for_a_part_to_end_and_to_open_has_one_patience_for_both(world: World, peer: Peer) -> None:
    refused = {Kind.END}
    world.refuse = lambda group, kinds: Refusal(Code.UNAVAILABLE, "no leader") if refused & set(kinds) else None
    _, asked = ending(world, peer)
    world.pass_time(0.8 * peer.core.timeout_ms)
    assert not asked.done()
    refused = {Kind.OPEN}
    world.pass_time(0.2 * peer.core.timeout_ms + 20)
    assert isinstance(asked.error, LockTimeout)
    refused = set()
    world.pass_time(2 * TTL)
    assert world.counts()["held"] == world.counts()["waiters"] == 0


def test_a_renewal_by_hand_that_met_another_slot_table_is_answered(world: World, peer: Peer) -> None:
    lock = peer.lock(A, TTL, renew=False)
    held(lock)
    moved_once(world)
    renewed = Promise()
    assert lock.hold.lease is not None
    lock.hold.lease.renew(renewed)
    world.pass_time(1000)
    assert renewed.done()
    assert renewed.error is None


def test_a_look_at_the_holds_that_met_another_slot_table_loses_nothing(world: World, peer: Peer) -> None:
    lock = held(peer.lock(A, TTL))
    moved_once(world)
    assert lock.hold.lease is not None
    lock.hold.lease.fetch()
    world.pass_time(1000)
    assert lock.losses == []
    assert lock.believed


def test_a_keepalive_that_is_refused_for_good_is_not_sent_again_without_a_pause(world: World, peer: Peer) -> None:
    lock = held(peer.lock(A, TTL))
    refused = 0

    def refuse(group: int, kinds: list[int]) -> Refusal | None:
        nonlocal refused
        if Kind.KEEPALIVE not in kinds:
            return None
        refused += 1
        return Refusal(Code.INVALID, "no")

    world.refuse = refuse
    world.pass_time(TTL * 0.9)
    assert 2 < refused < 2 * TTL / 500
    world.refuse = lambda group, kinds: None
    world.pass_time(TTL)
    assert lock.losses == []
    assert lock.believed
