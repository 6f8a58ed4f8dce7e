"""What one caller can do to a router: as much as is written in ``wire/limits.py`` and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.wire import stream
from holdfast.wire.crowd import Crowd
from holdfast.wire.errors import Code
from holdfast.wire.limits import FAILED_LOGINS_BURST, FAILED_LOGINS_EVERY_S, UNSENT_BYTES_MAX
from holdfast.wire.messages import Msg, Refusal, decode_refusal
from holdfast.wire.stream import pack
from holdfast_router import front
from holdfast_router.downstream import OUTSTANDING_MAX, Downstream
from holdfast_router.haste import EARLY_MAX
from tests.node.processes import Caller

from .test_front import Router, hello, turned_away

ANSWER_BYTES = 1 << 20


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    router = Router()
    await router.start()
    router.hears()
    yield router
    router.server.close()
    await Caller.close_all()
    router.front.close()


async def welcomed(router: Router) -> Caller:
    caller = await router.caller((Msg.HELLO, hello()))
    assert [(await caller.next())[0] for _ in range(3)] == [Msg.WELCOME, Msg.TABLE, Msg.ROLES]
    return caller


async def refusal(caller: Caller) -> Refusal:
    kind, _, _, body = await caller.next()
    assert kind == Msg.REFUSED
    async with asyncio.timeout(5):
        await caller.closed.wait()
    return decode_refusal(body)


async def test_wrong_keys_are_limited_by_address_and_cost_nobody_else_there_his_right_one(router: Router) -> None:
    for _ in range(FAILED_LOGINS_BURST):
        assert await turned_away(await router.caller((Msg.HELLO, hello(key="hf_wrong")))) == Code.UNAUTHENTICATED
    for _ in range(2):
        told = await refusal(await router.caller((Msg.HELLO, hello(key="hf_wrong"))))
        assert (told.code, told.quota, told.limit) == (Code.THROTTLED, "failed_logins", FAILED_LOGINS_BURST)
        assert told.retry_after_ms == FAILED_LOGINS_EVERY_S * 1000
        await welcomed(router)
    router.now += told.retry_after_ms / 1000
    router.hears()
    assert await turned_away(await router.caller((Msg.HELLO, hello(key="hf_wrong")))) == Code.UNAUTHENTICATED


async def test_so_many_connections_of_one_address_and_room_again_when_one_leaves(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router.front, "_crowd", Crowd(100, 2))
    first, second = await welcomed(router), await welcomed(router)
    told = await refusal(await router.caller((Msg.HELLO, hello())))
    assert (told.code, told.retry_after_ms) == (Code.OVERLOADED, 1000)
    assert not second.connection.closed
    first.connection.abort()
    async with asyncio.timeout(5):
        while len(router.front) == 2:
            await asyncio.sleep(0.001)
    await welcomed(router)


async def test_a_hello_that_trickles_in_has_no_longer_than_one_that_does_not_come(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "HELLO_TIMEOUT_S", 0.2)
    caller = await router.caller()
    assert caller.connection.transport is not None
    greeting = pack(Msg.HELLO, 0, 0, hello(4000))
    for at in range(len(greeting)):
        if caller.closed.is_set():
            break
        caller.connection.transport.write(greeting[at : at + 1])
        await asyncio.sleep(0.01)
    assert await turned_away(caller) == Code.BAD_MESSAGE


async def test_a_request_that_is_begun_has_to_end(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "UNFINISHED_S", 0.2)
    caller = await welcomed(router)
    assert caller.connection.transport is not None
    # Messages that end do not count for the one that does not.
    caller.connection.transport.write(pack(Msg.PING, 0, 0, b"") + pack(Msg.OPS, 1, 1, bytes(1000))[:-1])
    assert (await caller.next())[0] == Msg.PONG
    async with asyncio.timeout(5):
        await caller.closed.wait()


async def test_many_messages_in_pieces_are_no_unfinished_message(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "UNFINISHED_S", 0.1)
    caller = await welcomed(router)
    assert caller.connection.transport is not None
    ping = pack(Msg.PING, 0, 0, bytes(20))
    for _ in range(30):
        # Each write ends one message and begins the next.
        caller.connection.transport.write(ping[15:] + ping[:15] if caller.messages.qsize() else ping + ping[:15])
        await asyncio.sleep(0.01)
    assert not caller.closed.is_set()


def flood(router: Router, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has STATUS answered with a megabyte each; what was waiting to be sent is written down each time."""
    unsent: list[int] = []

    def answer(caller: Downstream, request: int) -> None:
        caller.connection.send(Msg.STATUS, 0, request, bytes(ANSWER_BYTES))
        caller.connection.flush()
        if caller.connection.transport is not None and not caller.connection.closed:
            unsent.append(caller.connection.transport.get_write_buffer_size())

    monkeypatch.setattr(router.front, "_on_status", answer)
    return unsent


