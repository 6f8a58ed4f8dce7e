"""Locks through the public surface, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import time

import pytest

import holdfast
from holdfast import (
    AlreadyHeld,
    CapacityMismatch,
    ClientClosed,
    InvalidArgument,
    InvalidName,
    LockLost,
    LockTimeout,
    NotHeld,
    Reason,
    Unauthenticated,
    Unavailable,
)
from holdfast.core.hold import Hold
from holdfast.core.plain_lease import PlainLease
from holdfast.core.release import Release
from holdfast.errors import Rejected
from holdfast.wire.errors import Code
from holdfast.wire.frames import Kind
from holdfast.wire.messages import Refusal
from holdfast.wire.stream import Connection
from tests.sdk.service import KEY, Service, name_in, until


async def test_a_lock_excludes_and_its_tokens_rise(client: holdfast.Client, other: holdfast.Client) -> None:
    first = client.lock("a")
    async with first:
        assert 29 < first.remaining() <= 29.7
        assert await other.try_lock("a") is None
        token = first.token
    assert not first.held
    async with other.lock("a") as second:
        assert second.token > token
        assert await client.check("a", second.token)
        assert not await client.check("a", token)


async def test_what_waited_leaves_with_what_the_answered_issue_next(client: holdfast.Client, service: Service) -> None:
    """Else two halves of the callers take turns, in sections of half the size."""
    locks = [client.lock(name_in(1, f"lock{n}")) for n in range(10)]
    async with locks[0]:
        pass
    before = service.sections
    service.hold()

    async def cycle(lock: holdfast.Lock) -> None:
        async with lock:
            pass

    cycles = [asyncio.create_task(cycle(lock)) for lock in locks]
    await until(lambda: service.holding)
    late = asyncio.create_task(client.lock(name_in(1, "late")).acquire())
    await asyncio.sleep(0)
    service.deliver()
    await asyncio.gather(*cycles, late)
    assert service.sections - before == 2


async def test_explicit_acquire_and_release(client: holdfast.Client) -> None:
    lock = client.lock("a")
    with pytest.raises(NotHeld):
        _ = lock.token
    with pytest.raises(NotHeld):
        await lock.release()
    assert await lock.acquire() is lock
    with pytest.raises(AlreadyHeld):
        await lock.acquire()
    await lock.release()
    with pytest.raises(NotHeld):
        _ = lock.id
    await lock.acquire()
    await lock.release()


async def test_a_waiter_is_granted_by_the_release(client: holdfast.Client, other: holdfast.Client) -> None:
    order: list[int] = []

    async def wait(number: int) -> None:
        async with other.lock("a", wait=10):
            order.append(number)

    async with client.lock("a"):
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(wait(number)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        assert order == []
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_a_lock_not_had_in_time(client: holdfast.Client, other: holdfast.Client, service: Service) -> None:
    async with client.lock("a"):
        began = time.monotonic()
        with pytest.raises(LockTimeout) as raised:
            await other.lock("a", wait=0.1).acquire()
        assert 0.09 < time.monotonic() - began < 0.6
        assert isinstance(raised.value, TimeoutError)
        assert service.counts()["waiters"] == 0


@pytest.mark.parametrize("moment", ["unsent", "asked", "waiting"])
async def test_a_cancelled_acquire_leaves_nothing(
    client: holdfast.Client, other: holdfast.Client, service: Service, moment: str
) -> None:
    await (await client.lock("a").acquire()).release()
    holder = await other.lock("a").acquire() if moment == "waiting" else None
    if moment == "asked":
        service.hold()
    task = asyncio.create_task(client.lock("a").acquire())
    await asyncio.sleep(0)
    if moment == "asked":
        await until(lambda: service.holding)
    elif moment == "waiting":
        await until(lambda: service.counts()["waiters"] == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if moment == "asked":
        service.deliver()
    if holder is not None:
        await holder.release()
    async with other.lock("a", wait=1):
        pass
    await until(lambda: service.counts()["held"] == 0)


async def test_a_cancelled_release_is_carried_out(
    client: holdfast.Client, other: holdfast.Client, service: Service
) -> None:
    lock = await client.lock("a").acquire()
    service.hold()
    task = asyncio.create_task(lock.release())
    await until(lambda: service.holding)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lock.held
    service.deliver()
    async with other.lock("a", wait=1):
        pass


async def test_a_release_is_not_cancelled_with_the_block(
    client: holdfast.Client, other: holdfast.Client, service: Service
) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with client.lock("a"):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with other.lock("a", wait=1):
        pass


# Loss.


async def test_losing_a_lock_cancels_the_body_and_raises(client: holdfast.Client, other: holdfast.Client) -> None:
    told: list[Reason] = []
    cleaned = False
    with pytest.raises(LockLost) as raised:
        async with client.lock("a", ttl=20) as lock:
            lock.on_lost(told.append)
            thief = asyncio.create_task(other.steal("a", reason="maintenance"))
            try:
                await asyncio.sleep(60)
            finally:
                cleaned = True
                assert not lock.held
                with pytest.raises(LockLost):
                    _ = lock.token
                assert not thief.done(), "the name passes on when the victim has let go"
    assert raised.value.reason == Reason.STOLEN
    assert raised.value.text == "maintenance"
    assert told == [Reason.STOLEN]
    assert cleaned
    stolen = await thief
    assert stolen.token > raised.value.token
    await stolen.release()


async def test_the_task_is_not_left_cancelled(client: holdfast.Client, other: holdfast.Client) -> None:
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(LockLost):
        async with client.lock("a"):
            thief = asyncio.create_task(other.steal("a"))
            await asyncio.sleep(60)
    assert task.cancelling() == 0
    await asyncio.sleep(0)
    await (await thief).release()


async def test_a_cancellation_from_outside_wins_over_a_loss(client: holdfast.Client, other: holdfast.Client) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with client.lock("a") as lock:
            lock.on_lost(lambda reason: task.cancel())
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await entered.wait()
    stolen = await other.steal("a")
    with pytest.raises(asyncio.CancelledError):
        await task
    await stolen.release()


async def test_a_timeout_inside_and_outside_keeps_its_meaning(client: holdfast.Client) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            async with client.lock("a"):
                await asyncio.sleep(60)
    async with client.lock("a", wait=1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.sleep(60)


async def test_an_error_of_the_body_is_the_one_that_is_raised(client: holdfast.Client, other: holdfast.Client) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client.lock("a"):
            thief = asyncio.create_task(other.steal("a"))
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ZeroDivisionError from None
    await (await thief).release()


async def test_two_locks_lost_together_raise_once_each(client: holdfast.Client, other: holdfast.Client) -> None:
    thieves: list[asyncio.Task[holdfast.Lock]] = []
    with pytest.raises(LockLost) as raised:
        async with client.lock("a"), client.lock("b"):
            thieves += [asyncio.create_task(other.steal(name)) for name in ("a", "b")]
            await asyncio.sleep(60)
    assert raised.value.name == "a"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    for thief in thieves:
        await (await thief).release()


async def test_lost_may_be_awaited_by_many(client: holdfast.Client, other: holdfast.Client) -> None:
    lock = await client.lock("a").acquire()
    watchers = [asyncio.create_task(lock.lost.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    watchers[0].cancel()
    thief = asyncio.create_task(other.steal("a"))
    assert await watchers[1] == await watchers[2] == await lock.lost == Reason.STOLEN
    with pytest.raises(LockLost):
        await lock.release()
    await (await thief).release()


async def test_lost_ends_with_a_release_too(client: holdfast.Client) -> None:
    lock = await client.lock("a").acquire()
    watcher = asyncio.create_task(lock.lost.wait())
    await asyncio.sleep(0)
    await lock.release()
    assert await watcher == Reason.RELEASED


async def test_belief_ends_before_another_can_have_the_lock(
    client: holdfast.Client, other: holdfast.Client, service: Service
) -> None:
    lock = client.lock("a", ttl=0.3)
    with pytest.raises(LockLost) as raised:
        async with lock:
            token = lock.token
            waiting = asyncio.create_task(other.lock("a", wait=5).acquire())
            await until(lambda: service.counts()["waiters"] == 1)
            service.refuse = lambda group, kinds: (
                Refusal(Code.UNAVAILABLE, "no quorum") if Kind.KEEPALIVE in kinds else None
            )
            await asyncio.sleep(10)
    assert raised.value.reason == Reason.EXPIRED
    assert lock.remaining() == 0
    service.refuse = lambda group, kinds: None
    assert (await waiting).token > token


async def test_a_process_that_was_stopped_believes_nothing_on_waking(client: holdfast.Client) -> None:
    """As SIGSTOP does, the whole loop stands still past the TTL; the next statement of the body runs first."""
    reached = False
    with pytest.raises(LockLost):
        async with client.lock("a", ttl=0.2) as lock:
            time.sleep(0.25)  # noqa: ASYNC251 - the point is that the loop stands still
            assert lock.remaining() == 0
            assert not lock.held
            with pytest.raises(LockLost):
                _ = lock.token
            await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            reached = True
    assert not reached


async def test_a_body_that_never_awaits_after_its_lease_ended_is_told_at_its_end(client: holdfast.Client) -> None:
    with pytest.raises(LockLost):
        async with client.lock("a", ttl=0.1):
            time.sleep(0.15)  # noqa: ASYNC251


async def test_a_lock_is_renewed_while_it_is_held(client: holdfast.Client) -> None:
    async with client.lock("a", ttl=0.2) as lock:
        await asyncio.sleep(0.6)
        assert lock.held
        assert await client.check(lock.id)


async def test_without_renewal_renew_extends(client: holdfast.Client) -> None:
    lock = await client.lock("a", ttl=0.3, renew=False).acquire()
    await asyncio.sleep(0.15)
    before = lock.remaining()
    await lock.renew()
    assert lock.remaining() > before
    assert await lock.lost == Reason.EXPIRED
    with pytest.raises(LockLost):
        await lock.renew()


# Trouble on the way.


async def test_a_cut_connection_goes_unnoticed(
    client: holdfast.Client, other: holdfast.Client, service: Service
) -> None:
    async with client.lock("a", ttl=2) as lock:
        waiting = asyncio.create_task(other.lock("a", wait=5).acquire())
        await until(lambda: service.counts()["waiters"] == 1)
        for _ in range(3):
            service.cut()
            async with client.lock("b"):
                assert lock.held
    await (await waiting).release()


async def test_a_grant_lost_with_the_connection_is_learned_of(
    client: holdfast.Client, other: holdfast.Client, service: Service
) -> None:
    lock = await client.lock("a").acquire()
    waiting = asyncio.create_task(other.lock("a", wait=5).acquire())
    await until(lambda: service.counts()["waiters"] == 1)
    service.lose_events = True
    await lock.release()
    service.cut()
    assert (await waiting).held


async def test_an_answer_lost_with_the_connection_is_given_again(client: holdfast.Client, service: Service) -> None:
    async with client.lock(name_in(1, "registered")):
        pass
    service.lose_answers = 1
    acquiring = asyncio.create_task(client.lock(name_in(1)).acquire())
    await until(lambda: service.counts()["held"] == 1)
    service.cut()
    lock = await acquiring
    assert await client.check(lock.id)
    await lock.release()
    assert service.counts()["held"] == 0


async def test_another_router_takes_over() -> None:
    service = Service()
    await service.start(routers=2)
    try:
        async with holdfast.connect(service.url, KEY) as client, client.lock("a") as lock:
            await service.stop_router(0)
            async with client.lock("b"):
                assert lock.held
    finally:
        await service.stop()


async def test_no_quorum_is_an_error_in_time_and_leaves_no_ghost(service: Service) -> None:
    async with (
        holdfast.connect(service.url, KEY, timeout=0.3) as client,
        holdfast.connect(service.url, KEY, timeout=2) as other,
    ):
        async with client.lock("a"), other.lock("b"):
            pass
        service.hold()
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await client.lock("a", ttl=60).acquire()
        assert time.monotonic() - began < 1
        service.deliver()
        async with other.lock("a", wait=1):
            pass


async def test_a_full_queue_is_waited_for(client: holdfast.Client, service: Service) -> None:
    refusals = iter([Refusal(Code.OVERLOADED, "full", 10), Refusal(Code.NOT_LEADER, "not here")])
    service.refuse = lambda group, kinds: next(refusals, None)
    async with client.lock("a"):
        pass


async def test_a_wrong_key_is_refused_at_once(service: Service) -> None:
    with pytest.raises(Unauthenticated):
        await holdfast.connect(service.url, "hf_wrong")


async def test_a_key_that_is_not_taken_any_more_is_not_shown_again_and_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router limits wrong keys by address, and others may have the same address."""
    client = await holdfast.connect(service.url, KEY)
    monkeypatch.setattr("tests.sdk.service.KEY", "hf_another")
    greeted: list[int] = []
    hello = service._hello

    def greet(connection: Connection, request: int, body: bytes) -> None:
        greeted.append(request)
        hello(connection, request, body)

    monkeypatch.setattr(service, "_hello", greet)
    service.cut()
    async with asyncio.timeout(5):
        while not greeted:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.5)
    assert len(greeted) == 1
    await client.close()


