"""What each operation promises, one test for each promise."""

from __future__ import annotations

import pytest

from holdfast.wire.frames import Allotment, EventKind, Kind, Mode, Options, Reason, Status
from holdfast.wire.limits import HOLDERS_SHOWN_MAX, READ_BYTES_PER_FRAME_MAX
from holdfast.wire.names import slot_of
from holdfast_shard.machine import Genesis, LockMachine
from tests.machine.driver import GENESIS, Client, Cluster, Op, frame, section

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


# Exclusive, shared, permits.


def test_a_second_try_is_busy_until_the_first_lets_go(one: Client, two: Client) -> None:
    first = one.acquire("a")
    assert (first.status, first.deadline) == (Status.OK, 10_000)
    assert two.acquire("a").status == Status.BUSY
    assert one.release("a", first.token).status == Status.OK
    second = two.acquire("a")
    assert second.status == Status.OK
    assert second.token > first.token


def test_tokens_rise_across_release_expiry_steal_and_a_new_leader(cluster: Cluster, one: Client, two: Client) -> None:
    tokens = [one.acquire("a").token]
    one.release("a", tokens[-1])
    tokens.append(one.acquire("a", ttl=100).token)
    cluster.pass_time(100)
    tokens.append(one.acquire("a").token)
    tokens.append(two.acquire("a", steal=True, now=True).token)
    cluster.elect()
    two.release("a", tokens[-1])
    tokens.append(one.acquire("a").token)
    assert tokens == sorted(set(tokens))


def test_readers_share_and_a_writer_waits_for_all_of_them(cluster: Cluster, one: Client, two: Client) -> None:
    first, second = one.shared("a"), two.shared("a")
    assert (first.status, second.status) == (Status.OK, Status.OK)
    assert one.acquire("a", wait=5000).status == Status.QUEUED
    one.release("a", first.token)
    assert cluster.take_events(EventKind.GRANTED) == []
    two.release("a", second.token)
    assert [event.client for event in cluster.take_events(EventKind.GRANTED)] == [one.number]


def test_a_reader_behind_a_waiting_writer_waits(one: Client, two: Client, three: Client) -> None:
    one.shared("a")
    assert two.acquire("a", wait=5000).status == Status.QUEUED
    assert three.shared("a").status == Status.BUSY
    assert three.shared("a", wait=5000).status == Status.QUEUED


def test_permits_up_to_the_capacity_and_a_heavy_waiter_is_not_overtaken(
    cluster: Cluster, one: Client, two: Client
) -> None:
    first = one.permits("s", 2, 4)
    assert one.permits("s", 2, 4).status == Status.OK
    assert two.permits("s", 3, 4, wait=5000).status == Status.QUEUED
    assert two.permits("s", 1, 4, wait=5000).status == Status.QUEUED
    one.release("s", first.token)
    assert cluster.take_events(EventKind.GRANTED) == []


def test_another_capacity_is_refused_naming_both(one: Client, two: Client) -> None:
    one.permits("s", 1, 4)
    answer = two.permits("s", 1, 5)
    assert (answer.status, answer.detail) == (Status.CAPACITY_MISMATCH, [4, 5])


def test_a_lock_that_is_free_again_has_no_capacity(one: Client, two: Client) -> None:
    one.release("s", one.permits("s", 1, 4).token)
    assert two.permits("s", 1, 5).status == Status.OK


def test_a_lock_whose_last_waiter_for_permits_has_gone_shows_no_capacity(one: Client, two: Client) -> None:
    one.acquire("s", ttl=60_000)
    two.permits("s", 1, 4, wait=60_000)
    ticket = two.seq
    assert one.look(Kind.GET, "s").detail[1] == 4
    two.op(Kind.CANCEL, "s", token=ticket)
    assert one.look(Kind.GET, "s").detail[1] == 0


# Waiting.


def test_first_come_first_served_one_wake_each(cluster: Cluster, one: Client) -> None:
    held = one.acquire("a")
    waiters = [cluster.client() for _ in range(50)]
    for waiter in waiters:
        assert waiter.acquire("a", wait=60_000).status == Status.QUEUED
    order, token = [], held.token
    for _ in waiters:
        cluster.take_events()
        one.release("a", token)
        granted = cluster.take_events()
        assert [event.kind for event in granted if event.client != one.number][-1:] == [EventKind.GRANTED]
        grants = [event for event in granted if event.kind == EventKind.GRANTED]
        assert len(grants) == 1
        order.append(grants[0].client)
        token = grants[0].token
    assert order == [waiter.number for waiter in waiters]


