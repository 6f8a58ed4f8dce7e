"""An operation may arrive zero to many times, late and out of order; it happens once."""

from __future__ import annotations

from holdfast.wire.frames import EventKind, Kind, Status
from holdfast.wire.limits import ANSWERS_PER_CLIENT_MAX, CLIENT_IDLE_MS
from tests.machine.driver import Client, Cluster, Op

A = b"a" * 16


def test_a_repeated_acquire_gets_the_first_answer_and_one_hold(cluster: Cluster, one: Client) -> None:
    first = one.run([Op(Kind.ACQUIRE, 1, "a")])
    cluster.pass_time(4000)
    assert one.run([Op(Kind.ACQUIRE, 1, "a")]) == first
    assert cluster.machine.counts()["held"] == 1


def test_a_late_copy_of_an_acquire_after_its_release_holds_nothing(one: Client, two: Client) -> None:
    held = one.acquire("a")
    one.release("a", held.token)
    assert one.run([Op(Kind.ACQUIRE, 1, "a")], floor=1)[0].status == Status.STALE
    assert two.acquire("a").status == Status.OK


def test_a_late_copy_of_an_acquire_after_its_lease_expired_holds_nothing(
    cluster: Cluster, one: Client, two: Client
) -> None:
    first = one.run([Op(Kind.ACQUIRE, 1, "a", ttl=100)])
    cluster.pass_time(100)
    assert one.run([Op(Kind.ACQUIRE, 1, "a", ttl=100)]) == first
    assert two.acquire("a").status == Status.OK


def test_a_late_copy_of_a_release_never_takes_a_later_hold(one: Client) -> None:
    held = one.acquire("a")
    one.release("a", held.token)
    again = one.acquire("a")
    assert one.run([Op(Kind.RELEASE, 2, "a", token=held.token)], floor=1)[0].status == Status.STALE
    assert one.check("a", again.token)


def test_a_cancel_that_comes_first_voids_the_acquire(one: Client, two: Client) -> None:
    assert one.run([Op(Kind.CANCEL, 2, "a", token=1)], floor=1)[0].status == Status.OK
    assert one.run([Op(Kind.ACQUIRE, 1, "a")], floor=1)[0].status == Status.CANCELLED
    assert two.acquire("a").status == Status.OK


def test_a_cancel_frees_what_the_acquire_holds(one: Client, two: Client) -> None:
    one.run([Op(Kind.ACQUIRE, 1, "a")])
    one.run([Op(Kind.CANCEL, 2, "a", token=1)], floor=1)
    assert two.acquire("a").status == Status.OK
    assert one.run([Op(Kind.ACQUIRE, 1, "a")], floor=1)[0].status == Status.CANCELLED


def test_a_cancel_takes_a_waiter_from_the_queue(cluster: Cluster, one: Client, two: Client) -> None:
    held = two.acquire("a")
    one.run([Op(Kind.ACQUIRE, 1, "a", wait=60_000)])
    one.run([Op(Kind.CANCEL, 2, "a", token=1)], floor=1)
    two.release("a", held.token)
    assert cluster.take_events(EventKind.GRANTED) == []
    assert cluster.machine.counts()["waiters"] == 0


def test_a_cancel_that_names_no_lock_finds_what_the_acquire_got_by_its_lease(one: Client, two: Client) -> None:
    lease = one.open(A)
    one.acquire("a", lease=lease)
    assert one.op(Kind.CANCEL, lease=lease, token=one.seq).status == Status.OK
    assert two.acquire("a").status == Status.OK


def test_a_ticket_is_cancelled_also_when_its_answer_was_long_acknowledged(
    cluster: Cluster, one: Client, two: Client
) -> None:
    held = two.acquire("a")
    one.acquire("a", wait=60_000)
    ticket = one.seq
    one.acquire("b")
    assert one.op(Kind.CANCEL, "a", token=ticket).status == Status.OK
    two.release("a", held.token)
    assert cluster.take_events(EventKind.GRANTED) == []


def test_a_cancel_of_a_session_acquire_leaves_the_session(one: Client, two: Client) -> None:
    lease = one.open(A)
    one.acquire("b", lease=lease)
    one.run([Op(Kind.ACQUIRE, 3, "a", lease=lease)], floor=1)
    one.run([Op(Kind.CANCEL, 4, "a", lease=lease, token=3)], floor=3)
    assert two.acquire("a").status == Status.OK
    assert two.acquire("b").status == Status.BUSY


def test_a_late_copy_after_the_session_ended_changes_nothing(one: Client, two: Client) -> None:
    lease = one.open(A)
    one.op(Kind.END, lease=lease)
    assert one.run([Op(Kind.ACQUIRE, 9, "a", lease=lease)])[0].status == Status.LEASE_ENDED
    assert two.acquire("a").status == Status.OK


def test_the_window_of_unanswered_operations_is_bounded(one: Client) -> None:
    last = ANSWERS_PER_CLIENT_MAX
    assert one.run([Op(Kind.RELEASE, last, "a", token=1)], floor=1)[0].status == Status.NOT_HELD
    assert one.run([Op(Kind.RELEASE, last + 1, "a", token=1)], floor=1)[0].status == Status.TOO_FAR
    assert one.run([Op(Kind.RELEASE, last + 1, "a", token=1)], floor=2)[0].status == Status.NOT_HELD


def test_a_client_row_outlives_its_last_lease_by_ten_minutes(cluster: Cluster, one: Client) -> None:
    one.acquire("a", ttl=1000)
    cluster.pass_time(1000)
    cluster.pass_time(CLIENT_IDLE_MS - 1)
    assert cluster.machine.counts()["clients"] == 1
    cluster.pass_time(1)
    assert cluster.machine.counts()["clients"] == 0
    assert one.acquire("a").status == Status.UNREGISTERED


def test_a_client_with_a_lease_stays(cluster: Cluster, one: Client) -> None:
    one.acquire("a", ttl=10 * CLIENT_IDLE_MS)
    cluster.pass_time(2 * CLIENT_IDLE_MS)
    assert cluster.machine.counts()["clients"] == 1


def test_client_numbers_and_tokens_never_repeat_and_are_the_tenants_own(cluster: Cluster) -> None:
    clients = [cluster.client(tenant) for tenant in (1, 2, 1, 1, 2)]
    assert [client.number for client in clients] == [1, 1, 2, 3, 2]
    for expected in ([1, 1, 2, 3, 2], [4, 3, 5, 6, 4]):
        tokens = []
        for client in clients:
            tokens.append(client.acquire(f"a{client.number}").token)
            client.release(f"a{client.number}", tokens[-1])
        assert tokens == expected


def test_clients_of_two_tenants_with_one_number_are_two(cluster: Cluster) -> None:
    one, other = cluster.client(1), cluster.client(2)
    assert one.number == other.number
    first, second = one.acquire("a", ttl=1000), other.acquire("a", ttl=1000)
    assert (first.status, first.token) == (second.status, second.token) == (Status.OK, 1)
    assert other.release("a", 1).status == Status.OK
    assert one.check("a", 1)
    assert not other.check("a", 1)
    one.op(Kind.FORCE, "a")
    assert [(event.tenant, event.client) for event in cluster.take_events(EventKind.LOST)] == [(1, one.number)]
