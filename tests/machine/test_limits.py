"""Every limit of an operation: at the limit it is taken; one beyond is refused, with the limit, and changes nothing."""

from __future__ import annotations

import pytest

from holdfast.wire.frames import Allotment, Kind, Options, Status
from holdfast.wire.limits import (
    CACHE_TTL_MS_MAX,
    HOLDERS_PER_LOCK_MAX,
    LOCK_DELAY_MS_MAX,
    LOCKS_PER_SESSION_MAX,
    METADATA_BYTES_MAX,
    NAME_BYTES_MAX,
    OPERATIONS_PER_SECTION_MAX,
    PERMITS_MAX,
    REASON_BYTES_MAX,
    SESSION_ID_BYTES,
    TTL_MS_MAX,
    TTL_MS_MIN,
    WAIT_MS_MAX,
    WAITERS_PER_LOCK_MAX,
)
from holdfast_shard.machine import Genesis, LockMachine
from tests.machine.driver import ALL_SLOTS, GENESIS, PLENTY, Answer, Client, Cluster, Op, frame, section

A = b"a" * SESSION_ID_BYTES


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(LockMachine(GENESIS))


def many(client: Client, ops: list[Op]) -> list[Answer]:
    """As an SDK sends them: a section after another, each answered before the next."""
    found: list[Answer] = []
    for at in range(0, len(ops), OPERATIONS_PER_SECTION_MAX):
        part = ops[at : at + OPERATIONS_PER_SECTION_MAX]
        for op in part:
            client.seq += 1
            op.seq = client.seq
        found += client.run(part, floor=part[0].seq)
    client.floor = client.seq + 1
    return found


FIELDS = [
    ("ttl", TTL_MS_MIN, TTL_MS_MIN - 1),
    ("ttl", TTL_MS_MAX, TTL_MS_MAX + 1),
    ("wait", 0, -1),
    ("wait", WAIT_MS_MAX, WAIT_MS_MAX + 1),
]


@pytest.mark.parametrize(("field", "at", "beyond"), FIELDS)
def test_times_of_an_acquire(one: Client, field: str, at: int, beyond: int) -> None:
    assert one.op(Kind.ACQUIRE, "a", **{field: at}).status == Status.OK
    refused = one.op(Kind.ACQUIRE, "b", **{field: beyond})
    assert (refused.status, str(TTL_MS_MAX) in refused.detail) == (Status.INVALID, True)
    assert one.cluster.machine.counts()["held"] == 1


