"""Leases renewed by what they hold, holds handed over to sessions, and acquires asked for again under a request id."""

from __future__ import annotations

import pytest

from holdfast.wire.frames import EventKind, Kind, Options, Reason, Status
from holdfast_shard.machine import Lock
from tests.machine.driver import Answer, Client, Cluster

S, T, R = b"s" * 16, b"t" * 16, b"r" * 16


@pytest.fixture
def other(cluster: Cluster) -> Client:
    return cluster.client(tenant=2)


def renew(client: Client, name: str, token: int, ttl: int = 10_000) -> Answer:
    return client.op(Kind.RENEW, name, token=token, ttl=ttl)


def hand_over(client: Client, name: str, token: int, session: bytes = S) -> Answer:
    return client.op(Kind.RENEW, name, token=token, options=Options(session=session))


# Renewing.


def test_anybody_of_the_tenant_renews_a_plain_lease_by_name_and_token(
    cluster: Cluster, one: Client, two: Client
) -> None:
    token = one.acquire("a", ttl=1000).token
    cluster.pass_time(900)
    answer = renew(two, "a", token, 5000)
    assert (answer.status, answer.token, answer.deadline) == (Status.OK, token, 5000)
    cluster.pass_time(4999)
    assert two.check("a", token)
    cluster.pass_time(1)
    assert not two.check("a", token)
    assert renew(two, "a", token).status == Status.NOT_HELD


def test_renewing_shortens_nothing_and_says_how_long_the_lease_lasts(one: Client) -> None:
    token = one.acquire("a", ttl=9000).token
    assert renew(one, "a", token, 1000).deadline == 9000


def test_what_cannot_be_renewed_is_said(one: Client, two: Client, other: Client) -> None:
    assert renew(one, "a", 1).status == Status.NOT_HELD
    token = one.acquire("a").token
    assert renew(two, "a", token + 1).status == Status.NOT_HELD
    assert renew(other, "a", token).status == Status.NOT_HELD
    assert renew(two, "a", token, 99).status == Status.INVALID
    assert renew(two, "\x07", token).status == Status.INVALID
    lease = one.open(S)
    held = one.acquire("b", lease=lease).token
    assert renew(one, "b", held).status == Status.INVALID
    cached = one.cache("c").token
    assert renew(one, "c", cached).status == Status.INVALID


def test_what_is_being_taken_away_is_renewed_no_more(cluster: Cluster, one: Client, two: Client) -> None:
    token = one.acquire("a", ttl=1000).token
    two.op(Kind.FORCE, "a", options=Options(reason="deploy"))
    answer = renew(one, "a", token, 5000)
    assert (answer.status, answer.deadline, answer.detail) == (Status.CHANGED, 1000, [Reason.FORCED, "deploy"])
    cluster.pass_time(1000)
    assert renew(one, "a", token).status == Status.NOT_HELD


# Sessions by their id.


def test_another_client_keeps_a_session_alive_and_ends_it(cluster: Cluster, one: Client, two: Client) -> None:
    lease = one.open(S, ttl=1000)
    token = one.acquire("a", lease=lease).token
    cluster.pass_time(900)
    alive = two.op(Kind.KEEPALIVE, ttl=1000, options=Options(session=S))
    assert (alive.status, alive.deadline) == (Status.OK, 1000)
    cluster.pass_time(900)
    assert two.check("a", token)
    assert two.op(Kind.END, options=Options(session=S, now=True)).status == Status.OK
    assert two.acquire("a").status == Status.OK
    assert two.op(Kind.KEEPALIVE, ttl=1000, options=Options(session=S)).status == Status.LEASE_ENDED


def test_another_tenants_session_is_not_there(one: Client, other: Client) -> None:
    one.open(S)
    assert other.op(Kind.KEEPALIVE, ttl=1000, options=Options(session=S)).status == Status.LEASE_ENDED
    assert other.acquire("a", session=S).status == Status.LEASE_ENDED
    token = other.acquire("a").token
    assert hand_over(other, "a", token).status == Status.LEASE_ENDED


def test_a_hold_that_was_handed_over_lives_and_dies_with_the_session(
    cluster: Cluster, one: Client, two: Client
) -> None:
    lease = one.open(S, ttl=2000)
    answer = two.acquire("a", ttl=2000, session=S)
    assert answer.status == Status.OK
    for _ in range(2):
        handed = hand_over(two, "a", answer.token)
        assert (handed.status, handed.token, handed.deadline) == (Status.OK, answer.token, 2000)
    cluster.pass_time(1000)
    one.keepalive(lease, ttl=2000)
    cluster.pass_time(1500)
    assert two.check("a", answer.token)
    cluster.pass_time(500)
    assert not two.check("a", answer.token)


def test_a_hold_handed_over_ends_no_sooner_than_its_holder_was_told(cluster: Cluster, one: Client, two: Client) -> None:
    one.open(S, ttl=1000)
    token = two.acquire("a", ttl=5000, session=S).token
    assert hand_over(two, "a", token).deadline == 5000
    cluster.pass_time(4999)
    assert two.check("a", token)


def test_the_sessions_owner_learns_of_what_was_handed_over(one: Client, two: Client) -> None:
    lease = one.open(S)
    token = two.acquire("a", session=S).token
    hand_over(two, "a", token)
    assert one.keepalive(lease).status == Status.CHANGED
    change, _, held, waiting, _, _ = one.holds(lease)
    assert (change, waiting) == (1, [])
    assert [row[:3] for row in held] == [["a", token, 0]]


