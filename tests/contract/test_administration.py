"""What administrators ask comes to the same through the frame stream, HTTP and gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import holdfast
import holdfast.admin
from holdfast.cluster import LocalCluster

from .administrators import Administrator, ByGrpc, ByHttp, ByStream
from .conftest import client_of
from .fronts import Failed

FRONTS = ("frame stream", "HTTP", "gRPC")


class Office:
    """One front, by which anyone may be asked for."""

    def __init__(self, cluster: LocalCluster, front: str) -> None:
        self.cluster = cluster
        self._front = front
        self.tenant = front.replace(" ", "-").lower()
        self._open: list[Administrator] = []

    async def of(self, key: str) -> Administrator:
        cluster = self.cluster
        if self._front == "HTTP":
            found: Administrator = ByHttp(cluster.http_url, key)
        elif self._front == "gRPC":
            found = ByGrpc(cluster.grpc_address, key)
        else:
            found = ByStream(await holdfast.admin.connect(cluster.url, key))
        self._open.append(found)
        return found

    async def close(self) -> None:
        for each in self._open:
            await each.close()
        await asyncio.sleep(0)  # in which the loop closes what the frame stream was


@pytest.fixture(params=FRONTS)
async def office(request: pytest.FixtureRequest, cluster: LocalCluster) -> AsyncIterator[Office]:
    office = Office(cluster, request.param)
    yield office
    await office.close()


async def refused(who: Administrator, do: str, **given: Any) -> str:
    with pytest.raises(Failed) as caught:
        await who.ask(do, given)
    return str(caught.value)


async def test_a_tenant_from_its_beginning_to_its_end(office: Office) -> None:
    operator = await office.of(office.cluster.operator_key)
    name = office.tenant
    given = {"id": name, "display": "A shop", "plan": "free", "quotas": {"rate": 777, "ttl_ms": 60_000}}
    made = await operator.ask("tenant.create", given)
    assert (made["display"], made["plan"], made["weight"], made["state"]) == ("A shop", "free", 1, "active")
    assert (made["rate"], made["held"], made["ttl_ms"]) == (777, 1000, 60_000)
    assert made["keys"] == [("first", "admin", "")]
    assert await refused(operator, "tenant.create", id=name) == "conflict"
    assert await operator.ask("tenant.show", {"tenant": name}) == {k: v for k, v in made.items() if k != "api_key"}
    page = await operator.ask("tenant.list", {})
    assert {name, "default", "operator"} <= set(page["tenants"])

    changed = await operator.ask("tenant.set", {"tenant": name, "weight": 9, "version": made["version"]})
    assert (changed["weight"], changed["rate"], changed["display"]) == (9, 777, "A shop")
    assert changed["version"] > made["version"]
    assert await refused(operator, "tenant.set", tenant=name, weight=8, version=made["version"]) == "conflict"
    moved = await operator.ask("tenant.set", {"tenant": name, "plan": "standard", "quotas": {"held": 5}})
    assert (moved["plan"], moved["weight"], moved["rate"], moved["held"]) == ("standard", 10, 2000, 5)
    assert await refused(operator, "tenant.set", tenant=name, plan="none") == "invalid-argument"
    for wrong in ({"weight": 1001}, {"quotas": {"rate": 0}}, {"quotas": {"held": 1 << 50}}):
        assert await refused(operator, "tenant.set", tenant=name, **wrong) == "invalid-argument", wrong

    assert await refused(operator, "tenant.delete", tenant=name) == "conflict"
    assert (await operator.ask("tenant.suspend", {"tenant": name}))["state"] == "suspended"
    assert (await operator.ask("tenant.resume", {"tenant": name}))["state"] == "active"
    await operator.ask("tenant.suspend", {"tenant": name})
    await operator.ask("tenant.delete", {"tenant": name})
    assert await refused(operator, "tenant.show", tenant=name) == "not-found"

    records = [
        record for record in (await operator.ask("audit.list", {}))["records"] if record["target"].endswith(name)
    ]
    assert [record["action"] for record in records] == [
        "tenant.delete", "tenant.suspend", "tenant.resume", "tenant.suspend", "tenant.set", "tenant.set",
        "tenant.create",
    ]  # fmt: skip
    assert records[5]["change"] == (1, 9)
    assert all(record["actor"][0] == "operator" for record in records)


async def test_records_of_the_audit_log_are_chosen(office: Office) -> None:
    before_ms = int(time.time() * 1000)
    operator, owner, key = await owned(office, "audit")
    tenant, mine = f"{office.tenant}-audit", key.split("_")[1]
    made = await owner.ask("key.create", {"name": "worker"})
    await owner.ask("key.revoke", {"key": made["key"]})
    await operator.ask("tenant.set", {"tenant": tenant, "weight": 9})
    after_ms = int(time.time() * 1000) + 1

    async def actions(who: Administrator, **given: Any) -> list[str]:
        return [record["action"] for record in (await who.ask("audit.list", given))["records"]]

    every = ["tenant.set", "key.revoke", "key.create", "tenant.create"]
    assert await actions(operator, tenant=tenant) == every
    assert await actions(owner, tenant=tenant) == await actions(owner) == every
    for who in (operator, owner):
        assert await actions(who, tenant=tenant, action="key") == ["key.revoke", "key.create"]
        assert await actions(who, tenant=tenant, action="key.create") == ["key.create"]
        assert await actions(who, target=tenant) == ["tenant.set", "tenant.create"]
        assert await actions(who, key=mine) == ["key.revoke", "key.create"]
        assert await actions(who, tenant=tenant, since_ms=before_ms, until_ms=after_ms) == every
        assert await actions(who, since_ms=after_ms) == await actions(who, tenant=tenant, until_ms=before_ms) == []
        assert await refused(who, "audit.list", target="x" * 1_025) == "invalid-argument"
    assert await actions(operator, tenant="no-such") == []
    codes = {await refused(owner, "audit.list", tenant=other) for other in ("default", "operator", "no-such")}
    assert codes == {"not-found"}


async def owned(office: Office, name: str) -> tuple[Administrator, Administrator, str]:
    """The operator, the administrator of a new tenant, and its key."""
    operator = await office.of(office.cluster.operator_key)
    made = await operator.ask("tenant.create", {"id": f"{office.tenant}-{name}"})
    key: str = made["api_key"]
    return operator, await office.of(key), key


async def test_keys_are_made_rotated_and_revoked_by_their_tenant(office: Office) -> None:
    _, owner, _ = await owned(office, "keys")
    made = await owner.ask("key.create", {"name": "worker", "role": "read", "prefix": "jobs/"})
    assert (made["name"], made["role"], made["prefix"]) == ("worker", "read", "jobs/")
    assert made["api_key"].split("_")[1] == made["key"]
    plain = await owner.ask("key.create", {})
    assert (plain["role"], plain["prefix"]) == ("locks", "")
    rotated = await owner.ask("key.rotate", {"key": made["key"]})
    assert (rotated["name"], rotated["role"], rotated["prefix"]) == ("worker", "read", "jobs/")
    assert rotated["key"] != made["key"]
    await owner.ask("key.revoke", {"key": plain["key"]})
    keys = (await owner.ask("tenant.show", {}))["keys"]
    assert sorted(keys) == [("first", "admin", ""), ("worker", "read", "jobs/")]
    assert await refused(owner, "key.revoke", key=made["key"]) == "not-found"
    reader = await office.of(rotated["api_key"])
    assert await refused(reader, "key.create", name="more") == "forbidden"
    assert await refused(reader, "lock.list") == "forbidden"
    assert await listed(reader, "lock.list", "locks", prefix="jobs/") == []


async def test_who_takes_away_his_own_key_is_told_what_came_of_it(office: Office) -> None:
    """Else the new key would be known to nobody."""
    _, owner, key = await owned(office, "own-key")
    rotated = await owner.ask("key.rotate", {"key": key.split("_")[1]})
    again = await office.of(rotated["api_key"])
    assert (await again.ask("tenant.show", {}))["keys"] == [("first", "admin", "")]
    await again.ask("key.revoke", {"key": rotated["key"]})
    with pytest.raises((Failed, holdfast.HoldfastError), match=r"unauthenticated|unknown"):
        await again.ask("tenant.show", {})


async def test_a_tenant_rules_itself_and_sees_no_other(office: Office) -> None:
    _, owner, _ = await owned(office, "alone")
    own = f"{office.tenant}-alone"
    assert (await owner.ask("tenant.list", {}))["tenants"] == [own]
    assert (await owner.ask("tenant.show", {"tenant": own}))["id"] == own
    for do, given in (
        ("tenant.show", {}), ("lock.list", {}), ("lock.show", {"name": "a"}), ("lock.break", {"name": "a"}),
        ("session.list", {}), ("session.end", {"session": "0" * 32}), ("key.create", {"name": "mine"}),
    ):  # fmt: skip
        codes = {await refused(owner, do, tenant=tenant, **given) for tenant in ("default", "operator", "no-such")}
        assert codes == {"not-found"}, do
    for do, given in (("tenant.create", {"id": "one-more"}), *((do, {"tenant": own}) for do in (
        "tenant.suspend", "tenant.resume", "tenant.delete", "tenant.set"))):  # fmt: skip
        assert await refused(owner, do, **given) == "forbidden", do
    assert [record["action"] for record in (await owner.ask("audit.list", {}))["records"]] == ["tenant.create"]


async def listed(who: Administrator, do: str, what: str, **given: Any) -> list[Any]:
    """Of all pages."""
    found: list[Any] = []
    cursor = ""
    while True:
        page = await who.ask(do, {**given, "cursor": cursor} if cursor else given)
        found += page[what]
        if not (cursor := page["cursor"]):
            return found


async def test_locks_and_sessions_of_a_tenant_are_seen_broken_and_ended(office: Office) -> None:
    operator, owner, key = await owned(office, "locks")
    tenant = f"{office.tenant}-locks"
    async with client_of(office.cluster, key) as http:
        session = (await http.post("/v1/sessions", json={"metadata": "worker 7"})).json()
        asked = {"name": "a/1", "metadata": "host-1", "session": session["session"]}
        assert (await http.post("/v1/acquire", json=asked)).status_code == 200
    lock = {"name": "a/1", "waiters": 0, "holders": [(True, "exclusive", "free", 1, "host-1", "")]}
    for who, given in ((owner, {}), (operator, {"tenant": tenant})):
        assert await who.ask("lock.show", {"name": "a/1", **given}) == lock
        assert await listed(who, "lock.list", "locks", prefix="a/", **given) == [lock]
        parts = await listed(who, "session.list", "sessions", **given)
        assert sum(part["held"] for part in parts) == 1
        assert all(part["session"] == session["id"] and part["ttl_ms"] == 30_000 for part in parts)
    assert await refused(operator, "lock.show", name="a/1") == "invalid-argument"
    assert await refused(owner, "lock.break", name="a/2") == "not-found"
    assert await refused(owner, "lock.break", name="a/1", token=1 << 52) == "not-found"
    assert await refused(owner, "session.end", session="short") == "invalid-argument"
    await owner.ask("lock.break", {"name": "a/1", "reason": "maintenance"})
    assert (await owner.ask("lock.show", {"name": "a/1"}))["holders"][0][-1] == "forced"
    await owner.ask("lock.break", {"name": "a/1", "now": True})
    assert (await owner.ask("lock.show", {"name": "a/1"}))["holders"] == []
    await operator.ask("session.end", {"tenant": tenant, "session": session["id"], "reason": "gone"})
    async with client_of(office.cluster, key) as http:
        kept = await http.post(f"/v1/sessions/{session['session']}/keepalive")
        assert kept.json()["code"] == "session-lost"


async def test_only_so_many_requests_of_a_tenants_administrators_whichever_way_they_come(
    cluster: LocalCluster,
) -> None:
    """Twenty at once, and then one in a second: the fronts share one pace."""
    ways = [Office(cluster, front) for front in FRONTS]
    operator = await ways[0].of(cluster.operator_key)
    made = await operator.ask("tenant.create", {"id": "paced", "quotas": {"rate": 1, "burst": 1}})
    key = made["api_key"]
    administrators = [await office.of(key) for office in ways]
    heard = 0
    with pytest.raises(Failed, match="throttled"):
        for turn in range(60):
            await administrators[turn % 3].ask("tenant.show", {})
            heard += 1
    assert heard >= 20
    codes = await asyncio.gather(*(refused(each, "tenant.show") for each in administrators))
    assert codes == ["throttled"] * 3
    assert (await operator.ask("tenant.show", {"tenant": "paced"}))["id"] == "paced"
    for office in ways:
        await office.close()