async def test_who_does_not_read_is_not_read_from_and_costs_little_memory(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsent = flood(router, monkeypatch)
    caller = await welcomed(router)
    transport = caller.connection.transport
    assert transport is not None
    transport.pause_reading()
    (connection,) = (each for each in router.connections if not each.closed)
    there = router.front._callers[connection]
    asked = 0
    async with asyncio.timeout(5):
        while not there.paused:
            transport.write(pack(Msg.STATUS, 0, asked + 1, b""))
            asked += 1
            while len(unsent) < asked and not there.paused:
                await asyncio.sleep(0.001)
    transport.write(pack(Msg.STATUS, 0, 1, b"") * 10)
    await asyncio.sleep(0.05)
    assert len(unsent) == asked
    assert max(unsent) <= 2 * ANSWER_BYTES
    # Who reads again gets everything.
    transport.resume_reading()
    for _ in range(asked + 10):
        assert len((await caller.next())[3]) == ANSWER_BYTES
    assert not caller.closed.is_set()


async def test_who_takes_nothing_for_long_is_disconnected(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALLED_S", 0.2)
    flood(router, monkeypatch)
    caller = await welcomed(router)
    transport = caller.connection.transport
    assert transport is not None
    transport.pause_reading()
    for number in range(20):
        transport.write(pack(Msg.STATUS, 0, number + 1, b""))
    (connection,) = (each for each in router.connections if not each.closed)
    async with asyncio.timeout(5):
        while not connection.closed:
            await asyncio.sleep(0.001)


async def test_more_than_is_allowed_to_wait_ends_the_connection(router: Router) -> None:
    """Broadcasts and answers to what was asked before come although nothing more is read."""
    caller = await welcomed(router)
    assert caller.connection.transport is not None
    caller.connection.transport.pause_reading()
    (connection,) = (each for each in router.connections if not each.closed)
    for _ in range(2 * UNSENT_BYTES_MAX // ANSWER_BYTES + 8):
        connection.send(Msg.EVENTS, 1, 0, bytes(ANSWER_BYTES))
        connection.flush()
    assert connection.closed


async def test_who_asks_more_than_is_answered_is_not_read_from(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Downstream] = []

    def ask(caller: Downstream, request: int) -> None:
        caller.asked()
        asked.append(caller)

    monkeypatch.setattr(router.front, "_on_status", ask)
    caller = await welcomed(router)
    assert caller.connection.transport is not None
    for _ in range(4):
        caller.connection.transport.write(pack(Msg.STATUS, 0, 1, b"") * OUTSTANDING_MAX)
        await asyncio.sleep(0.05)
    assert asked[0].paused
    before = len(asked)
    for _ in range(before):
        asked[0].answered()
    async with asyncio.timeout(5):
        while len(asked) == before:
            await asyncio.sleep(0.001)


async def test_who_ignores_when_to_come_again_is_read_together_and_answered_in_full(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[bool] = []
    """Of each request, whether its connection rested already: what came in the same read."""
    hasty: list[Downstream] = []

    def refuse(caller: Downstream, request: int) -> None:
        refused.append(caller.paused)
        hasty.append(caller)
        caller.refuse(1, request, Refusal(Code.OVERLOADED, "too busy", 60_000))

    monkeypatch.setattr(router.front, "_on_status", refuse)
    caller = await welcomed(router)
    transport = caller.connection.transport
    assert transport is not None
    for request in range(1, 3 + EARLY_MAX):
        transport.write(pack(Msg.STATUS, 0, request, b""))
        assert (await caller.next())[0] == Msg.REFUSED
    assert not any(refused)
    assert hasty[0].paused, "read no more, for a moment"
    # In one write: what is sent in several may fall before and after the end of a rest.
    transport.write(b"".join(pack(Msg.STATUS, 0, 100 + request, b"") for request in range(10)))
    assert [(await caller.next())[2] for _ in range(10)] == list(range(100, 110))
    assert refused[-10:] == [False] + [True] * 9
