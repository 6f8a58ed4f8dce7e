"""What a leader tells of its tenants' use: differences, soon where a share was too small, and all to a new listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.wire.frames import GONE, Allotment, Kind, Options, Status
from holdfast.wire.limits import CLIENT_IDLE_MS
from holdfast_shard.machine import Genesis, LockMachine
from holdfast_shard.machine.allotments import Report, Use
from holdfast_shard.node.use_reporter import PROMPT_S, SCAN_S, WANTED_S, UseReporter
from tests.machine.driver import ALL_SLOTS, Cluster, Op, frame, section


class Leader:
    """As much of a replica as counts here."""

    def __init__(self) -> None:
        self.ready = True
        self.proposes = True
        self.leader: int | None = 1
        self.term = 1
        self.applied_index = 1

    def elapsed_ms(self, now: float) -> int:
        return 0


class Reporting:
    def __init__(self) -> None:
        genesis = Genesis("cluster", 1, ALL_SLOTS, (Allotment(1, 1, 2, 9, 9), Allotment(2, 1, 9, 9, 9)))
        self.cluster = Cluster(LockMachine(genesis))
        self.replica = Leader()
        self.now = 100.0
        self.heard = True
        self.said: list[Use] = []
        self.reporter = UseReporter({1: self.cluster.machine}, {1: self.replica}, send=self._send, now=lambda: self.now)

    def _send(self, report: Report) -> bool:
        assert report.group == 1
        self.said += report.uses
        return self.heard

    def allot(self, version: int, held: int) -> None:
        """To the second tenant."""
        op = Op(Kind.ALLOT, options=Options(allotment=Allotment(2, version, held, 9, 9)))
        self.cluster.entry(frame(0, section(0, 0, [op])))

    async def scan(self) -> list[Use]:
        """What is said at the next look at all tenants, which is now."""
        self.reporter._arm(0.0)
        for _ in range(3):
            await asyncio.sleep(0)
        return self.take()

    async def begin(self) -> list[Use]:
        self.reporter.begin()
        return await self.scan()

    def look(self, later_s: float = PROMPT_S) -> list[Use]:
        self.now += later_s
        self.reporter.look()
        return self.take()

    def take(self) -> list[Use]:
        said, self.said = self.said, []
        return sorted(said, key=lambda use: use.tenant)


@pytest.fixture
async def reporting() -> AsyncIterator[Reporting]:
    made = Reporting()
    yield made
    made.reporter.close()


def use(tenant: int, held: int, wanted: int = 0, version: int = 1) -> Use:
    return Use(tenant, version, (held, 0, 0), (wanted, 0, 0))


async def test_a_new_listener_hears_everything_and_then_what_has_changed(reporting: Reporting) -> None:
    assert await reporting.begin() == [use(1, 0), use(2, 0)]
    assert await reporting.scan() == []
    reporting.cluster.client().acquire("a")
    assert reporting.look() == [], "that can wait for the next scan"
    assert await reporting.scan() == [use(1, 1)]
    assert await reporting.begin() == [use(1, 1), use(2, 0)]


async def test_a_small_part_of_a_large_share_is_not_told_of(reporting: Reporting) -> None:
    """Else every scan of a busy group would be an entry in the meta group's log."""
    reporting.allot(2, 64)
    client = reporting.cluster.client(tenant=2)
    assert use(2, 0, version=2) in await reporting.begin()
    tokens = [client.acquire(f"name-{number}").token for number in range(3)]
    assert await reporting.scan() == []
    client.acquire("one more")
    assert await reporting.scan() == [use(2, 4, version=2)]
    client.release("name-0", tokens[0])
    assert await reporting.scan() == []
    tokens = [client.acquire(f"many-{number}").token for number in range(45)]
    assert await reporting.scan() == [use(2, 48, version=2)], "three quarters"
    client.acquire("beyond")
    assert await reporting.scan() == [use(2, 49, version=2)], "nearly used up"
    reporting.allot(3, 40)
    assert await reporting.scan() == [use(2, 49, version=3)]
    client.release("many-0", tokens[0])
    assert await reporting.scan() == [use(2, 48, version=3)], "what is beyond the share is told to the last"


async def test_a_share_that_was_too_small_is_told_of_at_once_and_for_a_second(reporting: Reporting) -> None:
    await reporting.begin()
    client = reporting.cluster.client()
    statuses = [client.acquire(name).status for name in "abcd"]
    assert statuses[2:] == [Status.QUOTA_HELD] * 2
    assert reporting.look(0.0) == [], "no two reports follow each other closer than that"
    assert reporting.look() == [use(1, 2, wanted=2)]
    assert await reporting.scan() == []
    reporting.now += WANTED_S
    assert await reporting.scan() == [use(1, 2)]


async def test_another_allotment_is_confirmed_at_once(reporting: Reporting) -> None:
    await reporting.begin()
    reporting.allot(2, 5)
    assert reporting.look() == [use(2, 0, version=2)]


async def test_a_tenant_that_is_gone_is_confirmed_and_forgotten(reporting: Reporting) -> None:
    await reporting.begin()
    client = reporting.cluster.client(2)
    client.acquire("a", ttl=1000)
    reporting.allot(GONE, 0)
    assert reporting.look() == [use(2, 1, version=GONE)]
    reporting.cluster.pass_time(1000)
    assert await reporting.scan() == [use(2, 0, version=GONE)]
    for _ in range(3):
        reporting.cluster.pass_time(CLIENT_IDLE_MS)
    assert await reporting.scan() == []
    (group,) = reporting.reporter._groups.values()
    assert set(group._told) == {1}
    assert await reporting.begin() == [use(1, 0)]


async def test_only_a_leader_that_serves_knows_and_another_office_tells_all(reporting: Reporting) -> None:
    await reporting.begin()
    client = reporting.cluster.client()
    for name in "abc":
        client.acquire(name)
    reporting.replica.ready = False
    assert reporting.look() == []
    assert await reporting.scan() == []
    reporting.replica.ready, reporting.replica.term = True, 3
    assert await reporting.scan() == [use(1, 2), use(2, 0)], "what an earlier leader refused is none of its wishes"


async def test_nobody_listens_any_more_and_somebody_does_again(reporting: Reporting) -> None:
    await reporting.begin()
    reporting.heard = False
    client = reporting.cluster.client()
    client.acquire("a")
    await reporting.scan()
    client.acquire("b")
    client.acquire("c")
    assert reporting.look(SCAN_S) == []
    reporting.heard = True
    assert await reporting.begin() == [use(1, 2, wanted=1), use(2, 0)]
