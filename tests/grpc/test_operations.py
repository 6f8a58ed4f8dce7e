"""Every rpc of holdfast.v1 against a real cluster, and what others see of it."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import holdfast
from holdfast.cluster import LocalCluster
from holdfast.v1 import admin_pb2 as apb
from holdfast.v1 import locks_pb2 as pb
from holdfast.v1 import sessions_pb2 as spb
from holdfast.v1.types_pb2 import LOCK_MODE_PERMITS, LOCK_MODE_SHARED, GrantRef, Lock
from tests.grpc.calling import Api, refused


@pytest.fixture
def name() -> str:
    """With what has to travel safely."""
    return f"orders/{secrets.token_hex(4)}/ü {{7}} ?&%/.."


def seconds(value: float) -> Duration:
    return Duration(seconds=int(value), nanos=int(value % 1 * 1_000_000_000))


async def until_shows(watch: Any, held: bool) -> Lock:
    while True:
        lock: Lock = (await watch.read()).lock
        if (lock.holder_count > 0) == held:
            return lock


async def test_acquire_renew_check_get_release(api: Api, sdk: holdfast.Client, name: str) -> None:
    grant = await api.acquire(name, ttl=seconds(20), metadata="ada")
    assert (grant.name, 0 < grant.expires_in.seconds < 20) == (name, True)
    info = await sdk.get(name)
    assert (info.holders[0].token, info.holders[0].metadata) == (grant.token, b"ada")
    renewed = await api.locks("Renew", pb.RenewRequest(grant=GrantRef(lock_id=grant.lock_id), ttl=seconds(60)))
    assert 50 < renewed.expires_in.seconds < 60
    assert await api.held(grant)
    lock = (await api.locks("Get", pb.GetRequest(name=name))).lock
    assert [(holder.token, holder.metadata) for holder in lock.holders] == [(grant.token, b"ada")]
    assert 50 < lock.holders[0].remaining.seconds <= 60
    await api.release(grant)
    assert not await api.held(grant)
    again = await refused(api.locks("Release", pb.ReleaseRequest(grant=GrantRef(name=name, token=grant.token))))
    assert (again.status, again.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_HELD")
    assert (await api.acquire(name)).token > grant.token


async def test_a_duration_out_of_its_range_is_named_as_the_message_names_it(api: Api, name: str) -> None:
    answer = await refused(api.acquire(name, wait=seconds(301)))
    assert answer.status == grpc.StatusCode.INVALID_ARGUMENT
    assert answer.message == "Expected `int` <= 300000 - at `wait`, in ms"


async def test_a_lock_that_is_held_is_waited_for_as_long_as_was_said(api: Api, sdk: holdfast.Client, name: str) -> None:
    lock = await sdk.lock(name).acquire()
    at_once = await refused(api.acquire(name))
    assert (at_once.status, at_once.reason) == (grpc.StatusCode.ABORTED, "LOCK_TIMEOUT")
    waiting = asyncio.ensure_future(api.acquire(name, wait=seconds(15)))
    while not (await sdk.get(name)).waiters:
        pass
    token = lock.token
    await lock.release()
    assert (await waiting).token > token


async def test_a_cancelled_wait_and_a_deadline_leave_nothing_behind(api: Api, sdk: holdfast.Client, name: str) -> None:
    async with sdk.lock(name):
        waiting = api.locks("Acquire", pb.AcquireRequest(name=name, wait=seconds(60)))
        while not (await sdk.get(name)).waiters:
            pass
        waiting.cancel()
        late = await refused(api.locks("Acquire", pb.AcquireRequest(name=name, wait=seconds(60)), timeout=0.3))
        assert late.status == grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(5):
            while (await sdk.get(name)).waiters:
                pass


async def test_shared_holders_and_permits(api: Api, sdk: holdfast.Client, name: str) -> None:
    shared = [await api.acquire(name, mode=LOCK_MODE_SHARED) for _ in range(2)]
    assert (await sdk.get(name)).holder_count == 2
    for grant in shared:
        await api.release(grant)
    await api.acquire(name, mode=LOCK_MODE_PERMITS, permits=2, capacity=3)
    other = await refused(api.acquire(name, mode=LOCK_MODE_PERMITS, permits=1, capacity=4))
    assert (other.status, other.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CAPACITY_MISMATCH")
    assert (await sdk.get(name)).capacity == 3


async def test_an_acquire_sent_again_finds_its_own_grant(api: Api, name: str) -> None:
    first = await api.acquire(name, request_id="deploy 7")
    assert (await api.acquire(name, request_id="deploy 7")).token == first.token
    assert (await refused(api.acquire(name, request_id="deploy 8"))).reason == "LOCK_TIMEOUT"


async def test_a_holder_is_told_and_the_next_gets_the_lock(api: Api, sdk: holdfast.Client, name: str) -> None:
    lock = await sdk.lock(name).acquire()
    await api.locks("ForceRelease", pb.ForceReleaseRequest(name=name, reason="maintenance", now=True))
    lost = await lock.lost
    assert lost.name == "FORCED"
    grant = await api.acquire(name)
    stolen = await api.acquire(name, steal=True, now=True, reason="urgent")
    assert stolen.token > grant.token
    assert not await api.held(grant)
    nobody = await refused(api.locks("ForceRelease", pb.ForceReleaseRequest(name=name + "x")))
    assert nobody.reason == "NOT_HELD"


async def test_lists_come_page_by_page(api: Api) -> None:
    prefix = f"list/{secrets.token_hex(4)}/"
    names = {f"{prefix}{number}" for number in range(7)}
    for name in names:
        await api.acquire(name)
    found: list[str] = []
    token = ""
    while True:
        page = await api.locks("List", pb.ListRequest(prefix=prefix, page_size=3, page_token=token))
        found += [lock.name for lock in page.locks]
        token = page.next_page_token
        if not token:
            break
    assert sorted(found) == sorted(names)
    wrong = await refused(api.locks("List", pb.ListRequest(prefix=prefix, page_token="forged")))
    assert wrong.status == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_shows_the_lock_now_and_after_every_change(api: Api, sdk: holdfast.Client, name: str) -> None:
    watch = api.locks("Watch", pb.WatchRequest(name=name))
    await until_shows(watch, held=False)
    async with sdk.lock(name) as lock:
        assert (await until_shows(watch, held=True)).holders[0].token == lock.token
    await until_shows(watch, held=False)
    watch.cancel()
    under = api.locks("Watch", pb.WatchRequest(prefix=name))
    async with sdk.lock(name):
        assert (await until_shows(under, held=True)).name == name
    assert (await until_shows(under, held=False)).name == name
    under.cancel()
    neither = await refused(api.locks("Watch", pb.WatchRequest()).read())
    assert neither.status == grpc.StatusCode.INVALID_ARGUMENT


async def test_each_operation_of_a_batch_succeeds_or_fails_on_its_own(api: Api, name: str) -> None:
    operations = [
        pb.BatchOperation(acquire=pb.AcquireRequest(name=name)),
        pb.BatchOperation(get=pb.GetRequest(name="")),
        pb.BatchOperation(check=pb.CheckRequest(grant=GrantRef(name=name + "x", token=1))),
        pb.BatchOperation(release=pb.ReleaseRequest(grant=GrantRef(name=name + "x", token=1))),
    ]
    wrong = await refused(api.locks("Batch", pb.BatchRequest(operations=operations)))
    assert wrong.status == grpc.StatusCode.INVALID_ARGUMENT  # it cannot be read: nothing of it is done
    del operations[1]
    results = (await api.locks("Batch", pb.BatchRequest(operations=operations))).results
    assert [result.WhichOneof("result") for result in results] == ["acquire", "check", "error"]
    assert (results[2].error.reason, results[2].error.status) == ("NOT_HELD", 9)
    grant = GrantRef(lock_id=results[0].acquire.grant.lock_id)
    more = [
        pb.BatchOperation(renew=pb.RenewRequest(grant=grant)),
        pb.BatchOperation(get=pb.GetRequest(name=name)),
        pb.BatchOperation(force_release=pb.ForceReleaseRequest(name=name, now=True)),
    ]
    kinds = [
        (await api.locks("Batch", pb.BatchRequest(operations=[one]))).results[0].WhichOneof("result") for one in more
    ]
    assert kinds == ["renew", "get", "force_release"]
    for count in (0, 257):
        answer = await refused(api.locks("Batch", pb.BatchRequest(operations=more[:1] * count)))
        assert answer.status == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_acquire_of_a_batch_that_is_sent_again_finds_its_own_grant(api: Api, name: str) -> None:
    asked = [
        pb.BatchOperation(acquire=pb.AcquireRequest(name=f"{name}/{at}", request_id=f"{name}/{at}")) for at in range(2)
    ]
    first, again = [await api.locks("Batch", pb.BatchRequest(operations=each)) for each in (asked, asked[::-1])]
    tokens = [result.acquire.grant.token for result in first.results]
    assert [result.acquire.grant.token for result in again.results] == tokens[::-1]
    other = pb.BatchOperation(acquire=pb.AcquireRequest(name=f"{name}/0", request_id="another"))
    (held,) = (await api.locks("Batch", pb.BatchRequest(operations=[other]))).results
    assert held.error.reason == "LOCK_TIMEOUT"


async def test_a_session_holds_and_ends(api: Api, sdk: holdfast.Client, name: str) -> None:
    created = await api.sessions("Create", spb.CreateRequest(ttl=seconds(20), metadata="worker"))
    grant = await api.acquire(name, session=created.session)
    assert (await sdk.get(name)).holders[0].session == created.id
    kept = await api.sessions("KeepAlive", spb.KeepAliveRequest(session=created.session))
    assert 0 < kept.expires_in.seconds < 20
    assert [(lock.name, lock.token) for lock in kept.held.locks] == [(name, grant.token)]
    same = await api.sessions("KeepAlive", spb.KeepAliveRequest(session=created.session, seen=kept.seen))
    assert (same.seen, same.HasField("held")) == (kept.seen, False)
    await api.locks("ForceRelease", pb.ForceReleaseRequest(name=name))
    lost = await api.sessions("KeepAlive", spb.KeepAliveRequest(session=created.session, seen=kept.seen))
    assert (lost.HasField("held"), len(lost.held.locks)) == (True, 0)
    parts = (await api.sessions("ListSessions", spb.ListSessionsRequest())).parts
    mine = [part for part in parts if part.id == created.id]
    assert sum(part.held for part in mine) == 1
    assert {part.metadata for part in mine} == {b"worker"}
    await api.sessions("End", spb.EndRequest(session=created.session))
    assert not await api.held(grant)
    for rpc, message in (("KeepAlive", spb.KeepAliveRequest), ("End", spb.EndRequest)):
        over = await refused(api.sessions(rpc, message(session=created.session)))
        assert (over.status, over.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_LOST")


@pytest.mark.parametrize("batch", [False, True])
async def test_a_lock_is_broken_once_under_one_id(api: Api, name: str, *, batch: bool) -> None:
    asked = pb.ForceReleaseRequest(name=name, now=True, request_id=name)
    many = pb.BatchRequest(operations=[pb.BatchOperation(force_release=asked)])
    rpc, message = ("Batch", many) if batch else ("ForceRelease", asked)
    grants = []
    for _ in range(2):
        grants.append(await api.acquire(name))
        await api.locks(rpc, message)
    assert [await api.held(grant) for grant in grants] == [False, True]


async def test_a_session_that_is_asked_for_again_is_the_same(api: Api, name: str) -> None:
    asked = [spb.CreateRequest(request_id=f"{name}/{number}") for number in (1, 1, 2)]
    first, again, other = [await api.sessions("Create", each) for each in asked]
    assert (again.id, again.session) == (first.id, first.session)
    assert other.id != first.id
    await api.acquire(name, session=first.session)
    assert (await api.sessions("Create", asked[0])).id == first.id


async def test_an_attached_session_lives_as_long_as_its_stream(api: Api, sdk: holdfast.Client, name: str) -> None:
    stream = api.attach()
    await stream.write(spb.AttachRequest(ttl=seconds(0.9), number=1))
    first = await stream.read()
    assert first.number == 1
    grant = await api.acquire(name, session=first.session)
    # Longer than its lease, without a word from the caller: renewals come, and count from what it said last.
    left = [(await stream.read()).expires_in for _ in range(6)]
    assert [duration.ToMilliseconds() for duration in left] == sorted(duration.ToMilliseconds() for duration in left)
    assert left[-1].ToMilliseconds() > 900
    assert await api.held(grant)
    await stream.write(spb.AttachRequest(number=2))
    while (answer := await stream.read()).number != 2:
        pass
    assert 0 < answer.expires_in.ToMilliseconds() < 900
    stream.cancel()
    async with asyncio.timeout(10):
        while (await sdk.get(name)).held:
            pass


async def test_a_session_is_attached_again_and_ended_through_its_stream(
    api: Api, sdk: holdfast.Client, name: str
) -> None:
    created = await api.sessions("Create", spb.CreateRequest())
    grant = await api.acquire(name, session=created.session)
    stream = api.attach()
    await stream.write(spb.AttachRequest(session=created.session))
    attached = await stream.read()
    assert attached.session == created.session
    assert [lock.name for lock in attached.held.locks] == [name]
    await stream.write(spb.AttachRequest(number=1))
    assert not (await stream.read()).HasField("held")
    await api.locks("ForceRelease", pb.ForceReleaseRequest(name=name))
    await stream.write(spb.AttachRequest(number=2))
    lost = await stream.read()
    assert (lost.number, lost.HasField("held"), len(lost.held.locks)) == (2, True, 0)
    await stream.write(spb.AttachRequest(end=True))
    assert await stream.read() is grpc.aio.EOF
    assert not await api.held(grant)
    gone = api.attach()
    await gone.write(spb.AttachRequest(session=created.session))
    assert (await refused(gone.read())).status == grpc.StatusCode.NOT_FOUND
    silent = api.attach()
    await silent.done_writing()
    assert (await refused(silent.read())).status == grpc.StatusCode.INVALID_ARGUMENT


async def test_half_closing_the_stream_keeps_nothing_and_ends_nothing(api: Api, name: str) -> None:
    stream = api.attach()
    await stream.write(spb.AttachRequest(ttl=seconds(20)))
    first = await stream.read()
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    await api.sessions("KeepAlive", spb.KeepAliveRequest(session=first.session))
    await api.sessions("End", spb.EndRequest(session=first.session))


async def test_another_cluster_member_serves_the_same_grants(
    api: Api, service: LocalCluster, sdk: holdfast.Client, name: str
) -> None:
    """What was taken here is let go through the frame stream, by its LockID."""
    grant = await api.acquire(name)
    assert await sdk.check(grant.lock_id)
    await sdk.release(grant.lock_id)
    assert not await api.held(grant)


async def test_what_is_under_way_with_a_key_ends_with_it_and_leaves_nothing(
    api: Api, channel: Any, sdk: holdfast.Client, name: str
) -> None:
    made = await api.admin("CreateKey", apb.CreateKeyRequest(name="short-lived"))
    other = Api(channel, made.api_key)
    async with sdk.lock(name):
        waiting = asyncio.ensure_future(other.acquire(name, wait=seconds(60)))
        operations = [
            pb.BatchOperation(acquire=pb.AcquireRequest(name=f"{name}/had")),
            pb.BatchOperation(acquire=pb.AcquireRequest(name=name, wait=seconds(60))),
        ]
        batch = asyncio.ensure_future(other.locks("Batch", pb.BatchRequest(operations=operations)))
        watch = other.locks("Watch", pb.WatchRequest(name=name))
        await watch.read()
        attached = other.attach()
        await attached.write(spb.AttachRequest(ttl=seconds(10)))
        await attached.read()
        async with asyncio.timeout(10):
            while (await sdk.get(name)).waiters < 2 or not (await sdk.get(f"{name}/had")).held:
                await asyncio.sleep(0.01)
        await api.admin("RevokeKey", apb.RevokeKeyRequest(key=made.key.id))
        for call in (waiting, batch, read_on(watch), read_on(attached)):
            async with asyncio.timeout(5):
                assert (await refused(call)).status == grpc.StatusCode.UNAUTHENTICATED
        async with asyncio.timeout(10):
            while (await sdk.get(name)).waiters or (await sdk.get(f"{name}/had")).held:
                await asyncio.sleep(0.01)


async def read_on(call: Any) -> None:
    """To its end."""
    while await call.read() is not grpc.aio.EOF:
        pass