def test_a_wait_ends_at_its_deadline_on_the_group_clock(cluster: Cluster, one: Client, two: Client) -> None:
    one.acquire("a", ttl=60_000)
    two.acquire("a", wait=500, ttl=60_000)
    cluster.pass_time(499)
    assert cluster.take_events() == []
    cluster.pass_time(1)
    (event,) = cluster.take_events()
    assert (event.kind, event.reason, event.client) == (EventKind.ENDED, Reason.TIMED_OUT, two.number)


def test_a_grant_tells_the_deadline_from_the_waiters_own_acquire(cluster: Cluster, one: Client, two: Client) -> None:
    held = one.acquire("a", ttl=60_000)
    two.acquire("a", wait=60_000, ttl=10_000)
    cluster.pass_time(4000)
    two.keepalive(two.seq)
    cluster.pass_time(3000)
    one.release("a", held.token)
    (event,) = cluster.take_events(EventKind.GRANTED)
    assert event.deadline_ms == 14_000


def test_a_waiter_whose_lease_ended_by_the_same_reading_is_passed_over(
    cluster: Cluster, one: Client, two: Client, three: Client
) -> None:
    one.acquire("a", ttl=1000)
    two.acquire("a", wait=60_000, ttl=1000)
    three.acquire("a", wait=60_000, ttl=60_000)
    cluster.pass_time(2000)
    assert [event.client for event in cluster.take_events(EventKind.GRANTED)] == [three.number]


def test_a_try_that_misses_leaves_nothing(cluster: Cluster, one: Client, two: Client) -> None:
    held = one.acquire("a")
    two.acquire("a")
    one.release("a", held.token)
    assert cluster.take_events() == []
    assert one.look(Kind.GET, "a").detail[3] == []


def test_a_busy_answer_says_how_many_wait_and_how_long_the_lease_still_runs(
    cluster: Cluster, one: Client, two: Client
) -> None:
    one.acquire("a", ttl=10_000)
    two.acquire("a", wait=60_000)
    cluster.pass_time(4000)
    assert two.acquire("a").detail == [1, 6000, 0]


# Leases and sessions.


def test_a_lease_runs_exactly_its_ttl_and_a_keepalive_extends_it(cluster: Cluster, one: Client, two: Client) -> None:
    one.acquire("a", ttl=1000)
    lease = one.seq
    cluster.pass_time(999)
    assert two.acquire("a").status == Status.BUSY
    assert one.keepalive(lease, ttl=1000).deadline == 1000
    cluster.pass_time(999)
    assert two.acquire("a").status == Status.BUSY
    cluster.pass_time(1)
    assert two.acquire("a").status == Status.OK
    assert one.keepalive(lease).detail == [Reason.EXPIRED, ""]


def test_an_expired_holder_is_told_with_the_reason(cluster: Cluster, one: Client) -> None:
    held = one.acquire("a", ttl=100)
    cluster.pass_time(100)
    (event,) = cluster.take_events()
    assert (event.kind, event.token, event.reason) == (EventKind.LOST, held.token, Reason.EXPIRED)


def test_one_keepalive_keeps_every_lock_of_a_session(cluster: Cluster, one: Client, two: Client) -> None:
    lease = one.open(A, ttl=1000)
    for name in "abc":
        assert one.acquire(name, lease=lease).status == Status.OK
    cluster.pass_time(900)
    one.keepalive(lease, ttl=1000)
    cluster.pass_time(900)
    assert [two.acquire(name).status for name in "abc"] == [Status.BUSY] * 3
    cluster.pass_time(100)
    assert [two.acquire(name).status for name in "abc"] == [Status.OK] * 3


def test_ending_ones_own_session_frees_all_of_it_at_once(one: Client, two: Client) -> None:
    lease = one.open(A)
    for name in "abc":
        one.acquire(name, lease=lease)
    assert one.op(Kind.END, lease=lease).status == Status.OK
    assert [two.acquire(name).status for name in "abc"] == [Status.OK] * 3
    assert one.acquire("d", lease=lease).status == Status.LEASE_ENDED


def test_a_session_holds_a_name_once_unless_it_says_reentrant(one: Client, two: Client) -> None:
    lease = one.open(A)
    first = one.acquire("a", lease=lease)
    assert one.acquire("a", lease=lease).status == Status.ALREADY_HELD
    again = one.acquire("a", lease=lease, reentrant=True)
    assert (again.status, again.token) == (Status.OK, first.token)
    one.release("a", first.token)
    assert two.acquire("a").status == Status.BUSY
    one.release("a", first.token)
    assert two.acquire("a").status == Status.OK


