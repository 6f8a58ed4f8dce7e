"""A group's share of a tenant's total is used up: asked again while it may yet get more, then refused."""

from __future__ import annotations

import pytest

from holdfast.core.refusals import SHARE_PAUSES_MS, refusal
from holdfast.core.state import State
from holdfast.errors import QuotaExceeded
from holdfast.wire.frames import Allotment, Kind, Status
from holdfast.wire.tenants import Quotas
from tests.sdk.service import TENANT
from tests.sdk.world import Peer, Promise, World, held

LONGEST_MS = sum(SHARE_PAUSES_MS) * 1.25


def allot(world: World, version: int, held: int = 10, waiters: int = 10, sessions: int = 10, **more: int) -> None:
    for leader in world.leaders.values():
        leader.allot(Allotment(TENANT, version, held, waiters, sessions, **more))


def asked(world: World, kind: Kind = Kind.ACQUIRE) -> int:
    return world.kinds().count(kind)


@pytest.mark.parametrize("wait_ms", [0, 60_000])
def test_what_comes_in_time_is_had(world: World, peer: Peer, wait_ms: int) -> None:
    allot(world, 2, held=0)
    lock = peer.lock("a", wait_ms=wait_ms)
    promise = lock.acquire()
    world.pass_time(100)
    assert lock.state() == State.ASKED
    allot(world, 3, held=1)
    world.pass_time(LONGEST_MS)
    assert lock.state() == State.HELD
    assert promise.error is None


def test_after_the_last_pause_it_is_refused_with_the_limit(world: World, peer: Peer) -> None:
    allot(world, 2, held=0)
    before = asked(world)
    promise = peer.lock("a").acquire()
    world.pass_time(LONGEST_MS + 100)
    assert isinstance(promise.error, QuotaExceeded)
    assert (promise.error.which, promise.error.limit) == ("held", 0)
    assert "share" in str(promise.error), "the limit is not the tenant's total, and is not said to be"
    assert asked(world) - before == 1 + len(SHARE_PAUSES_MS)


def test_what_is_used_up_has_the_name_by_which_an_operator_sets_it() -> None:
    service = {"holders_per_lock", "locks_per_session", "leases_per_client"}
    refused = [status for status in Status if status.name.startswith(("QUOTA_", "TOO_MANY_"))]
    named = {error.which for status in refused if isinstance(error := refusal(status, 7, "a", None), QuotaExceeded)}
    assert len(named) == len(refused)
    assert named - service == set(Quotas.__struct_fields__) - {"rate", "burst", "in_flight"}


def test_patience_that_ends_before_the_next_pause_is_not_outlasted(world: World, peer: Peer) -> None:
    allot(world, 2, held=0)
    before = asked(world)
    promise = peer.lock("a", wait_ms=100).acquire()
    world.pass_time(100)
    assert isinstance(promise.error, QuotaExceeded)
    assert asked(world) - before == 2


@pytest.mark.parametrize(
    ("limit", "ttl_ms", "metadata"), [({"ttl_ms": 1000}, 2000, b""), ({"metadata_bytes": 3}, 1000, b"host")]
)
def test_other_limits_are_refused_at_once(
    world: World, peer: Peer, limit: dict[str, int], ttl_ms: int, metadata: bytes
) -> None:
    allot(world, 2, **limit)
    promise = peer.lock("a", ttl_ms, metadata=metadata).acquire()
    world.settle()
    assert isinstance(promise.error, QuotaExceeded)
    assert promise.error.limit == next(iter(limit.values()))


def test_a_waiter_that_is_refused_when_its_turn_comes_asks_again(world: World, peer: Peer, other: Peer) -> None:
    first, second = held(other.lock("a")), held(other.lock("b"))
    lock = peer.lock("a", wait_ms=60_000)
    lock.acquire()
    world.settle()
    assert lock.state() == State.WAITING
    allot(world, 2, held=0)
    first.release()
    world.settle()
    assert lock.state() == State.ASKED
    allot(world, 3, held=5)
    world.pass_time(LONGEST_MS)
    assert lock.state() == State.HELD
    assert second.state() == State.HELD


def test_who_gives_up_meanwhile_gets_nothing(world: World, peer: Peer) -> None:
    allot(world, 2, held=0)
    lock = peer.lock("a", wait_ms=60_000)
    lock.acquire()
    world.settle()
    lock.give_up()
    allot(world, 3)
    world.pass_time(LONGEST_MS)
    assert lock.state() == State.IDLE
    assert world.counts()["held"] == 0


def test_a_session_is_opened_when_a_share_of_sessions_comes(world: World, peer: Peer) -> None:
    allot(world, 2, sessions=0)
    session = peer.session()
    lock = peer.lock("a", session=session)
    promise = lock.acquire()
    world.pass_time(100)
    assert lock.state() == State.ASKED
    allot(world, 3, sessions=1)
    world.pass_time(LONGEST_MS)
    assert lock.state() == State.HELD
    assert promise.error is None


def test_a_session_that_is_refused_for_good_says_so(world: World, peer: Peer) -> None:
    allot(world, 2, sessions=0)
    refused = peer.lock("a", session=peer.session()).acquire()
    world.pass_time(LONGEST_MS + 100)
    assert isinstance(refused.error, QuotaExceeded)
    assert refused.error.which == "sessions"


def test_a_session_that_is_closed_while_it_waits_for_a_share_ends(world: World, peer: Peer) -> None:
    allot(world, 2, sessions=0)
    session = peer.session()
    peer.lock("a", session=session).acquire()
    world.settle()
    ended = Promise()
    session.core.end(ended)
    world.pass_time(LONGEST_MS)
    assert ended.done()
    assert ended.error is None