OPTIONS = [
    (Options(metadata=b"m" * METADATA_BYTES_MAX), Options(metadata=b"m" * (METADATA_BYTES_MAX + 1))),
    (Options(lock_delay_ms=LOCK_DELAY_MS_MAX), Options(lock_delay_ms=LOCK_DELAY_MS_MAX + 1)),
    (Options(lock_delay_ms=0, reentrant=True), Options(lock_delay_ms=-1)),
    (Options(mode=2, permits=1, capacity=PERMITS_MAX), Options(mode=2, permits=1, capacity=PERMITS_MAX + 1)),
    (Options(mode=2, permits=5, capacity=5), Options(mode=2, permits=6, capacity=5)),
    (Options(mode=2, permits=1, capacity=1), Options(mode=2, permits=0, capacity=1)),
    (Options(mode=2, permits=1, capacity=1), Options(mode=4)),
    (Options(steal=True, reason="é" * (REASON_BYTES_MAX // 2)), Options(reason="é" * (REASON_BYTES_MAX // 2) + "e")),
]


@pytest.mark.parametrize(("at", "beyond"), OPTIONS)
def test_options_of_an_acquire(one: Client, at: Options, beyond: Options) -> None:
    assert one.op(Kind.ACQUIRE, "a", options=at).status == Status.OK
    assert one.op(Kind.ACQUIRE, "b", options=beyond).status == Status.INVALID
    assert one.cluster.machine.counts()["held"] == 1


def test_a_cached_absence(one: Client) -> None:
    assert one.cache("a", CACHE_TTL_MS_MAX).status == Status.OK
    assert one.cache("b", CACHE_TTL_MS_MAX + 1).status == Status.INVALID


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("é" * (NAME_BYTES_MAX // 2), Status.OK),
        ("é" * (NAME_BYTES_MAX // 2) + "e", Status.INVALID),
        ("n", Status.OK),
    ],
)
def test_a_name(one: Client, name: str, status: Status) -> None:
    assert one.acquire(name).status == status
    assert one.op(Kind.RELEASE, name, token=99).status == (Status.NOT_HELD if status == Status.OK else status)


def test_a_session(one: Client) -> None:
    for wrong in (A[:-1], A + b"a", b""):
        assert one.op(Kind.OPEN, options=Options(session=wrong)).status == Status.INVALID
    assert one.op(Kind.OPEN, ttl=TTL_MS_MAX + 1, options=Options(session=A)).status == Status.INVALID
    fat = Options(session=A, metadata=b"m" * (METADATA_BYTES_MAX + 1))
    assert one.op(Kind.OPEN, options=fat).status == Status.INVALID
    lease = one.open(A, ttl=TTL_MS_MAX, metadata=b"m" * METADATA_BYTES_MAX)
    assert one.keepalive(lease, ttl=TTL_MS_MIN - 1).status == Status.INVALID
    assert one.keepalive(lease, ttl=TTL_MS_MIN).status == Status.OK


def test_reasons_of_what_is_taken(one: Client, two: Client) -> None:
    one.acquire("a")
    long = Options(reason="r" * (REASON_BYTES_MAX + 1))
    assert two.op(Kind.FORCE, "a", options=long).status == Status.INVALID
    one.open(A)
    assert two.op(Kind.END, options=Options(session=A, reason=long.reason)).status == Status.INVALID
    assert two.op(Kind.FORCE, "a", options=Options(reason="r" * REASON_BYTES_MAX)).status == Status.OK


def test_waiters_of_a_lock(one: Client, two: Client) -> None:
    one.acquire("a")
    answers = many(two, [Op(Kind.ACQUIRE, 0, "a", wait=60_000) for _ in range(WAITERS_PER_LOCK_MAX + 1)])
    assert {answer.status for answer in answers[:-1]} == {Status.QUEUED}
    assert (answers[-1].status, answers[-1].detail) == (Status.TOO_MANY_WAITERS, WAITERS_PER_LOCK_MAX)
    assert one.cluster.machine.counts()["waiters"] == WAITERS_PER_LOCK_MAX


def test_holders_of_a_lock(one: Client) -> None:
    shared = Options(mode=1)
    answers = many(one, [Op(Kind.ACQUIRE, 0, "a", options=shared) for _ in range(HOLDERS_PER_LOCK_MAX + 1)])
    assert {answer.status for answer in answers[:-1]} == {Status.OK}
    assert (answers[-1].status, answers[-1].detail) == (Status.TOO_MANY_HOLDERS, HOLDERS_PER_LOCK_MAX)
    one.release("a", answers[0].token)
    assert one.shared("a").status == Status.OK


def test_locks_of_a_session(one: Client, two: Client) -> None:
    lease = one.open(A, ttl=600_000)
    two.acquire("held")
    answers = many(one, [Op(Kind.ACQUIRE, 0, f"n{n}", lease) for n in range(LOCKS_PER_SESSION_MAX)])
    assert {answer.status for answer in answers} == {Status.OK}
    for name, wait in (("one more", 0), ("held", 1000)):
        beyond = one.acquire(name, lease=lease, wait=wait)
        assert (beyond.status, beyond.detail) == (Status.TOO_MANY_LOCKS, LOCKS_PER_SESSION_MAX)
    one.release("n0", answers[0].token)
    assert one.acquire("one more", lease=lease).status == Status.OK


@pytest.mark.parametrize("limit", [3])
def test_leases_of_a_client(one: Client, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """The real limit is a million, whose rows would take most of this test's machine."""
    for module in ("acquire", "operations"):
        monkeypatch.setattr(f"holdfast_shard.machine.{module}.LEASES_PER_CLIENT_MAX", limit)
    for n in range(limit):
        assert one.acquire(f"n{n}").status == Status.OK
    beyond = one.acquire("n")
    assert (beyond.status, beyond.detail) == (Status.TOO_MANY_LEASES, limit)
    assert one.op(Kind.OPEN, options=Options(session=A)).status == Status.TOO_MANY_LEASES


def test_how_often_a_session_holds_one_name(one: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast_shard.machine.acquire.REENTRANCY_MAX", 3)
    lease = one.open(A)
    statuses = [one.acquire("a", lease=lease, reentrant=True).status for _ in range(4)]
    assert statuses == [Status.OK] * 3 + [Status.ALREADY_HELD]


def test_operations_of_a_section(cluster: Cluster, one: Client) -> None:
    at = [Op(Kind.ACQUIRE, n + 1, f"n{n}") for n in range(OPERATIONS_PER_SECTION_MAX)]
    assert {answer.status for answer in one.run(at, floor=1)} == {Status.OK}
    beyond = [Op(Kind.RELEASE, n + 3000, "x", token=1) for n in range(OPERATIONS_PER_SECTION_MAX + 1)]
    assert {answer.status for answer in one.run(beyond, floor=1)} == {Status.INVALID}
    assert cluster.entry(frame(1, section(one.number, 1, [])))


def allot(cluster: Cluster, **limits: int) -> None:
    """Plenty of everything, but for these limits."""
    version = cluster.index
    allotment = Allotment(1, version, PLENTY, PLENTY, PLENTY, **limits)
    cluster.entry(frame(0, section(0, 0, [Op(Kind.ALLOT, options=Options(allotment=allotment))])))


def test_a_tenant_without_an_allotment_holds_nothing(cluster: Cluster) -> None:
    stranger = cluster.client(tenant=77)
    refused = stranger.acquire("a")
    assert (refused.status, refused.detail) == (Status.QUOTA_HELD, 0)
    refused = stranger.op(Kind.OPEN, options=Options(session=A))
    assert (refused.status, refused.detail) == (Status.QUOTA_SESSIONS, 0)
    assert cluster.machine.counts()["held"] == 0


def test_the_longest_ttl_of_a_tenant(cluster: Cluster, one: Client) -> None:
    allot(cluster, ttl_ms=5000)
    assert one.acquire("a", ttl=5000).status == Status.OK
    lease = one.open(A, ttl=5000)
    for refused in (one.acquire("b", ttl=5001), one.op(Kind.OPEN, ttl=5001, options=Options(session=b"b" * 16))):
        assert (refused.status, refused.detail) == (Status.QUOTA_TTL, 5000)
    assert one.acquire("b", lease=lease, ttl=60_000).status == Status.OK, "a session's own lease is what counts"


def test_a_lowered_ttl_ends_no_lease(cluster: Cluster, one: Client) -> None:
    held = one.acquire("a", ttl=20_000)
    allot(cluster, ttl_ms=5000)
    plain = one.seq
    assert (one.keepalive(plain, ttl=20_000).status, one.keepalive(plain, ttl=20_000).deadline) == (Status.OK, 20_000)
    cluster.pass_time(19_000)
    answer = one.keepalive(plain, ttl=20_000)
    assert (answer.status, answer.deadline) == (Status.OK, 5000)
    assert one.keepalive(plain, ttl=TTL_MS_MAX + 1).status == Status.INVALID
    assert one.check("a", held.token)


def test_the_metadata_of_a_tenant(cluster: Cluster, one: Client) -> None:
    allot(cluster, metadata_bytes=4)
    assert one.acquire("a", metadata=b"host").status == Status.OK
    session = Options(session=A, metadata=b"hosts")
    for refused in (one.acquire("b", metadata=b"hosts"), one.op(Kind.OPEN, options=session)):
        assert (refused.status, refused.detail) == (Status.QUOTA_METADATA, 4)
    assert one.acquire("b", metadata=b"h" * (METADATA_BYTES_MAX + 1)).status == Status.INVALID


@pytest.mark.parametrize("limit", [0, 2])
def test_the_waiters_per_lock_of_a_tenant(cluster: Cluster, one: Client, limit: int) -> None:
    allot(cluster, waiters_per_lock=limit)
    other = cluster.client(tenant=2)
    for client in (one, other):
        client.acquire("a")
        for _ in range(limit):
            assert client.acquire("a", wait=60_000).status == Status.QUEUED
    refused = one.acquire("a", wait=60_000)
    assert (refused.status, refused.detail) == (Status.TOO_MANY_WAITERS, limit)
    assert other.acquire("a", wait=60_000).status == Status.QUEUED


def test_limits_beyond_the_services_own_say_nothing(cluster: Cluster, one: Client) -> None:
    allot(cluster, ttl_ms=TTL_MS_MAX * 2, metadata_bytes=METADATA_BYTES_MAX * 2, waiters_per_lock=10**9)
    assert one.acquire("a", ttl=TTL_MS_MAX + 1).status == Status.INVALID
    assert one.acquire("a", metadata=b"m" * (METADATA_BYTES_MAX + 1)).status == Status.INVALID
    copy = LockMachine(Genesis("cluster", 1, ALL_SLOTS))
    copy.restore(list(cluster.machine.export()))
    assert copy.rows_digest() == cluster.machine.rows_digest()