def test_whoever_has_its_id_sees_what_a_session_holds(one: Client, two: Client, other: Client) -> None:
    lease = one.open(S)
    token = two.acquire("a", session=S).token
    hand_over(two, "a", token)
    own = one.acquire("b", lease=lease).token
    seen = two.look(Kind.HOLDS, options=Options(session=S)).detail
    assert (seen[0], [row[:2] for row in seen[2]]) == (1, [["a", token], ["b", own]])
    assert seen == one.holds(lease)
    two.op(Kind.RELEASE, "b", token=own)
    one.op(Kind.RELEASE, "a", token=token)
    assert two.look(Kind.HOLDS, options=Options(session=S)).detail[0] == 3, "who opened it may act for many"
    for client, session in ((other, S), (two, T)):
        assert client.look(Kind.HOLDS, options=Options(session=session)).detail[1] == Reason.RELEASED


def test_a_session_gets_no_name_twice_and_nothing_of_anothers(one: Client, two: Client) -> None:
    one.open(S)
    one.open(T)
    token = two.acquire("a", session=S).token
    hand_over(two, "a", token)
    again = two.acquire("a", wait=5000, session=S)
    assert (again.status, again.detail) == (Status.ALREADY_HELD, token)
    assert hand_over(two, "a", token, T).status == Status.INVALID
    assert two.op(Kind.CANCEL, "a", token=two.seq - 2).status == Status.OK
    assert two.check("a", token), "a cancel of the acquire does not reach what the session has"


@pytest.mark.parametrize("handed_over", ["the first", "the second"])
def test_a_session_with_two_holds_of_a_name_is_asked_about_the_older(
    one: Client, two: Client, handed_over: str
) -> None:
    """In whatever order it got them: that does not survive a snapshot, and replicas have to answer alike."""
    lease = one.open(S)
    if handed_over == "the first":
        plain = two.permits("a", 1, 3).token
        own = one.permits("a", 1, 3, lease=lease).token
    else:
        own = one.permits("a", 1, 3, lease=lease).token
        plain = two.permits("a", 1, 3).token
    assert hand_over(two, "a", plain).status == Status.OK
    again = one.permits("a", 1, 3, lease=lease)
    assert (again.status, again.detail) == (Status.ALREADY_HELD, min(own, plain))


def test_what_is_being_taken_away_is_not_handed_over(one: Client, two: Client) -> None:
    one.open(S)
    token = two.acquire("a", session=S).token
    one.op(Kind.FORCE, "a")
    assert hand_over(two, "a", token).status == Status.CHANGED


def test_what_is_being_taken_away_from_its_session_is_not_promised_for_longer(
    cluster: Cluster, one: Client, two: Client
) -> None:
    """Whoever asks again to hand over what was handed over is told no more than the session was."""
    lease = one.open(S, ttl=10_000)
    token = two.acquire("a", session=S).token
    hand_over(two, "a", token)
    one.op(Kind.FORCE, "a")
    cluster.pass_time(4000)
    one.keepalive(lease)
    again = hand_over(two, "a", token)
    assert (again.status, again.deadline) == (Status.CHANGED, 6000)


def test_who_watches_sees_under_which_session_a_lock_is_held(cluster: Cluster, one: Client, two: Client) -> None:
    one.open(S)
    token = two.acquire("a", session=S).token
    seen: list[str] = []
    cluster.machine.observe(Notes(seen))
    hand_over(two, "a", token)
    assert seen == ["a"]


class Notes:
    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def touched(self, lock: Lock) -> None:
        self._seen.append(lock.name)


# Request ids.


def test_the_same_request_through_another_client_finds_its_hold(cluster: Cluster, one: Client, two: Client) -> None:
    first = one.acquire("a", ttl=1000, request=R)
    cluster.pass_time(400)
    again = two.acquire("a", ttl=1000, request=R)
    assert (again.status, again.token, again.deadline) == (Status.OK, first.token, 600)
    assert two.acquire("a", request=T).status == Status.BUSY
    assert two.release("a", again.token).status == Status.OK
    assert two.acquire("a", request=R).token > first.token


def test_of_two_copies_of_a_request_that_wait_the_later_one_waits_on(
    cluster: Cluster, one: Client, two: Client
) -> None:
    held = two.acquire("a").token
    one.acquire("a", wait=5000, request=R)
    early = one.seq
    assert two.acquire("a", wait=5000, request=R).status == Status.QUEUED
    ended = cluster.take_events(EventKind.ENDED)
    assert [(event.client, event.seq, event.reason) for event in ended] == [(one.number, early, Reason.CANCELLED)]
    two.release("a", held)
    granted = cluster.take_events(EventKind.GRANTED)
    assert [event.client for event in granted] == [two.number]
    assert one.acquire("a", request=R).token == granted[0].token


def test_what_is_being_taken_away_is_no_answer_to_its_request(one: Client, two: Client) -> None:
    one.acquire("a", request=R)
    two.op(Kind.FORCE, "a")
    assert two.acquire("a", wait=5000, request=R).status == Status.QUEUED
    assert one.acquire("a", request=b"short").status == Status.INVALID
