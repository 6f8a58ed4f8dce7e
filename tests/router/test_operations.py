"""What the router does for callers of its other fronts, with two routers that share nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from msgspec import UnsetType
from msgspec.structs import replace

from holdfast.core.client import ClientCore
from holdfast.core.group import GroupClient
from holdfast.core.hold import Hold
from holdfast.errors import (
    AlreadyHeld,
    HoldfastError,
    InvalidArgument,
    InvalidLockID,
    InvalidName,
    LockLost,
    LockTimeout,
    NotHeld,
    Overloaded,
    QuotaExceeded,
    SessionLost,
    Unauthenticated,
    Unavailable,
)
from holdfast.wire.administration import CreateTenant, DeleteTenant, SuspendTenant, TenantMade
from holdfast.wire.errors import Forbidden
from holdfast.wire.frames import Kind, LockPage, Options, Status
from holdfast_router import watches
from holdfast_router.operations import Caller, Operations, locks, paging, sessions
from holdfast_router.operations.leases import Answer, ask
from holdfast_router.operations.requests import (
    Acquire,
    AcquireOne,
    Batch,
    Break,
    Check,
    Checked,
    CheckOne,
    CreateSession,
    EndSession,
    Get,
    Grant,
    KeepSession,
    ListLocks,
    ListSessions,
    Release,
    ReleaseOne,
    Renew,
    Watch,
)
from holdfast_router.process import Router
from tests.router.routers import LOCKER, OTHER, PREFIXED, READER, Node

REQUEST = b"r" * 16


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("operations") / "cluster")
    yield node
    assert node.process.stop() == 0


@pytest.fixture
async def one(node: Node) -> AsyncIterator[Router]:
    router = await node.router()
    yield router
    await router.close()


@pytest.fixture
async def two(node: Node) -> AsyncIterator[Router]:
    router = await node.router()
    yield router
    await router.close()


async def test_a_lock_had_through_one_router_is_renewed_checked_and_released_through_another(
    node: Node, one: Router, two: Router
) -> None:
    grant = await one.operations.acquire(node.caller(one), Acquire(name="a", ttl_ms=20_000, metadata="me"))
    assert 19_000 < grant.expires_in_ms < 20_000
    state = await two.operations.get(node.caller(two), Get(name="a"))
    assert [(holder.token, holder.metadata, holder.mode) for holder in state.holders] == [
        (grant.token, "me", "exclusive")
    ]
    with pytest.raises(LockTimeout):
        await two.operations.acquire(node.caller(two), Acquire(name="a"))
    renewed = await two.operations.renew(node.caller(two), Renew(lock_id=grant.lock_id, ttl_ms=60_000))
    assert 55_000 < renewed.expires_in_ms < 60_000
    assert (await two.operations.check(node.caller(two), Check(name="a", token=grant.token))).held
    await two.operations.release(node.caller(two), Release(lock_id=grant.lock_id))
    assert not (await one.operations.check(node.caller(one), Check(lock_id=grant.lock_id))).held
    with pytest.raises(NotHeld):
        await one.operations.release(node.caller(one), Release(lock_id=grant.lock_id))


async def test_the_router_gives_back_nothing_that_it_told_of(node: Node, one: Router) -> None:
    router = await node.router()
    grant = await router.operations.acquire(node.caller(router), Acquire(name="kept"))
    await router.close()
    assert (await one.operations.check(node.caller(one), Check(lock_id=grant.lock_id))).held


async def test_who_waits_is_answered_when_its_turn_comes_and_kept_alive_meanwhile(
    node: Node, one: Router, two: Router
) -> None:
    first = await one.operations.acquire(node.caller(one), Acquire(name="b"))
    asked = Acquire(name="b", ttl_ms=300, wait_ms=10_000)
    waiting = asyncio.create_task(two.operations.acquire(node.caller(two), asked))
    await _awaited(node, one, "b")
    began = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < began + 0.7:  # longer than the waiter's lease would last by itself
        await asyncio.sleep(0.05)
    await one.operations.release(node.caller(one), Release(lock_id=first.lock_id))
    second = await waiting
    assert second.token > first.token
    assert 700 < second.expires_in_ms < 1200, "counted from the arrival of the request, however long it waited"


async def test_who_gives_up_waiting_leaves_the_queue(node: Node, one: Router) -> None:
    await one.operations.acquire(node.caller(one), Acquire(name="c"))
    waiting = asyncio.create_task(one.operations.acquire(node.caller(one), Acquire(name="c", wait_ms=60_000)))
    await _awaited(node, one, "c")
    waiting.cancel()
    async with asyncio.timeout(5):
        while (await one.operations.get(node.caller(one), Get(name="c"))).waiters:
            await asyncio.sleep(0.01)


async def test_a_closing_router_takes_back_what_waits(node: Node, one: Router) -> None:
    await one.operations.acquire(node.caller(one), Acquire(name="d"))
    router = await node.router()
    waiting = asyncio.create_task(router.operations.acquire(node.caller(router), Acquire(name="d", wait_ms=60_000)))
    await _awaited(node, one, "d")
    await router.close()
    with pytest.raises(HoldfastError, match="closed"):
        await waiting
    assert (await one.operations.get(node.caller(one), Get(name="d"))).waiters == 0
    with pytest.raises(Unavailable, match="stops"):  # what comes while the fronts still listen begins nothing new
        await router.operations.acquire(node.caller(router), Acquire(name="d"))


async def test_of_a_tenant_that_was_deleted_the_router_keeps_nothing(node: Node, one: Router) -> None:
    operations, operator = one.operations, node.caller(one, node.operator_key)
    await operations.get(node.caller(one), Get(name="kept"))
    before = len(one._front._own)
    for tenant in ("short-lived", "shorter-lived"):
        made = await operations.administer(operator, CreateTenant(tenant))
        assert isinstance(made, TenantMade)
        waiting = asyncio.create_task(_one_after_the_other(operations, node.caller(one, made.api_key)))
        async with asyncio.timeout(5):
            while len(one._front._own) == before:
                await asyncio.sleep(0.001)
        await operations.administer(operator, SuspendTenant(tenant))
        waiting.cancel()
        await operations.administer(operator, DeleteTenant(tenant))
        async with asyncio.timeout(5):
            while len(one._front._own) != before:
                await asyncio.sleep(0.001)
        assert set(operations._links._links) <= one.directory.numbers
    await operations.get(node.caller(one), Get(name="kept"))


async def _one_after_the_other(operations: Operations, caller: Caller) -> None:
    await operations.acquire(caller, Acquire(name="a"))
    await operations.acquire(caller, Acquire(name="a", wait_ms=60_000))


async def test_a_request_repeated_through_another_router_finds_its_own_grant(
    node: Node, one: Router, two: Router
) -> None:
    asked = Acquire(name="e")
    first = await one.operations.acquire(node.caller(one, request=REQUEST), asked)
    again = await two.operations.acquire(node.caller(two, request=REQUEST), asked)
    assert again.token == first.token
    made = await one.operations.create_session(node.caller(one, request=REQUEST), CreateSession())
    same = await two.operations.create_session(node.caller(two, request=REQUEST), CreateSession())
    assert made.session == same.session


async def _refused_by_the_second(core: ClientCore, kind: Kind, *args: Any, group: GroupClient, **named: Any) -> Answer:
    """In the place of ``ask``: one group has no room for sessions."""
    if kind == Kind.OPEN and group.number == 2:
        return Answer(Status.QUOTA_SESSIONS, 0, 0.0, 7)
    return await ask(core, kind, *args, group=group, **named)


async def _parts(node: Node, router: Router, number: bytes) -> int:
    found = await router.operations.list_sessions(node.caller(router), ListSessions())
    return sum(part.id == number.hex() for part in found.sessions)


async def test_of_a_session_that_a_group_refuses_nothing_stays_and_the_same_request_is_made_later(
    node: Node, one: Router, two: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, asked = b"refused at first", CreateSession(ttl_ms=60_000)
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "OPENING_MS", 300)
        patch.setattr(sessions, "ask", _refused_by_the_second)
        for router in (one, two, one):
            with pytest.raises(QuotaExceeded, match="sessions"):
                await router.operations.create_session(node.caller(router, request=number), asked)
        async with asyncio.timeout(10):
            while await _parts(node, one, number):
                await asyncio.sleep(0.01)
        with pytest.raises(QuotaExceeded):
            await one.operations.create_session(node.caller(one, request=number), asked)
    made = await two.operations.create_session(node.caller(two, request=number), asked)
    assert made.id == number.hex()
    assert 55_000 < made.expires_in_ms < 60_000
    kept = await one.operations.keep_session(node.caller(one), KeepSession(session=made.session))
    assert 55_000 < kept.expires_in_ms < 60_000


async def test_a_lock_is_broken_once_however_often_and_by_whatever_router_it_is_asked(
    node: Node, one: Router, two: Router
) -> None:
    asked, names = Break(name="broken", now=True), ("first break", "second break")
    first, second = (name.encode().ljust(16) for name in names)
    await one.operations.acquire(node.caller(one), Acquire(name="broken"))
    await one.operations.break_lock(node.caller(one, request=first), asked)
    following = await one.operations.acquire(node.caller(one), Acquire(name="broken"))
    await two.operations.break_lock(node.caller(two, request=first), asked)
    assert (await one.operations.check(node.caller(one), Check(lock_id=following.lock_id))).held
    await two.operations.break_lock(node.caller(two, request=second), asked)
    assert not (await one.operations.check(node.caller(one), Check(lock_id=following.lock_id))).held
    with pytest.raises(NotHeld, match="broken"):
        await one.operations.break_lock(node.caller(one, request=b"nothing to break"), asked)
    with pytest.raises(Forbidden):
        await one.operations.break_lock(node.caller(one, LOCKER, request=first), asked)
    with pytest.raises(InvalidName):
        await one.operations.break_lock(node.caller(one, request=first), Break(name=""))


async def test_a_session_that_is_used_already_is_made_once_too(node: Node, one: Router, two: Router) -> None:
    number, asked = b"used when copied", CreateSession()
    made = await one.operations.create_session(node.caller(one, request=number), asked)
    await one.operations.acquire(node.caller(one), Acquire(name="used", session=made.session))
    same = await two.operations.create_session(node.caller(two, request=number), asked)
    assert same.session == made.session
    assert (await one.operations.get(node.caller(one), Get(name="used"))).held


async def test_a_session_that_is_over_before_every_group_has_it_is_asked_for_again(
    node: Node, one: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = b"slowly opened..."

    async def slow(core: ClientCore, kind: Kind, *args: Any, group: GroupClient, **named: Any) -> Answer:
        answer = await ask(core, kind, *args, group=group, **named)
        if kind == Kind.OPEN and group.number == 2:
            while await _parts(node, one, number):
                await asyncio.sleep(0.01)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "OPENING_MS", 200)
        patch.setattr(sessions, "ask", slow)
        with pytest.raises(Unavailable, match="again"):
            await one.operations.create_session(node.caller(one, request=number), CreateSession())
    assert (await one.operations.create_session(node.caller(one, request=number), CreateSession())).id == number.hex()


async def test_a_session_asked_for_longer_than_its_tenant_may_is_refused_however_it_is_asked(
    node: Node, one: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotas = one.directory.quotas(1)
    monkeypatch.setattr(one.directory, "quotas", lambda tenant: replace(quotas, ttl_ms=10_000))
    number = b"asked too long.."
    with pytest.raises(QuotaExceeded, match="ttl_ms"):
        await one.operations.create_session(node.caller(one, request=number), CreateSession(ttl_ms=10_001))
    assert await _parts(node, one, number) == 0


@pytest.mark.parametrize("in_session", [True, False])
async def test_a_copy_that_is_given_up_lets_go_of_nothing_that_the_first_was_told_of(
    node: Node, one: Router, two: Router, monkeypatch: pytest.MonkeyPatch, in_session: bool
) -> None:
    """Hedged calls: two copies through two routers, and the one that is answered later is cancelled."""
    name = f"hedged/{in_session}"
    session = (await one.operations.create_session(node.caller(one), CreateSession())).session if in_session else ""
    asked = Acquire(name=name, session=session)
    grant = await one.operations.acquire(node.caller(one, request=REQUEST), asked)

    async def no_answer(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(locks, "ask" if in_session else "_had", no_answer if in_session else _given_up)
        with pytest.raises(asyncio.CancelledError):
            await two.operations.acquire(node.caller(two, request=REQUEST), asked)
    with pytest.raises(LockTimeout):  # and what went before it to the same group is done by then
        await two.operations.acquire(node.caller(two), Acquire(name=name))
    assert (await one.operations.check(node.caller(one), Check(lock_id=grant.lock_id))).held


async def _given_up(hold: Hold) -> None:
    """Cancelled in the very turn in which it was had."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    hold.acquire(waiter, None)
    await waiter
    hold.give_up()
    raise asyncio.CancelledError