async def test_nobody_there() -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await holdfast.connect("holdfast://127.0.0.1:1", KEY, timeout=0.2)
    assert time.monotonic() - began < 1


async def test_settings_come_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", service.url)
    monkeypatch.setenv("HOLDFAST_API_KEY", KEY)
    async with holdfast.connect() as client, client.lock("a"):
        pass
    monkeypatch.delenv("HOLDFAST_URL")
    with pytest.raises(InvalidArgument, match="HOLDFAST_URL"):
        holdfast.connect()


# Closing.


async def test_closing_gives_back_what_is_held(client: holdfast.Client, service: Service) -> None:
    mine = await holdfast.connect(service.url, KEY)
    lock = await mine.lock("a", ttl=60).acquire()
    async with client.lock("b"):
        waiting = asyncio.create_task(mine.lock("b", wait=10).acquire())
        await until(lambda: service.counts()["waiters"] == 1)
        await mine.close()
        with pytest.raises(ClientClosed):
            await waiting
        assert service.counts()["waiters"] == 0
    assert mine.closed
    assert not lock.held
    assert service.counts()["held"] == 0
    with pytest.raises(ClientClosed):
        await mine.lock("c").acquire()
    with pytest.raises(ClientClosed):
        await mine.get("c")


async def test_a_forked_child_holds_nothing(client: holdfast.Client) -> None:
    async with client.lock("a") as lock:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, repr((lock.held, lock.remaining(), client.closed)).encode())
            os._exit(0)
        os.close(writing)
        told = os.read(reading, 100)
        os.close(reading)
        os.waitpid(child, 0)  # noqa: ASYNC222 - it has told us, and ends
        assert told == b"(False, 0.0, True)"
        assert lock.held
        assert await client.check(lock.id)