def test_a_lock_delay_closes_the_name_after_an_expiry_and_not_after_a_release(
    cluster: Cluster, one: Client, two: Client
) -> None:
    held = one.acquire("a", lock_delay_ms=5000)
    one.release("a", held.token)
    assert two.acquire("a", ttl=100, lock_delay_ms=5000).status == Status.OK
    cluster.pass_time(100)
    assert one.acquire("a").detail == [0, 0, 5000]
    assert one.acquire("a", wait=60_000, ttl=60_000).status == Status.QUEUED
    cluster.pass_time(4999)
    assert cluster.take_events(EventKind.GRANTED) == []
    cluster.pass_time(1)
    assert len(cluster.take_events(EventKind.GRANTED)) == 1


# Taken away.


def test_a_steal_waits_for_the_victim_to_let_go_and_passes_the_queue(
    cluster: Cluster, one: Client, two: Client, three: Client
) -> None:
    held = one.acquire("a")
    three.acquire("a", wait=60_000, ttl=60_000)
    assert two.acquire("a", steal=True, reason="deploy", wait=60_000, ttl=60_000).status == Status.QUEUED
    (lost,) = cluster.take_events(EventKind.LOST)
    assert (lost.client, lost.token, lost.reason, lost.text) == (one.number, held.token, Reason.STOLEN, "deploy")
    one.release("a", held.token)
    assert [event.client for event in cluster.take_events(EventKind.GRANTED)] == [two.number]


def test_a_stealer_is_told_that_nobody_is_ahead_of_it(one: Client, two: Client, three: Client) -> None:
    one.acquire("a")
    three.acquire("a", wait=60_000)
    assert two.acquire("a", steal=True, wait=60_000).detail[0] == 0


def test_a_stolen_hold_of_a_living_session_ends_at_the_deadline_it_was_told(
    cluster: Cluster, one: Client, two: Client
) -> None:
    lease = one.open(A, ttl=10_000)
    one.acquire("a", lease=lease)
    one.acquire("b", lease=lease)
    cluster.pass_time(2000)
    two.acquire("a", steal=True, wait=60_000, ttl=60_000)
    assert one.keepalive(lease, change=0).status == Status.CHANGED
    cluster.pass_time(7999)
    one.keepalive(lease)
    assert cluster.take_events(EventKind.GRANTED) == []
    cluster.pass_time(1)
    assert [event.client for event in cluster.take_events(EventKind.GRANTED)] == [two.number]
    assert two.acquire("b").status == Status.BUSY


def test_a_lost_steal_event_is_found_by_the_change_number(cluster: Cluster, one: Client, two: Client) -> None:
    lease = one.open(A)
    held = one.acquire("a", lease=lease)
    assert one.keepalive(lease, change=0).status == Status.OK
    two.acquire("a", steal=True, now=True)
    assert one.keepalive(lease, change=0).status == Status.CHANGED
    change, ended, holds, waiting, lost, _ = one.holds(lease)
    assert (ended, holds, waiting, lost) == (0, [], [], [["a", held.token, Reason.STOLEN]])
    assert one.keepalive(lease, change=change).status == Status.OK


def test_a_plain_hold_being_stolen_is_not_extended(cluster: Cluster, one: Client, two: Client) -> None:
    one.acquire("a", ttl=1000)
    lease = one.seq
    two.acquire("a", steal=True, wait=60_000, ttl=60_000)
    cluster.pass_time(500)
    answer = one.keepalive(lease, ttl=1000)
    assert (answer.status, answer.deadline) == (Status.CHANGED, 500)
    cluster.pass_time(500)
    assert len(cluster.take_events(EventKind.GRANTED)) == 1