async def test_sessions_are_served_by_any_router(node: Node, one: Router, two: Router) -> None:
    made = await one.operations.create_session(node.caller(one), CreateSession(ttl_ms=5000, metadata="batch"))
    grants = [
        await router.operations.acquire(node.caller(router), Acquire(name=name, session=made.session))
        for router, name in ((one, "s/1"), (two, "s/2"), (two, "s/3"))
    ]
    kept = await two.operations.keep_session(node.caller(two), KeepSession(session=made.session))
    assert 4500 < kept.expires_in_ms < 5000
    with pytest.raises(AlreadyHeld):
        await one.operations.acquire(node.caller(one), Acquire(name="s/2", session=made.session, wait_ms=5000))
    with pytest.raises(InvalidArgument, match="keep the session alive"):
        await one.operations.renew(node.caller(one), Renew(lock_id=grants[0].lock_id))
    state = await one.operations.get(node.caller(one), Get(name="s/3"))
    assert state.holders[0].session_id == made.id
    parts = await one.operations.list_sessions(node.caller(one), ListSessions())
    mine = [part for part in parts.sessions if part.id == made.id]
    assert sum(part.held for part in mine) == 3
    await two.operations.end_session(node.caller(two), EndSession(session=made.session))
    for grant in grants:
        assert not (await one.operations.check(node.caller(one), Check(lock_id=grant.lock_id))).held
    for router in (one, two):
        with pytest.raises(SessionLost):
            await router.operations.keep_session(node.caller(router), KeepSession(session=made.session))
        with pytest.raises(SessionLost):
            await router.operations.acquire(node.caller(router), Acquire(name="s/4", session=made.session))
    with pytest.raises(SessionLost):
        await one.operations.end_session(node.caller(one), EndSession(session=made.session))