# Kinds of locks.


async def test_shared_holders_share_and_exclude_writers(client: holdfast.Client, other: holdfast.Client) -> None:
    async with client.lock("a", shared=True), other.lock("a", shared=True):
        assert await other.try_lock("a") is None
    async with client.lock("a"):
        assert await other.try_lock("a", shared=True) is None


async def test_a_semaphore_counts_permits(client: holdfast.Client, other: holdfast.Client) -> None:
    async with client.semaphore("s", 3, 2) as two:
        assert (two.permits, two.capacity) == (2, 3)
        async with other.semaphore("s", 3):
            with pytest.raises(LockTimeout):
                await other.semaphore("s", 3, wait=0).acquire()
        with pytest.raises(CapacityMismatch) as raised:
            await other.semaphore("s", 4, wait=0).acquire()
        assert (raised.value.capacity, raised.value.asked) == (3, 4)


async def test_a_lock_delay_keeps_the_name_closed(client: holdfast.Client, other: holdfast.Client) -> None:
    lock = await client.lock("a", ttl=0.1, renew=False, lock_delay=0.3).acquire()
    await lock.lost
    assert await other.try_lock("a") is None
    await asyncio.sleep(0.05)
    assert (await other.get("a")).closed_for > 0
    async with other.lock("a", wait=2):
        pass


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": ""}, InvalidName),
        ({"name": "x" * 513}, InvalidName),
        ({"name": "a\n"}, InvalidName),
        ({"name": "a", "ttl": 0.09}, InvalidArgument),
        ({"name": "a", "ttl": 86_401}, InvalidArgument),
        ({"name": "a", "wait": -1}, InvalidArgument),
        ({"name": "a", "wait": 86_401}, InvalidArgument),
        ({"name": "a", "metadata": b"x" * 1025}, InvalidArgument),
        ({"name": "a", "lock_delay": 61}, InvalidArgument),
        ({"name": "a", "reentrant": True}, InvalidArgument),
    ],
)
async def test_arguments_out_of_range_are_refused_before_anything_is_sent(
    client: holdfast.Client, arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.lock(**arguments)  # type: ignore[arg-type]


async def test_arguments_at_the_limit_are_taken(client: holdfast.Client) -> None:
    for arguments in ({"ttl": 0.1}, {"ttl": 86_400}, {"wait": 86_400}, {"metadata": b"x" * 1024}, {"lock_delay": 60}):
        lock = client.lock("é" * 256, **arguments)
        async with lock:
            pass


async def test_many_at_once(client: holdfast.Client, service: Service) -> None:
    async def cycle(number: int) -> None:
        for turn in range(5):
            async with client.lock(f"{number}-{turn}"):
                pass

    await asyncio.gather(*(cycle(number) for number in range(300)))
    assert service.counts()["held"] == 0
    assert service.sections < 300, "operations of one turn leave together"


def test_rejections_are_told_from_unknown_outcomes() -> None:
    for error in (LockTimeout, NotHeld, AlreadyHeld, CapacityMismatch, ClientClosed, Unavailable):
        assert issubclass(error, Rejected)
    assert not issubclass(holdfast.OutcomeUnknown, Rejected)
    assert not issubclass(LockLost, Rejected)


async def test_reads_that_a_frame_has_no_room_for_are_asked_again(
    client: holdfast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast_shard.machine.envelope.READ_ROWS_PER_FRAME_MAX", 5)
    async with client.lock("a"):
        found = await asyncio.gather(*(client.get(name) for name in ("a", "b") * 25))
        assert [info.held for info in found] == [True, False] * 25
        assert [info.name async for info in client.list("a", page=1)] == ["a"]


@pytest.mark.parametrize("token", [-1, 2**53, 2**64])
async def test_a_token_that_cannot_be_spoils_nothing_for_others(client: holdfast.Client, token: int) -> None:
    async with client.lock("b"):
        with pytest.raises(InvalidArgument):
            await client.force_release("a", token=token)
        with pytest.raises(InvalidArgument):
            await client.check("a", token)


async def test_a_lock_that_was_let_go_is_freed_without_the_garbage_collector(client: holdfast.Client) -> None:
    def alive() -> list[object]:
        return [thing for thing in gc.get_objects() if isinstance(thing, holdfast.Lock | Hold | PlainLease | Release)]

    gc.collect()
    gc.disable()
    try:
        async with client.lock("a"):
            assert alive()
        lock = client.lock("b")
        await lock.acquire()
        await lock.release()
        del lock
        assert await client.check("c", 1) is False  # its answer comes behind theirs
        assert not alive()
    finally:
        gc.enable()
