"""Where a block begins and ends: cancellation, errors of the body, losses that its own calls find out."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

import holdfast
from holdfast import AlreadyHeld, HoldfastError, InvalidArgument, LockLost, Reason
from tests.sdk.service import KEY, Service, name_in


def stand_still(seconds: float) -> None:
    """As SIGSTOP does: no task and no timer runs meanwhile."""
    time.sleep(seconds)


async def test_one_lock_object_is_in_one_block_at_a_time(client: holdfast.Client) -> None:
    lock = client.lock("a")
    async with lock:
        with pytest.raises(AlreadyHeld, match="in a block already"):
            async with lock:
                pass
        assert lock.held


@pytest.mark.parametrize("call", ["renew", "release"])
async def test_a_loss_that_the_body_finds_out_cancels_nothing_behind_the_block(
    client: holdfast.Client, call: str
) -> None:
    with pytest.raises(LockLost):
        async with client.lock("a", ttl=0.2) as lock:
            stand_still(0.25)
            await getattr(lock, call)()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_session_ended_elsewhere_is_a_lost_lock_and_no_cancellation(client: holdfast.Client) -> None:
    session = client.session()
    entered = asyncio.Event()

    async def body() -> None:
        async with session.lock("a"):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await entered.wait()
    await session.end()
    with pytest.raises(LockLost) as raised:
        await task
    assert raised.value.reason == Reason.SESSION_ENDED


async def test_lost_ends_also_for_who_looks_late_and_for_who_looked_early(
    client: holdfast.Client, other: holdfast.Client
) -> None:
    lock = client.lock("a")
    early = asyncio.create_task(lock.lost.wait())
    await asyncio.sleep(0)
    await lock.acquire()
    thief = asyncio.create_task(other.steal("a"))
    assert await early == Reason.STOLEN
    lock.let_go()
    await (await thief).release()
    async with client.lock("b") as released:
        pass
    assert await released.lost == Reason.RELEASED


async def test_what_ran_out_unnoticed_can_be_acquired_anew(client: holdfast.Client) -> None:
    lock = await client.lock("a", ttl=0.2, renew=False).acquire()
    stand_still(0.25)
    assert await lock.acquire() is lock
    await lock.release()


async def test_leaving_a_session_that_cannot_be_ended_has_a_deadline_and_hides_no_error(service: Service) -> None:
    async with holdfast.connect(service.url, KEY, timeout=0.3) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.session() as session:
                await session.lock(name_in(1)).acquire()
                service.hold()
                raise ZeroDivisionError
        with pytest.raises(HoldfastError):
            async with client.session() as session:
                await session.lock(name_in(2), wait=1).acquire()
        service.deliver()


async def test_a_second_end_has_a_deadline_too(service: Service) -> None:
    async with holdfast.connect(service.url, KEY, timeout=0.3) as client:
        session = client.session()
        await session.lock("a").acquire()
        service.hold()
        for _ in range(2):
            with pytest.raises(HoldfastError):
                await session.end()
        service.deliver()


async def test_a_cancelled_close_closes(service: Service) -> None:
    client = await holdfast.connect(service.url, KEY)
    await client.lock("a").acquire()
    service.hold()
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0.02)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert client.closed
    service.deliver()


async def test_closing_while_a_session_is_being_opened_leaves_nothing_held(service: Service) -> None:
    client = await holdfast.connect(service.url, KEY)
    async with client.lock(name_in(1)):
        pass
    service.hold()
    asked = asyncio.create_task(client.session().lock(name_in(1)).acquire())
    await asyncio.sleep(0.02)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0.02)
    service.deliver()
    await closing
    with pytest.raises(HoldfastError):
        await asked
    assert service.counts()["held"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"lock_delay": float("nan")},
        {"metadata": "\ud800"},
        {"metadata": 5},
        {"wait": float("nan")},
    ],
)
async def test_numbers_and_texts_that_are_none(client: holdfast.Client, arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        client.lock("a", **arguments)  # type: ignore[arg-type]


async def test_a_prefix_that_cannot_be_written(client: holdfast.Client) -> None:
    for prefix in ("\ud800", "x" * 600):
        with pytest.raises(InvalidArgument):
            async for _ in client.list(prefix):
                pass


async def test_a_host_that_cannot_be_one_is_named() -> None:
    with pytest.raises(HoldfastError, match="label"):
        await holdfast.connect("holdfast://" + "a" * 70 + ":8420", KEY, timeout=0.3)


def test_a_context_for_tls_is_not_ignored() -> None:
    with pytest.raises(InvalidArgument, match="holdfasts://"):
        holdfast.connect("holdfast://127.0.0.1:1", KEY, tls=ssl.create_default_context())