async def test_a_keepalive_says_what_the_session_still_holds(node: Node, one: Router, two: Router) -> None:
    """Else whoever keeps it alive would believe in a lock that was stolen, for as long as it does so."""
    made = await one.operations.create_session(node.caller(one), CreateSession(ttl_ms=20_000))
    grants = {
        name: await router.operations.acquire(node.caller(router), Acquire(name=name, session=made.session))
        for router, name in ((one, "k/1"), (two, "k/2"), (one, "k/3"), (two, "k/4"))
    }

    async def kept(router: Router, seen: str) -> tuple[str, set[str] | None]:
        asked = KeepSession(session=made.session, seen=seen)
        answer = await router.operations.keep_session(node.caller(router), asked)
        if isinstance(answer.locks, UnsetType):
            return answer.seen, None
        assert all(lock.token == grants[lock.name].token for lock in answer.locks)
        return answer.seen, {lock.name for lock in answer.locks}

    seen, names = await kept(one, "")
    assert names == set(grants)
    assert await kept(two, seen) == (seen, None)
    await two.operations.break_lock(node.caller(two), Break(name="k/1"))
    await two.operations.break_lock(node.caller(two), Break(name="k/2", now=True))
    assert (await kept(two, seen))[1] == {"k/3", "k/4"}
    seen, names = await kept(one, seen)
    assert names == {"k/3", "k/4"}
    await one.operations.release(node.caller(one), Release(lock_id=grants["k/3"].lock_id))
    seen, names = await kept(one, seen)
    assert names == {"k/4"}, "released by the client that opened the session, but not by its owner"
    assert await kept(one, seen) == (seen, None)
    for wrong in ("x", "1", "1:-1", "1:1,", "१:१"):
        with pytest.raises(InvalidArgument):
            await kept(one, wrong)