def test_a_steal_now_that_finds_no_room_takes_nothing(
    cluster: Cluster, one: Client, two: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast_shard.machine.acquire.LOCKS_PER_SESSION_MAX", 1)
    held = one.acquire("a", ttl=60_000)
    lease = two.open(A)
    two.acquire("b", lease=lease)
    assert two.acquire("a", lease=lease, steal=True, now=True).status == Status.TOO_MANY_LOCKS
    cluster.entry(frame(0, section(0, 0, [Op(Kind.ALLOT, options=Options(allotment=Allotment(1, 2, 1, 9, 9)))])))
    assert two.acquire("a", steal=True, now=True).status == Status.QUOTA_HELD
    assert one.check("a", held.token)
    assert cluster.take_events() == []


def test_force_release_with_and_without_now(cluster: Cluster, one: Client, two: Client) -> None:
    held = one.acquire("a")
    assert two.op(Kind.FORCE, "a", token=held.token + 1).status == Status.NOT_HELD
    assert two.op(Kind.FORCE, "a", options=Options(reason="stuck")).status == Status.OK
    assert two.acquire("a").status == Status.BUSY
    assert two.op(Kind.FORCE, "a", options=Options(now=True)).status == Status.OK
    assert two.acquire("a").status == Status.OK
    assert [event.reason for event in cluster.take_events(EventKind.LOST)] == [Reason.FORCED]


def test_ending_anothers_session_is_told_and_waits_for_its_deadline(cluster: Cluster, one: Client, two: Client) -> None:
    lease = one.open(A, ttl=5000)
    one.acquire("a", lease=lease)
    assert two.op(Kind.END, options=Options(session=A, reason="retired")).status == Status.OK
    assert one.keepalive(lease).detail == [Reason.SESSION_ENDED, "retired"]
    assert two.acquire("a").status == Status.BUSY
    cluster.pass_time(5000)
    assert two.acquire("a").status == Status.OK
    assert two.op(Kind.END, options=Options(session=A)).status == Status.LEASE_ENDED


def test_ending_anothers_session_now_frees_at_once(one: Client, two: Client) -> None:
    lease = one.open(A)
    one.acquire("a", lease=lease)
    two.op(Kind.END, options=Options(session=A, now=True))
    assert two.acquire("a").status == Status.OK


def test_release_by_somebody_else_tells_the_holder(cluster: Cluster, one: Client, two: Client) -> None:
    held = one.acquire("a")
    assert two.release("a", held.token).status == Status.OK
    (event,) = cluster.take_events()
    assert (event.client, event.kind, event.reason) == (one.number, EventKind.LOST, Reason.RELEASED)


def test_what_a_session_lost_is_shown_for_sixty_seconds(cluster: Cluster, one: Client, two: Client) -> None:
    lease = one.open(A, ttl=600_000)
    first = one.acquire("a", lease=lease)
    two.op(Kind.FORCE, "a", options=Options(now=True))
    cluster.pass_time(60_000)
    assert one.holds(lease)[4] == [["a", first.token, Reason.FORCED]]
    cluster.pass_time(1)
    assert one.holds(lease)[4] == []
    second = one.acquire("a", lease=lease)
    two.op(Kind.FORCE, "a", options=Options(now=True))
    assert one.holds(lease)[4] == [["a", second.token, Reason.FORCED]]


def test_a_session_that_awaits_a_name_does_not_await_it_twice(one: Client, two: Client) -> None:
    for name in "abc":
        two.acquire(name)
    lease = one.open(A)
    for name in "abc":
        assert one.acquire(name, lease=lease, wait=5000).status == Status.QUEUED
    again = one.acquire("b", lease=lease, wait=5000)
    assert (again.status, again.detail) == (Status.ALREADY_HELD, 0)


# Cached "not held".


def test_an_acquire_waits_for_cachers_and_is_granted_when_the_last_lets_go(
    cluster: Cluster, one: Client, two: Client, three: Client
) -> None:
    first, second = one.cache("a"), two.cache("a")
    assert (first.status, second.status) == (Status.OK, Status.OK)
    assert three.acquire("a").status == Status.QUEUED
    assert [event.kind for event in cluster.take_events()] == [EventKind.RECALL] * 2
    assert one.cache("a").status == Status.BUSY
    one.release("a", first.token)
    assert cluster.take_events() == []
    two.release("a", second.token)
    assert [event.client for event in cluster.take_events(EventKind.GRANTED)] == [three.number]


def test_silent_cachers_run_out_within_a_second(cluster: Cluster, one: Client, two: Client) -> None:
    one.cache("a")
    two.acquire("a")
    cluster.pass_time(1000)
    assert len(cluster.take_events(EventKind.GRANTED)) == 1


def test_a_cacher_cannot_close_the_name_behind_it(one: Client, two: Client) -> None:
    """With a lock delay, what is at most a second long would have kept others away for a minute."""
    answer = one.acquire("a", ttl=1000, mode=int(Mode.CACHE), lock_delay_ms=60_000)
    assert answer.status == Status.INVALID
    assert two.acquire("a").status == Status.OK


def test_a_held_name_is_not_cached_and_a_cache_is_no_hold(one: Client, two: Client) -> None:
    one.acquire("a")
    assert two.cache("a").status == Status.BUSY
    assert two.cache("b").status == Status.OK
    assert two.look(Kind.GET, "b").detail[3] == []
    assert two.cluster.machine.counts()["held"] == 1


# Counts and allotments.


def test_counts_are_exact_and_limits_hold(cluster: Cluster, one: Client, two: Client) -> None:
    cluster.entry(frame(0, section(0, 0, [Op(Kind.ALLOT, options=Options(allotment=Allotment(1, 2, 2, 1, 1)))])))
    first = one.acquire("a", ttl=60_000)
    one.acquire("b", ttl=60_000)
    assert one.acquire("c").status == Status.QUOTA_HELD
    assert two.acquire("a", wait=60_000, ttl=60_000).status == Status.QUEUED
    assert two.acquire("b", wait=60_000).status == Status.QUOTA_WAITERS
    two.open(A)
    assert two.op(Kind.OPEN, options=Options(session=B)).status == Status.QUOTA_SESSIONS
    counts = cluster.machine.counts()
    assert (counts["held"], counts["waiters"], counts["sessions"]) == (2, 1, 1)
    one.release("a", first.token)
    counts = cluster.machine.counts()
    assert (counts["held"], counts["waiters"]) == (2, 0)


def test_only_a_higher_version_of_an_allotment_counts_and_a_lower_total_takes_nothing(
    cluster: Cluster, one: Client
) -> None:
    def allot(version: int, held: int) -> None:
        allotment = Allotment(1, version, held, 10, 10)
        cluster.entry(frame(0, section(0, 0, [Op(Kind.ALLOT, options=Options(allotment=allotment))])))

    allot(2, 2)
    allot(1, 0)
    held = [one.acquire(name) for name in "ab"]
    assert [answer.status for answer in held] == [Status.OK] * 2
    allot(3, 1)
    assert one.check("a", held[0].token)
    assert one.acquire("c").status == Status.QUOTA_HELD


def test_a_tenant_cannot_allot(cluster: Cluster, one: Client) -> None:
    mine = Op(Kind.ALLOT, options=Options(allotment=Allotment(1, 9, 0, 0, 0)))
    cluster.entry(frame(-1, section(0, 0, [mine])))
    assert one.acquire("a").status == Status.OK
    assert one.op(Kind.ALLOT, options=Options(allotment=Allotment(1, 9, 9, 9, 9))).status == Status.INVALID


# Tenants.


def test_tenants_do_not_meet(cluster: Cluster, one: Client) -> None:
    other = cluster.client(tenant=2)
    one.acquire("b")
    held = one.acquire("a")
    assert other.acquire("a").status == Status.OK
    assert other.release("a", held.token).status == Status.NOT_HELD
    assert not other.check("a", held.token)
    assert [row[0] for row in other.look(Kind.LIST).detail[0]] == ["a"]
    stranger = Client(cluster, 2, cluster.client().number)
    assert stranger.acquire("b").status == Status.UNREGISTERED
    assert stranger.look(Kind.HOLDS, lease=1).status == Status.UNREGISTERED


# Reads.


def test_get_shows_the_holder_why_and_since_when(cluster: Cluster, one: Client, two: Client) -> None:
    one.acquire("a", metadata=b"host-1")
    two.acquire("a", wait=60_000)
    cluster.pass_time(3000)
    name, _, waiters, holders, closed, count = two.look(Kind.GET, "a").detail
    assert (name, waiters, closed, count) == ("a", 1, 0, 1)
    _, _, _, client, _, _, metadata, held, remaining, why, _, _ = holders[0]
    assert (metadata, held, remaining, why, client) == (b"host-1", 3000, 7000, "free", one.number)


def test_list_pages_through_everything_under_a_prefix_once(one: Client) -> None:
    names = {f"jobs/{n}" for n in range(100)}
    for name in [*names, "other"]:
        one.acquire(name)
    seen: list[str] = []
    cursor = ""
    while True:
        locks, cursor = one.look(Kind.LIST, "jobs/", options=Options(limit=7, cursor=cursor)).detail
        seen += [row[0] for row in locks]
        assert len(locks) <= 7
        if not cursor:
            break
    assert len(seen) == 100
    assert set(seen) == names


def test_wrong_limits_and_cursors_are_answered(one: Client) -> None:
    one.open(A)
    one.acquire("a")
    for kind in (Kind.LIST, Kind.SESSIONS):
        for limit in (-1, -(2**62), 2**62):
            assert one.look(kind, options=Options(limit=limit)).status == Status.OK
        for cursor in ("x", "1" * 5000, "-1:", "4096:", "٣:", "zz"):
            assert one.look(kind, options=Options(cursor=cursor)).status == Status.INVALID


def test_many_reads_in_one_frame_are_bounded_and_the_rest_asks_again(one: Client) -> None:
    for n in range(300):
        one.acquire(f"jobs/{n}", metadata=b"m" * 1024)
    answers = one.run([Op(Kind.LIST, 0, "jobs/") for _ in range(200)], read=True)
    shown = sum(len(lock[3]) for answer in answers if answer.detail for lock in answer.detail[0])
    assert 300 <= shown < READ_BYTES_PER_FRAME_MAX / 1024 + 300
    assert answers[0].status == Status.OK
    assert answers[-1].status == Status.AGAIN
    nothing = one.run([Op(Kind.LIST, 0, "none/") for _ in range(200)], read=True)
    assert sum(answer.status == Status.AGAIN for answer in nothing) > 190


def test_a_page_that_ends_early_says_where_to_go_on(one: Client) -> None:
    names = {f"jobs/{n}" for n in range(5000)}
    for name in names:
        one.acquire(name, metadata=b"m" * 1024)
    seen: list[str] = []
    cursor = ""
    for _ in range(100):
        locks, cursor = one.look(Kind.LIST, "jobs/", options=Options(cursor=cursor)).detail
        seen += [lock[0] for lock in locks]
        if not cursor:
            break
    assert sorted(seen) == sorted(names)


def test_a_crowd_of_holders_is_shown_in_part(one: Client) -> None:
    for _ in range(HOLDERS_SHOWN_MAX + 1):
        one.shared("a")
    _, _, _, holders, _, count = one.look(Kind.GET, "a").detail
    assert (len(holders), count) == (HOLDERS_SHOWN_MAX, HOLDERS_SHOWN_MAX + 1)


def test_sessions_are_listed_with_what_they_have(one: Client, two: Client) -> None:
    lease = one.open(A, metadata=b"worker")
    one.acquire("a", lease=lease)
    two.open(B)
    views, cursor = two.look(Kind.SESSIONS, options=Options(limit=1)).detail
    assert (views[0][0], views[0][5], views[0][7]) == (A, 1, b"worker")
    views, cursor = two.look(Kind.SESSIONS, options=Options(limit=1, cursor=cursor)).detail
    assert (views[0][0], cursor) == (B, "")


def test_expired_holds_are_never_shown(cluster: Cluster, one: Client) -> None:
    names = [f"n{n}" for n in range(1500)]
    lease = one.open(A, ttl=1000)
    for name in names:
        one.acquire(name, lease=lease)
    cluster.elapsed += 1000
    cluster.entry()
    assert cluster.machine.backlog
    assert one.look(Kind.LIST).detail[0] == []
    assert one.acquire(names[-1]).status == Status.OK


def test_a_ticket_can_be_asked_for(cluster: Cluster, one: Client, two: Client) -> None:
    held = one.acquire("a", ttl=60_000)
    two.acquire("a", wait=60_000, ttl=60_000)
    ticket = two.seq
    assert two.look(Kind.TICKETS, "a", token=ticket).detail[1] == Status.QUEUED
    one.release("a", held.token)
    (event,) = cluster.take_events(EventKind.GRANTED)
    _, status, token, deadline, *_ = two.look(Kind.TICKETS, "a", token=ticket).detail
    assert (status, token, deadline) == (Status.OK, event.token, event.deadline_ms)
    two.release("a", token)
    assert two.look(Kind.TICKETS, "a", token=ticket).detail[1] == Status.NOT_HELD


def test_a_name_of_another_groups_slot_is_moved() -> None:
    slot = slot_of(1, "mine")
    cluster = Cluster(LockMachine(Genesis("cluster", 1, (slot,), GENESIS.allotments)))
    one = cluster.client()
    assert one.acquire("mine").status == Status.OK
    assert one.acquire("not mine").status == Status.MOVED
    assert one.look(Kind.GET, "not mine").status == Status.MOVED
    assert GENESIS.group == 1
