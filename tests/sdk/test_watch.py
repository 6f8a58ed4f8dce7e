"""Watching: the first look, every lasting change, and nothing missed when connections and leaders come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import holdfast
import holdfast.sync
from holdfast.core import watch as core_watch
from holdfast.errors import Overloaded
from holdfast.wire.errors import Code
from holdfast.wire.frames import encode
from holdfast.wire.messages import Msg, Refusal
from holdfast.wire.stream import Connection
from tests.sdk.service import GROUPS, KEY, Service, name_in, until


async def until_shows(watch: AsyncIterator[holdfast.LockInfo], **fields: object) -> holdfast.LockInfo:
    """The first that looks so; what comes before is let pass."""
    async with asyncio.timeout(5):
        async for info in watch:
            if all(getattr(info, field) == value for field, value in fields.items()):
                return info
    raise AssertionError("the watch ended")


async def test_a_name_is_shown_at_once_and_after_every_change(client: holdfast.Client, other: holdfast.Client) -> None:
    watch = client.watch("a")
    assert not (await anext(watch)).held
    lock = await other.lock("a", metadata="mine").acquire()
    held = await until_shows(watch, held=True)
    assert (held.name, held.holders[0].token, held.holders[0].metadata) == ("a", lock.token, b"mine")
    first = lock.token
    waiting = asyncio.create_task(client.lock("a").acquire())
    await until_shows(watch, waiters=1)
    await lock.release()
    passed_on = await until_shows(watch, waiters=0)
    assert passed_on.holders[0].token == (await waiting).token > first
    await client.force_release("a", reason="maintenance")
    leaving = await until_shows(watch)
    assert leaving.holders[0].leaving == holdfast.Reason.FORCED
    await client.force_release("a", now=True)
    assert not (await until_shows(watch, held=False)).held


async def test_what_is_held_already_is_shown_first(client: holdfast.Client, other: holdfast.Client) -> None:
    lock = await other.lock("a").acquire()
    assert (await anext(client.watch("a"))).holders[0].token == lock.token


async def test_a_prefix_shows_what_there_is_and_what_changes_in_every_group(
    client: holdfast.Client, other: holdfast.Client
) -> None:
    names = [name_in(group, "jobs/") for group in GROUPS]
    first = await other.lock(names[0]).acquire()
    watch = client.watch(prefix="jobs/")
    assert (await anext(watch)).name == names[0]
    await other.lock("else").acquire()
    await other.lock(names[1]).acquire()
    assert (await until_shows(watch)).name == names[1]
    await first.release()
    gone = await until_shows(watch)
    assert (gone.name, gone.held, gone.waiters) == (names[0], False, 0)


async def test_what_watches_keep_in_mind_is_bounded_and_forgotten_with_them(
    client: holdfast.Client, other: holdfast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_watch, "WATCHED_NAMES_MAX", 3)
    locks = [await other.lock(f"jobs/{at}").acquire() for at in range(2)]
    watch, single = client.watch(prefix="jobs/"), client.watch("else")
    assert {(await anext(watch)).name for _ in locks} == {"jobs/0", "jobs/1"}
    await anext(single)
    another = client.watch(prefix="jobs/")
    with pytest.raises(Overloaded, match="longer prefixes"):
        await until_shows(another, held=False)
    await locks[0].release()
    assert (await until_shows(watch, held=False)).name == "jobs/0"
    third = client.watch(prefix="jobs/")
    assert (await anext(third)).name == "jobs/1"
    for each in (watch, single, third):
        await each.aclose()
    assert client._link.core.watched_names == 0


async def test_renewals_are_no_change_and_a_slow_watcher_sees_the_latest(
    client: holdfast.Client, other: holdfast.Client
) -> None:
    watch = client.watch("a")
    await anext(watch)
    for _ in range(20):
        async with other.lock("a") as lock:
            await lock.renew()
    last = await other.lock("a").acquire()
    await last.renew()
    seen = [info async for info in shown_within(watch, 0.5)]
    assert seen[-1].holders[0].token == last.token
    assert len(seen) < 20


async def shown_within(watch: AsyncIterator[holdfast.LockInfo], seconds: float) -> AsyncIterator[holdfast.LockInfo]:
    try:
        async with asyncio.timeout(seconds):
            async for info in watch:
                yield info
    except TimeoutError:
        return


@pytest.mark.parametrize("trouble", ["cut", "elect"])
async def test_what_changed_while_nobody_could_tell_is_shown_afterwards(
    service: Service, client: holdfast.Client, other: holdfast.Client, trouble: str
) -> None:
    """Leader and connections of the watcher go; the names under a prefix that became free meanwhile are told, too."""
    name = name_in(1, "jobs/")
    lock = await other.lock(name).acquire()
    one, all_of_them = client.watch(name), client.watch(prefix="jobs/")
    assert (await anext(one)).held
    assert (await anext(all_of_them)).held
    service.mute = True
    leader = service.leaders[1]
    leader.watches.office(None)
    release = asyncio.create_task(lock.release())
    await until(lambda: not leader.machine.counts()["held"])
    service.mute = False
    if trouble == "cut":
        service.cut()
    else:
        service.elect(1)
    assert not (await until_shows(one, held=False)).held
    assert (await until_shows(all_of_them, held=False)).name == name
    service.cut()
    await release


async def test_ending_the_iteration_ends_the_watch_at_the_service(service: Service, client: holdfast.Client) -> None:
    leader = service.leaders[1]
    async for _ in client.watch(name_in(1)):
        assert leader.watches.busy
        break
    await until(lambda: not leader.watches.busy)


async def test_a_next_that_timed_out_has_taken_nothing(client: holdfast.Client, other: holdfast.Client) -> None:
    watch = client.watch("a")
    await anext(watch)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watch), 0.01)
    lock = await other.lock("a").acquire()
    assert (await until_shows(watch)).holders[0].token == lock.token
    following = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await watch.aclose()
    with pytest.raises(StopAsyncIteration):
        await following


async def test_a_closed_client_ends_its_watches(service: Service, client: holdfast.Client) -> None:
    watch = client.watch("a")
    await anext(watch)
    following = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(holdfast.ClientClosed):
        await following
    with pytest.raises(holdfast.ClientClosed):
        client.watch("a")


async def test_bad_arguments_are_refused(client: holdfast.Client) -> None:
    with pytest.raises(holdfast.InvalidName):
        client.watch("")
    with pytest.raises(holdfast.InvalidArgument):
        client.watch("a", prefix="b")
    with pytest.raises(holdfast.InvalidArgument):
        client.watch(prefix="x" * 513)


async def test_a_refusal_for_good_ends_the_watch_and_another_is_waited_out(
    service: Service, client: holdfast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [Refusal(Code.OVERLOADED, "later", 10), Refusal(Code.FORBIDDEN, "not yours")]
    connection = client._link._connection
    assert connection is not None
    message = connection._on_message

    def refuse(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        if kind == Msg.WATCHED and refusals:
            kind, body = Msg.REFUSED, encode(refusals.pop(0))
        message(connection, kind, group, request, body)

    monkeypatch.setattr(connection, "_on_message", refuse)
    with pytest.raises(holdfast.HoldfastError, match="not yours"):
        await anext(client.watch("a"))
    assert not refusals


async def test_threads_watch_too(service: Service) -> None:
    def shown() -> list[bool]:
        with holdfast.sync.connect(service.url, KEY) as client:
            watch = client.watch("a")
            seen = [next(watch).held]
            with client.lock("a"):
                seen.append(next(watch).held)
            return seen

    assert await asyncio.to_thread(shown) == [False, True]
