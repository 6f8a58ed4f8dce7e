"""A deleted tenant gets nothing more, loses nothing before its time, and leaves no row anywhere."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.wire.changes import DeleteTenant, SuspendTenant
from holdfast.wire.frames import GONE, Allotment, EventKind, Kind, Options, Status, encode
from holdfast.wire.limits import CLIENT_IDLE_MS
from holdfast.wire.messages import GroupRecord
from holdfast_shard.machine import LockMachine, build_entry
from holdfast_shard.machine.allotments import Report
from tests.machine import invariants
from tests.machine.driver import GENESIS, Client, Cluster, Op, frame, section
from tests.machine.test_tenancy import Meta, create
from tests.tenants import meta_of

GROUP = GENESIS.group
TENANT = 3


def tell(cluster: Cluster, allotment: Allotment) -> None:
    cluster.entry(frame(0, section(0, 0, [Op(Kind.ALLOT, options=Options(allotment=allotment))])))


def delete(cluster: Cluster, tenant: int = TENANT) -> None:
    tell(cluster, Allotment(tenant, GONE, 0, 0, 0, 0, 0, 0))


def restored(cluster: Cluster) -> LockMachine:
    machine = LockMachine(GENESIS)
    machine.restore(list(cluster.machine.export()))
    assert machine.rows_digest() == cluster.machine.rows_digest()
    return machine


@pytest.fixture
def acme(cluster: Cluster) -> Client:
    return cluster.client(TENANT)


def test_it_gets_nothing_more_and_keeps_what_it_has_until_the_last_deadline_it_was_told(
    cluster: Cluster, acme: Client
) -> None:
    lease = acme.open(b"s" * 16, ttl=5000)
    acme.acquire("a", lease=lease)
    token = acme.acquire("b", ttl=7000).token
    cluster.client(TENANT).acquire("a", ttl=60_000, wait=60_000)
    delete(cluster)
    assert acme.acquire("c").status == Status.QUOTA_TTL
    assert acme.cache("c").status == Status.QUOTA_TTL
    assert acme.op(Kind.OPEN, options=Options(session=b"t" * 16)).status == Status.QUOTA_TTL
    assert acme.acquire("c", lease=lease).status == Status.QUOTA_HELD
    assert acme.keepalive(lease, ttl=60_000).deadline == 5000
    assert acme.op(Kind.RENEW, "b", token=token, ttl=60_000).deadline == 7000
    assert cluster.client(TENANT).number == 0, "nobody registers any more"
    cluster.pass_time(5000)
    assert [event.kind for event in cluster.take_events()] == [EventKind.LOST, EventKind.ENDED]
    assert acme.check("b", token)
    cluster.pass_time(2000)
    assert not acme.check("b", token)
    assert cluster.machine.counts()["held"] == 0


def test_its_row_goes_ten_minutes_after_its_last_client_was_heard_and_not_before(
    cluster: Cluster, acme: Client
) -> None:
    held = acme.acquire("a", ttl=5000, lock_delay_ms=60_000)
    delete(cluster)
    cluster.pass_time(CLIENT_IDLE_MS - 1)
    acme.check("a", held.token)
    acme.keepalive(1)
    for _ in range(3):
        machine = restored(cluster)
        assert TENANT in cluster.machine.tenant_numbers()
        cluster.pass_time(CLIENT_IDLE_MS - 1)
        invariants.check(cluster.machine)
        invariants.check(machine)
    assert TENANT not in cluster.machine.tenant_numbers()
    assert TENANT not in restored(cluster).tenant_numbers()
    assert cluster.machine.counts()["clients"] == 0
    assert TENANT not in cluster.machine._ledger.sessions
    assert cluster.machine.due_ms() is None


def test_a_late_word_of_it_finds_its_counters_and_is_no_way_back(cluster: Cluster, acme: Client) -> None:
    acme.acquire("a", ttl=1000)
    cluster.pass_time(1000)
    cluster.pass_time(CLIENT_IDLE_MS)
    assert cluster.machine.counts()["clients"] == 0
    delete(cluster)
    tell(cluster, Allotment(TENANT, 7, 9, 9, 9))
    delete(cluster)
    row = cluster.machine._ledger.tenants[TENANT]
    assert (row.last_token, row.held_max, row.is_gone) == (1, 0, True)
    cluster.pass_time(CLIENT_IDLE_MS)
    assert TENANT not in cluster.machine.tenant_numbers()


class World:
    """The meta group and a lock group, and what is carried between them."""

    def __init__(self) -> None:
        groups = tuple(GroupRecord(group, (1,)) for group in (0, GROUP))
        self.meta = Meta(msgspec.structs.replace(meta_of(), groups=groups))
        self.locks = Cluster()

    def carry(self) -> None:
        """Allotments to the group, and what it says of them back."""
        for allotment in list(self.meta.machine.allotments.unreported(GROUP)):
            tell(self.locks, allotment)
        self.report(self.locks.machine.take_noteworthy())

    def report(self, numbers: set[int]) -> None:
        machine, allotments = self.locks.machine, self.meta.machine.allotments
        uses = [use for use in map(machine.take_use, sorted(numbers)) if allotments.is_news(GROUP, use)]
        op = Op(Kind.REPORT, options=Options(change=encode(Report(GROUP, uses))))
        entry = build_entry(1, 10, [frame(0, section(0, 0, [op]))])
        self.meta.machine.apply(self.meta.machine.applied_index + 1, 1, entry)

    def rows(self) -> tuple[int, int, int]:
        snapshot = b"".join(self.locks.machine.export())
        return len(self.locks.machine.tenant_numbers()), len(self.meta.machine.allotments.export()), len(snapshot)


def test_many_tenants_that_come_and_go_leave_no_rows() -> None:
    world = World()
    world.carry()
    before = world.rows()
    for number in range(200):
        tenant = world.meta.make(create(f"acme{number}")).tenant
        assert tenant == 2 + number, "a number is given once"
        world.carry()
        if tenant not in (2, 3):  # whose allotments stand in the genesis of the group
            client = world.locks.client(tenant)
            client.open(b"s" * 16, ttl=1000)
            assert client.acquire("a", ttl=1000).status == Status.OK
        world.meta.make(SuspendTenant(f"acme{number}"))
        world.meta.make(DeleteTenant(f"acme{number}"))
        world.carry()
        assert list(world.meta.machine.allotments.unreported(GROUP)) == []
    world.locks.pass_time(1000)
    world.locks.pass_time(CLIENT_IDLE_MS)
    world.locks.pass_time(CLIENT_IDLE_MS)
    tenants, shares, snapshot = world.rows()
    assert (tenants, shares) == (before[0] - 2, before[1])
    assert snapshot < before[2] + 64
    assert world.locks.machine.take_noteworthy() == set()
    assert world.locks.machine.counts()["clients"] == 0


def test_a_row_that_a_late_word_made_is_reported_and_goes_again() -> None:
    world = World()
    tenant = world.meta.make(create()).tenant
    world.carry()
    world.meta.make(SuspendTenant("acme"))
    world.meta.make(DeleteTenant("acme"))
    world.carry()
    world.locks.pass_time(CLIENT_IDLE_MS)
    assert tenant not in world.locks.machine.tenant_numbers()
    stranger = world.locks.client(tenant)
    assert stranger.number == 1
    world.report(set(world.locks.machine.tenant_numbers()))
    world.carry()
    for _ in range(2):
        world.locks.pass_time(CLIENT_IDLE_MS)
    assert tenant not in world.locks.machine.tenant_numbers()
    assert list(world.meta.machine.allotments.unreported(GROUP)) == []
