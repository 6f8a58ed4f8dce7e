"""Tenants, keys, roles and the audit log, through real processes and two routers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import holdfast
import holdfast.admin
from holdfast.cli.program import run_program
from holdfast.cluster import LocalCluster
from holdfast.errors import Conflict, Forbidden, HoldfastError, InvalidArgument, NotFound, Unauthenticated
from holdfast.wire.errors import Code
from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Role, decode_refusal
from tests.node.processes import Caller

IN_FORCE_S = 1.0
"""What the documentation promises; it takes some milliseconds."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def second_router(cluster: LocalCluster) -> Iterator[str]:
    """Another router of the same cluster."""
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast_router", "--formation", str(cluster.formation), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        yield f"holdfast://{json.loads(process.stdout.readline())['address']}"
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture
async def admin(cluster: LocalCluster) -> AsyncIterator[holdfast.admin.Admin]:
    async with holdfast.admin.connect(cluster.url, cluster.operator_key) as admin:
        yield admin


async def records(admin: holdfast.admin.Admin, action: str) -> list[dict[str, Any]]:
    return [record async for record in admin.audit() if record["action"] == action]


async def test_two_tenants_have_locks_of_the_same_name_and_do_not_see_each_other(
    cluster: LocalCluster, admin: holdfast.admin.Admin
) -> None:
    made = await admin.create_tenant("apart", held=50)
    assert (made.tenant.quotas["held"], made.tenant.plan) == (50, "standard")
    async with (
        holdfast.connect(cluster.url, cluster.api_key) as one,
        holdfast.connect(cluster.url, made.api_key) as two,
    ):
        mine, theirs = await one.lock("same/name").acquire(), await two.lock("same/name").acquire()
        assert mine.held
        assert theirs.held
        assert [lock.name async for lock in two.list("")] == ["same/name"]
        await mine.release()
        assert (await two.get("same/name")).holders
    with pytest.raises(Conflict):
        await admin.create_tenant("apart")


async def known_to(url: str, key: str) -> holdfast.Client:
    """A client with a key that was just made: routers other than the one that made it hear of it within a second."""
    async with asyncio.timeout(1.0):
        while True:
            try:
                return await holdfast.connect(url, key, timeout=1.0)
            except Unauthenticated:
                await asyncio.sleep(0.01)


async def test_a_revoked_key_is_refused_by_every_router_within_a_second_and_its_connections_end(
    cluster: LocalCluster, second_router: str, admin: holdfast.admin.Admin
) -> None:
    made = await admin.create_key("default", name="short-lived")
    last = [0.0, 0.0]
    stop = asyncio.Event()

    async def use(at: int, client: holdfast.Client) -> None:
        while not stop.is_set():
            with contextlib.suppress(HoldfastError):
                lock = await client.try_lock(f"revoked/{at}")
                last[at] = time.monotonic()
                assert lock is not None
                await lock.release()
            await asyncio.sleep(0)

    urls = (cluster.url, second_router)
    clients = [await known_to(url, made.api_key) for url in urls]
    users = [asyncio.create_task(use(at, client)) for at, client in enumerate(clients)]
    while not all(last):
        await asyncio.sleep(0.01)
    await admin.revoke_key(made.key.id)
    revoked = time.monotonic()
    for url in urls:
        async with asyncio.timeout(5):
            while True:
                try:
                    async with holdfast.connect(url, made.api_key):
                        await asyncio.sleep(0.01)
                except Unauthenticated:
                    break
    refused_s = time.monotonic() - revoked
    stop.set()
    await asyncio.gather(*users)
    used_s = max(last) - revoked
    print(
        f"last accepted use {used_s * 1000:+.1f} ms after the answer to revoke; all routers refuse by {refused_s:.3f} s"
    )
    assert used_s < IN_FORCE_S
    assert refused_s < IN_FORCE_S
    for client in clients:
        await client.close()