async def test_what_is_being_taken_away_is_said_to_be_lost(node: Node, one: Router) -> None:
    grant = await one.operations.acquire(node.caller(one), Acquire(name="f"))
    await one.operations.break_lock(node.caller(one), Break(name="f", reason="deploy"))
    with pytest.raises(LockLost, match="deploy"):
        await one.operations.renew(node.caller(one), Renew(lock_id=grant.lock_id))


async def test_a_list_goes_through_all_groups_page_by_page(node: Node, one: Router) -> None:
    names = {f"list/{number}" for number in range(25)}
    for name in names:
        await one.operations.acquire(node.caller(one), Acquire(name=name))
    seen: list[str] = []
    cursor = ""
    while True:
        page = await one.operations.list_locks(node.caller(one), ListLocks(prefix="list/", limit=7, cursor=cursor))
        assert len(page.locks) <= 7
        seen += [lock.name for lock in page.locks]
        cursor = page.cursor
        if not cursor:
            break
    assert sorted(seen) == sorted(names)
    with pytest.raises(InvalidArgument):
        await one.operations.list_locks(
            node.caller(one), ListLocks(prefix="other/", cursor=await _cursor(node, one, "pages/"))
        )


async def test_a_page_is_one_read_of_each_group_however_little_it_finds(
    node: Node, one: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is charged as one."""
    asked: list[int] = []

    async def short(
        core: ClientCore, kind: Kind, name: str, token: int, options: Options, *, group: GroupClient
    ) -> Answer:
        asked.append(group.number)
        return Answer(Status.OK, 0, 0.0, LockPage([], "7:" if not options.cursor else ""))

    monkeypatch.setattr(paging, "ask", short)
    first = await one.operations.list_locks(node.caller(one), ListLocks())
    assert (first.locks, len(asked), bool(first.cursor)) == ([], 1, True)
    await one.operations.list_locks(node.caller(one), ListLocks(cursor=first.cursor))
    assert asked == [1, 1, 2]


async def test_a_watch_for_which_there_is_no_room_says_so(
    node: Node, one: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "WATCHES_PER_TENANT_MAX", 1)
    first = await one.operations.watch(node.caller(one), Watch(name="watched"))
    assert not (await anext(first)).held
    second = await one.operations.watch(node.caller(one), Watch(name="watched"))
    with pytest.raises(Overloaded, match="watches"):
        await anext(second)
    await first.aclose()


async def test_what_is_shown_to_those_who_watch_is_charged(
    node: Node, one: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged: list[tuple[int, int]] = []
    monkeypatch.setattr(one.gate, "told", lambda *told: charged.append(told))
    caller = node.caller(one)
    shown = await one.operations.watch(caller, Watch(name="shown and charged"))
    assert not (await anext(shown)).held
    assert charged == [(caller.tenant, 1)]
    grant = await one.operations.acquire(caller, Acquire(name="shown and charged"))
    assert (await anext(shown)).held
    assert charged == 2 * [(caller.tenant, 1)]
    await shown.aclose()
    await one.operations.release(caller, Release(lock_id=grant.lock_id))


async def test_sessions_cursors_and_lock_ids_of_others_are_refused(node: Node, one: Router) -> None:
    made = await one.operations.create_session(node.caller(one), CreateSession())
    cursor = await _cursor(node, one, "list of one/")
    grant = await one.operations.acquire(node.caller(one), Acquire(name="g"))
    other = node.caller(one, OTHER)
    with pytest.raises(InvalidArgument):
        await one.operations.keep_session(other, KeepSession(session=made.session))
    with pytest.raises(InvalidArgument):
        await one.operations.list_locks(other, ListLocks(prefix="list of one/", cursor=cursor))
    with pytest.raises(InvalidLockID):
        await one.operations.release(other, Release(lock_id=grant.lock_id))
    assert not (await one.operations.get(other, Get(name="g"))).held
    for damaged in (made.session[:-1], made.session + "A", "hfs1_", "", "hfc1_" + made.session[5:]):
        with pytest.raises(InvalidArgument):
            await one.operations.keep_session(node.caller(one), KeepSession(session=damaged))


async def test_keys_do_what_their_role_and_prefix_allow(node: Node, one: Router) -> None:
    operations = one.operations
    reader, locker, prefixed = (node.caller(one, key) for key in (READER, LOCKER, PREFIXED))
    await operations.get(reader, Get(name="h"))
    grant = await operations.acquire(locker, Acquire(name="h"))
    await operations.acquire(prefixed, Acquire(name="mine/h"))
    for refused in (
        operations.acquire(reader, Acquire(name="h2")),
        operations.release(reader, Release(lock_id=grant.lock_id)),
        operations.create_session(reader, CreateSession()),
        operations.acquire(locker, Acquire(name="h", steal=True, now=True)),
        operations.break_lock(locker, Break(name="h")),
        operations.get(prefixed, Get(name="h")),
        operations.renew(prefixed, Renew(lock_id=grant.lock_id)),
        operations.list_locks(prefixed, ListLocks()),
        operations.list_sessions(prefixed, ListSessions()),
        operations.get(node.caller(one, node.operator_key), Get(name="h")),
    ):
        with pytest.raises(Forbidden):
            await refused
    with pytest.raises(Unauthenticated):
        node.caller(one, OTHER[:-1] + "x")


async def test_a_batch_answers_each_operation_for_itself(node: Node, one: Router) -> None:
    held = await one.operations.acquire(node.caller(one), Acquire(name="i"))
    asked = Batch(
        operations=[
            AcquireOne(name="i/1"),
            AcquireOne(name="i"),
            CheckOne(lock_id=held.lock_id),
            AcquireOne(name="\n"),
            ReleaseOne(lock_id=held.lock_id),
        ]
    )
    results = await one.operations.batch(node.caller(one), asked)
    assert [type(result) for result in results[:1]] == [Grant]
    assert isinstance(results[1], LockTimeout)
    assert isinstance(results[2], Checked)
    assert isinstance(results[3], InvalidName)
    assert not isinstance(results[4], HoldfastError)


async def test_wrong_combinations_are_refused_in_words(node: Node, one: Router) -> None:
    for asked in (
        Acquire(name="j", permits=2),
        Acquire(name="j", mode="permits", permits=3, capacity=2),
        Acquire(name="j", now=True),
        Acquire(name="j", mode="shared", steal=True),
        Acquire(name="j", metadata="é" * 1024),
    ):
        with pytest.raises(InvalidArgument):
            await one.operations.acquire(node.caller(one), asked)
    for named in (Release(), Release(name="j"), Release(name="j", token=1, lock_id="hf1_x")):
        with pytest.raises(InvalidArgument):
            await one.operations.release(node.caller(one), named)


async def _awaited(node: Node, router: Router, name: str) -> None:
    async with asyncio.timeout(10):
        while not (await router.operations.get(node.caller(router), Get(name=name))).waiters:
            await asyncio.sleep(0.01)


async def _cursor(node: Node, router: Router, prefix: str) -> str:
    for number in range(2):
        await router.operations.acquire(node.caller(router), Acquire(name=f"{prefix}of the cursor {number}"))
    page = await router.operations.list_locks(node.caller(router), ListLocks(prefix=prefix, limit=1))
    assert page.cursor
    return page.cursor
