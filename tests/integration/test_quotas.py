"""A tenant's totals over real processes: all of it can be had wherever it is wanted, and never more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

import holdfast
from holdfast.cluster import LocalCluster
from holdfast.errors import HoldfastError, QuotaExceeded
from holdfast.wire.changes import Action, Change, Changed, CreateTenant, SetTenant
from holdfast.wire.frames import Kind, Options, encode
from holdfast.wire.keys import new_key, split_key
from holdfast.wire.names import slot_of
from holdfast.wire.tenants import PLANS, KeyRole
from tests.machine.driver import Op, frame, section
from tests.node.processes import Caller, operate, until_leads

TOTAL = 10
QUOTAS = msgspec.structs.replace(PLANS["standard"].quotas, held=TOTAL, sessions=4)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


class Tenant:
    def __init__(self, cluster: LocalCluster, client: holdfast.Client, number: int) -> None:
        self.cluster = cluster
        self.client = client
        self.number = number
        table = json.loads(cluster.formation.read_bytes())["slots"]
        self._table = msgspec.convert(table, bytes)

    def names(self, group: int, count: int, salt: str = "n") -> list[str]:
        """Names whose slots are that group's."""
        found: list[str] = []
        at = 0
        while len(found) < count:
            name, at = f"{salt}{at}", at + 1
            slot = slot_of(self.number, name)
            if int.from_bytes(self._table[2 * slot : 2 * slot + 2], "little") == group:
                found.append(name)
        return found

    async def take(self, name: str, patience_s: float = 10.0) -> holdfast.Lock:
        """Also through a change of leader, and until what was let go of elsewhere is known to be free."""
        deadline = time.monotonic() + patience_s
        while True:
            lock = self.client.lock(name, ttl=60, wait=0)
            try:
                await lock.acquire()
            except HoldfastError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                return lock

    def held(self) -> int:
        """By all groups together, as their leaders say."""
        status = self.cluster.status()
        leaders = status.leaders()
        rows = [(node.node, group) for node in status.nodes for group in node.groups]
        return sum(group.held for node, group in rows if leaders.get(group.group) == node)


async def change(cluster: LocalCluster, action: Action) -> int:
    """As the operator; returns the tenant's number."""
    formation = json.loads(cluster.formation.read_bytes())
    parts = split_key(cluster.operator_key)
    assert parts is not None
    made = Change(os.urandom(16), parts[0], "127.0.0.1:1", 0, action)
    op = Op(Kind.CHANGE, options=Options(change=encode(made)))
    caller = await until_leads(formation, [node.address for node in cluster.status().nodes if node.up], group=0)
    answers = await operate(caller, frame(0, section(0, 0, [op])), group=0)
    assert answers.statuses == b"\0", answers.details
    await Caller.close_all()
    return msgspec.convert(answers.details[0], Changed).tenant


@contextlib.asynccontextmanager
async def tenant_of(cluster: LocalCluster, name: str) -> AsyncIterator[Tenant]:
    key, text = new_key("first", KeyRole.ADMIN, "", 0)
    number = await change(cluster, CreateTenant(name, name.title(), "standard", 10, QUOTAS, key))
    async with await connected(cluster, text) as client:
        yield Tenant(cluster, client, number)


async def connected(cluster: LocalCluster, key: str) -> holdfast.Client:
    """As soon as the router knows the tenant."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(HoldfastError):
                return await holdfast.connect(cluster.url, key)
            await asyncio.sleep(0.05)


async def test_all_of_a_total_can_be_had_in_whichever_group_and_no_more(cluster: LocalCluster) -> None:
    async with tenant_of(cluster, "acme") as tenant:
        for groups in ((1,), (2,), (1, 2)):
            names = [name for group in groups for name in tenant.names(group, TOTAL + 1, f"g{group}-")]
            random.Random(1).shuffle(names)
            locks = [await tenant.take(name) for name in names[:TOTAL]]
            assert tenant.held() == TOTAL
            for name in names[TOTAL:]:
                with pytest.raises(QuotaExceeded):
                    await tenant.client.lock(name, wait=0).acquire()
            assert tenant.held() == TOTAL
            for lock in locks:
                await lock.release()


async def test_a_lowered_total_takes_nothing_and_lets_nothing_new_in_until_it_fits(cluster: LocalCluster) -> None:
    async with tenant_of(cluster, "lower") as tenant:
        names = tenant.names(1, TOTAL // 2, "a") + tenant.names(2, TOTAL // 2, "b")
        locks = [await tenant.take(name) for name in names]
        await change(cluster, SetTenant("lower", quotas={"held": 4}))
        with pytest.raises(QuotaExceeded):
            await tenant.client.lock("more", wait=0).acquire()
        assert all(lock.held for lock in locks)
        for lock in locks[3:]:
            await lock.release()
        await tenant.take(names[-1])
        with pytest.raises(QuotaExceeded):
            await tenant.client.lock(names[-2], wait=0).acquire()
        assert tenant.held() == 4


@pytest.mark.timeout(120)
async def test_leaders_die_and_the_total_is_kept(cluster: LocalCluster) -> None:
    """By the tenant's own belief, which is never more than what is held."""
    async with tenant_of(cluster, "stormy") as tenant:
        names = [name for group in (1, 2) for name in tenant.names(group, 12, f"s{group}-")]
        crowd = Crowd(tenant)
        tasks = [asyncio.create_task(crowd.go_on(name)) for name in names]
        for group in (1, 0, 2):
            await asyncio.sleep(1.0)
            node = cluster.status().leaders()[group]
            cluster.kill(node)
            await asyncio.sleep(1.5)
            await asyncio.to_thread(cluster.restart, node)
        crowd.over = True
        await asyncio.gather(*tasks)
        assert crowd.most == TOTAL, "it was all had at some moment, and never more"
        assert crowd.had > 50
        locks = [await tenant.take(name, patience_s=30.0) for name in names[:TOTAL]]
        assert tenant.held() == TOTAL
        for lock in locks:
            await lock.release()


class Crowd:
    """Callers that together want more than the total, each its own name."""

    def __init__(self, tenant: Tenant) -> None:
        self.over = False
        self.had = self.most = 0
        self._tenant = tenant
        self._believed = 0
        self._rng = random.Random(7)

    async def go_on(self, name: str) -> None:
        while not self.over:
            lock = self._tenant.client.lock(name, ttl=30, wait=0)
            try:
                await lock.acquire()
            except HoldfastError:
                await asyncio.sleep(0.02)
                continue
            self.had += 1
            self._believed += 1
            self.most = max(self.most, self._believed)
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))
            self._believed -= 1
            with contextlib.suppress(HoldfastError):
                await lock.release()