async def test_a_change_is_in_force_on_the_other_router_within_a_second(
    cluster: LocalCluster, second_router: str, admin: holdfast.admin.Admin
) -> None:
    await admin.create_tenant("watched")
    took = []
    async with holdfast.admin.connect(second_router, cluster.operator_key) as other:
        for weight in range(1, 21):
            changed = await admin.set_tenant("watched", weight=weight)
            answered = time.monotonic()
            async with asyncio.timeout(5):
                while (await other.tenant("watched")).version < changed.version:
                    await asyncio.sleep(0.001)
            took.append(time.monotonic() - answered)
    print(f"in force elsewhere after {max(took) * 1000:.1f} ms at most, {sorted(took)[10] * 1000:.1f} ms in the median")
    assert max(took) < IN_FORCE_S


async def test_a_suspended_tenants_clients_are_shut_out_and_come_back(
    cluster: LocalCluster, admin: holdfast.admin.Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.link.RETRY_REFUSED_S", 1.0)
    made = await admin.create_tenant("moody")
    client = await holdfast.connect(cluster.url, made.api_key, timeout=1.0)
    lock = await client.lock("mine", ttl=30).acquire()
    await admin.suspend_tenant("moody")
    with pytest.raises(HoldfastError):
        await client.lock("other").acquire()
    with pytest.raises(Forbidden, match="suspended"):
        await holdfast.connect(cluster.url, made.api_key)
    with pytest.raises(Conflict):
        await admin.create_tenant("moody")
    await admin.resume_tenant("moody")
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(HoldfastError):
                await client.lock("other").acquire()
                break
    assert lock.held
    await client.close()
    await admin.suspend_tenant("moody")
    await admin.delete_tenant("moody")
    with pytest.raises(Unauthenticated):
        await holdfast.connect(cluster.url, made.api_key)
    with pytest.raises(NotFound):
        await admin.tenant("moody")


async def test_roles_and_prefixes_hold_in_practice(cluster: LocalCluster, admin: holdfast.admin.Admin) -> None:
    reader = (await admin.create_key("default", role="read")).api_key
    worker = (await admin.create_key("default", role="locks", prefix="jobs/")).api_key
    async with holdfast.connect(cluster.url, worker) as client:
        lock = await client.lock("jobs/1").acquire()
        for attempt in (client.lock("other/1").acquire(), client.get("other/1"), client.force_release("jobs/1")):
            with pytest.raises(Forbidden):
                await attempt
        async with holdfast.connect(cluster.url, reader) as looking:
            assert (await looking.get("jobs/1")).holders
            with pytest.raises(Forbidden):
                await looking.lock("jobs/2").acquire()
        assert lock.held
        with pytest.raises(Forbidden):
            async with holdfast.admin.connect(cluster.url, worker) as nobody:
                await nobody.create_key(name="more")
    with pytest.raises(Forbidden):
        async with holdfast.connect(cluster.url, cluster.operator_key) as operator:
            await operator.lock("jobs/1").acquire()


async def test_a_tenants_admin_sees_and_rules_its_own_and_nothing_else(
    cluster: LocalCluster, admin: holdfast.admin.Admin
) -> None:
    made = await admin.create_tenant("owner")
    async with holdfast.admin.connect(cluster.url, made.api_key) as owner:
        assert [tenant.id async for tenant in owner.tenants()] == ["owner"]
        key = (await owner.create_key(name="mine")).key
        await owner.revoke_key(key.id)
        for request in (owner.tenant("default"), owner.create_key("default"), owner.break_lock("a", "default")):
            with pytest.raises(NotFound):
                await request
        for forbidden in (owner.create_tenant("more"), owner.set_tenant("owner", weight=1_000)):
            with pytest.raises(Forbidden):
                await forbidden
        seen = [record async for record in owner.audit()]
        assert [record["action"] for record in seen] == ["key.revoke", "key.create", "tenant.create"]
        assert [record["address"] == "" for record in seen] == [False, False, True]


async def test_locks_are_broken_and_sessions_ended_with_a_note_before_and_after(
    cluster: LocalCluster, admin: holdfast.admin.Admin
) -> None:
    async with holdfast.connect(cluster.url, cluster.api_key) as client:
        lock = await client.lock("to/break").acquire()
        token = lock.token
        session = client.session()
        held = await session.lock("of/session").acquire()
        assert [each.name async for each in admin.locks("default", "to/")] == ["to/break"]
        with pytest.raises(InvalidArgument, match="say whose"):
            await admin.lock("to/break")
        assert (await admin.lock("to/break", "default")).holders[0].token == lock.token
        assert [each.held async for each in admin.sessions("default") if each.session == session.id] == [1]
        await admin.break_lock("to/break", "default", token=lock.token, reason="stuck")
        await admin.end_session(session.id, "default", reason="gone")
        async with asyncio.timeout(10):
            await asyncio.gather(lock.lost.wait(), held.lost.wait())
        with pytest.raises(NotFound):
            await admin.break_lock("nobody/has/it", "default", token=token)
        with pytest.raises(NotFound):
            await admin.end_session("0" * 32, "default")
        with pytest.raises(InvalidArgument):
            await admin.end_session("nonsense", "default")
        for action, target, looked in (
            ("lock.break", "to/break", {"holders": f"token {token} exclusive", "waiters": "0"}),
            ("session.end", session.id, {"locks": "1", "waiting": "0"}),
        ):
            async with asyncio.timeout(5):
                while True:
                    mine = [record for record in await records(admin, action) if record["target"] == target]
                    if len(mine) >= 2 and "outcome" in str(mine[0]["after"]):
                        break
            first, second = mine[-1], mine[-2]
            assert "outcome" not in str(first["after"])
            assert (first["before"], second["before"]) == (looked, {})
            assert "done" in str(second["after"])


async def test_what_an_admin_takes_by_stream_is_noted_too(cluster: LocalCluster, admin: holdfast.admin.Admin) -> None:
    async with holdfast.connect(cluster.url, cluster.api_key) as client:
        await client.lock("by/stream").acquire()
        await client.force_release("by/stream", reason="test")
        async with asyncio.timeout(5):
            while (
                len(mine := [each for each in await records(admin, "lock.break") if each["target"] == "by/stream"]) < 2
            ):
                await asyncio.sleep(0.01)
    assert [each["after"] for each in mine] == [{"reason": "test", "outcome": "done"}, {"reason": "test"}]
    assert [each["actor"]["tenant"] for each in mine] == ["default"] * 2


def test_every_meta_node_keeps_the_audit_log_in_a_file(cluster: LocalCluster) -> None:
    async def seqs() -> list[int]:
        async with holdfast.admin.connect(cluster.url, cluster.operator_key) as admin:
            await admin.create_key("default", name="one more")
            return [record["seq"] async for record in admin.audit()]

    known = asyncio.run(seqs())
    deadline = time.monotonic() + 10
    for node in (1, 2, 3):
        path = cluster.directory / f"node-{node}" / "audit.jsonl"
        while (kept := path.read_text() if path.exists() else "").count("\n") < len(known):
            assert time.monotonic() < deadline, kept
            time.sleep(0.05)
        assert [json.loads(line)["seq"] for line in kept.splitlines()] == known[::-1]


def test_the_commands(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: the commands are many, and starting each takes longer than what it does."""
    monkeypatch.setenv("HOLDFAST_URL", cluster.url)

    def run(*arguments: str, code: int = 0, key: str | None = None) -> str:
        monkeypatch.setenv("HOLDFAST_OPERATOR_KEY", "" if key else cluster.operator_key)
        monkeypatch.setenv("HOLDFAST_API_KEY", key or cluster.api_key)
        ended = run_program(list(arguments))
        said = capsys.readouterr()
        assert ended == code, (arguments, said)
        return said.out

    first = run("tenant", "create", "shop", "--plan", "free", "--quota", "held=7", "--display", "The shop").strip()
    assert json.loads(run("tenant", "show", "shop", "--json"))["quotas"]["held"] == 7
    assert "shop" in run("tenant", "list")
    run("tenant", "create", "shop", code=1)
    run("tenant", "create", "Shop", code=64)
    run("tenant", "create", "other", "--quota", "nonsense=1", code=64)
    run("tenant", "set", "shop", code=64)
    run("tenant", "set", "shop", "--weight", "5", "--quota", "rate=1000")
    assert json.loads(run("tenant", "show", "--json", key=first))["weight"] == 5
    worker = json.loads(run("key", "create", "worker", "--role", "locks", "--prefix", "jobs/", "--json", key=first))
    run("get", "jobs/1", key=worker["api_key"])
    run("get", "other", code=77, key=worker["api_key"])
    run("tenant", "list", key=worker["api_key"])
    run("key", "create", "more", code=77, key=worker["api_key"])
    rotated = run("key", "rotate", worker["key"]["id"], key=first).strip()
    run("get", "jobs/1", code=77, key=worker["api_key"])
    run("get", "jobs/1", key=rotated)
    run("key", "revoke", rotated.split("_")[1], key=first)
    assert "worker" not in run("key", "list", "shop")
    assert run("locks", "list", "--tenant", "shop", "--json").strip() == "[]"
    run("locks", "show", "jobs/1", "--tenant", "shop")
    run("locks", "break", "jobs/1", "--tenant", "shop", code=1)
    run("sessions", "list", "--tenant", "shop")
    run("sessions", "end", "0" * 32, "--tenant", "shop", code=1)
    run("tenant", "delete", "shop", code=1)
    run("tenant", "suspend", "shop")
    run("tenant", "list", code=77, key=first)
    run("tenant", "resume", "shop")
    run("tenant", "suspend", "shop")
    run("tenant", "delete", "shop")
    run("tenant", "show", "shop", code=1)
    actions = [record["action"] for record in json.loads(run("audit", "--json", "--limit", "5"))]
    assert actions[0] == "tenant.delete"
    assert len(actions) == 5
    assert "rate: 100 -> 1000" in run("audit")
    asked = ("audit", "--json", "--tenant", "shop", "--action", "key", "--key-id", first.split("_")[1])
    actions = [record["action"] for record in json.loads(run(*asked, "--since", "1h"))]
    assert actions == ["key.revoke", "key.rotate", "key.create"]
    assert run(*asked, "--target", "worker", "--until", "2026-01-01T00:00:00Z").strip() == "[]"
    run("audit", "--since", "yesterday", code=64)
    assert first.split("_", 2)[2] not in run("audit", "--json")


async def test_what_is_no_request_is_refused_and_the_connection_goes_on(
    cluster: LocalCluster, admin: holdfast.admin.Admin
) -> None:
    caller = Caller()
    await caller.dial(f"{cluster.address[0]}:{cluster.address[1]}")
    caller.connection.send(Msg.HELLO, 0, 0, encode(Hello(PROTOCOL_VERSION, Role.CLIENT, cluster.operator_key)))
    wrong = (b"", b"\xc1", encode([bytes(16), {}]), encode({"id": b"short", "request": {"type": "tenant.list"}}))
    for number, body in enumerate((*wrong, encode({"id": b"", "request": {"type": "tenant.list", "limit": 0}})), 1):
        caller.connection.send(Msg.ADMIN, 0, number, body)
    refused: dict[int, int] = {}
    while len(refused) < len(wrong) + 1:
        kind, _, request, body = await caller.next()
        if kind == Msg.REFUSED:
            refused[request] = decode_refusal(body).code
    assert [refused[number] for number in range(1, 6)] == [*[Code.BAD_MESSAGE] * 3, *[Code.INVALID] * 2]
    caller.connection.send(Msg.ADMIN, 0, 9, encode({"id": b"", "request": {"type": "tenant.show"}}))
    kind, _, request, body = await caller.next()
    assert (kind, request) == (Msg.ADMIN, 9)
    assert cluster.operator_key.split("_", 2)[2].encode() not in body
    await Caller.close_all()
