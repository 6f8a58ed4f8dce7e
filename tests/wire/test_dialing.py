"""A link between servers notices silence at both ends, survives its own pauses, and is dialled again with patience."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from holdfast.wire import dialing, stream
from holdfast.wire.dialing import Dialer
from holdfast.wire.errors import Code
from holdfast.wire.frames import encode
from holdfast.wire.limits import LINK_RETRY_S_MIN, LINK_SILENT_LOOKS, PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Refusal, Role, Welcome
from holdfast.wire.stream import Connection, pack

LOOK_S = 0.05
WELCOME = encode(Welcome(PROTOCOL_VERSION, "c"))


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LINK_LOOK_S", LOOK_S)


class Link:
    """What a dialer tells its owner."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.welcomed: list[Connection] = []
        self.closed = 0
        self.messages: list[int] = []
        self.troubles: list[str] = []

    def _on_closed(self, connection: Connection) -> None:
        self.closed += 1

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[asyncio.Task[None]]:
        dialer = Dialer(
            lambda: self.address,
            Hello(PROTOCOL_VERSION, Role.ROUTER),
            tls=lambda: None,
            on_welcome=lambda connection, welcome: self.welcomed.append(connection),
            on_message=lambda connection, kind, group, request, body: self.messages.append(kind),
            on_closed=self._on_closed,
            on_trouble=self.troubles.append,
        )
        task = asyncio.create_task(dialer.run())
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)


@asynccontextmanager
async def server(on_message: Callable[[Connection, int, int], None]) -> AsyncIterator[tuple[str, list[Connection]]]:
    """Its address and the connections it accepted; ``on_message(connection, kind, request)``."""
    accepted: list[Connection] = []
    listening = await asyncio.get_running_loop().create_server(
        lambda: Connection(
            lambda connection, kind, group, request, body: on_message(connection, kind, request),
            lambda connection, error: None,
            on_open=accepted.append,
        ),
        "127.0.0.1",
        0,
    )
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", accepted
    finally:
        listening.close()
        for connection in accepted:
            connection.abort()
        await asyncio.sleep(0)


def welcome_only(connection: Connection, kind: int, request: int) -> None:
    """A peer that is stopped after its WELCOME, as far as anybody can tell."""
    if kind == Msg.HELLO:
        connection.send(Msg.WELCOME, 0, 0, WELCOME)


def welcome_and_pong(connection: Connection, kind: int, request: int) -> None:
    welcome_only(connection, kind, request)
    if kind == Msg.PING:
        connection.send(Msg.PONG, 0, request, b"")


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_silent_peer_is_given_up_and_dialled_again() -> None:
    async with server(welcome_only) as (address, _):
        link = Link(address)
        async with link.kept():
            await until(lambda: len(link.welcomed) == 3)
    assert link.closed >= 2
    assert [trouble.partition(": ")[2][:17] for trouble in link.troubles] == ["nothing was heard"]


async def test_answers_to_ping_keep_a_link_and_so_does_any_other_message() -> None:
    async def look_on(on_message: Callable[[Connection, int, int], None], say: bool) -> None:
        async with server(on_message) as (address, accepted):
            link = Link(address)
            async with link.kept():
                await until(lambda: link.welcomed)
                for _ in range(40 * LINK_SILENT_LOOKS):
                    await asyncio.sleep(LOOK_S / 10)
                    if say:
                        accepted[0].send(Msg.EVENTS, 1, 0, b"")
                assert (len(link.welcomed), link.closed) == (1, 0)

    await look_on(welcome_and_pong, say=False)
    await look_on(welcome_only, say=True)


async def test_the_accepting_end_notices_a_silent_caller_and_keeps_one_that_answers() -> None:
    def welcome_and_watch(connection: Connection, kind: int, request: int) -> None:
        if kind == Msg.HELLO:
            connection.send(Msg.WELCOME, 0, 0, WELCOME)
            connection.watch()

    async with server(welcome_and_watch) as (address, accepted):
        link = Link(address)
        async with link.kept():
            await until(lambda: link.welcomed)
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(pack(Msg.HELLO, 0, 0, b""))
            await until(lambda: len(accepted) == 2 and accepted[1].closed)
            assert (len(link.welcomed), accepted[0].closed) == (1, False)
            assert reader is not None
            writer.close()


@contextmanager
def talkative() -> Iterator[str]:
    """The address of a peer in a thread of its own, which says something all the time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def talk() -> None:
            with listening.accept()[0] as peer, contextlib.suppress(OSError):
                peer.sendall(pack(Msg.WELCOME, 0, 0, WELCOME))
                while not ended.wait(LOOK_S / 10):
                    peer.sendall(pack(Msg.PONG, 0, 0, b""))

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


async def test_who_was_busy_or_stopped_for_long_does_not_take_its_own_silence_for_the_peers() -> None:
    with talkative() as address:
        link = Link(address)
        async with link.kept():
            await until(lambda: link.welcomed)
            for _ in range(4):
                time.sleep(2 * LINK_SILENT_LOOKS * LOOK_S)  # noqa: ASYNC251 - this is the point: the loop stands still
                await asyncio.sleep(LOOK_S)
            assert (len(link.welcomed), link.closed) == (1, 0)


async def test_who_accepts_and_says_nothing_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "LINK_DIAL_S", 0.05)
    async with server(lambda connection, kind, request: None) as (address, accepted):
        link = Link(address)
        async with link.kept():
            await until(lambda: len(accepted) == 3)
    assert link.welcomed == []
    assert [trouble.partition(": ")[2] for trouble in link.troubles] == ["no WELCOME within 0.05 s"]


async def test_a_refusal_makes_pauses_grow_and_is_told_once_and_only_a_welcome_ends_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    really_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds >= LINK_RETRY_S_MIN:
            pauses.append(seconds)
        await really_sleep(min(seconds, 0.001))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)

    def refuse_six_times(connection: Connection, kind: int, request: int) -> None:
        if len(accepted) <= 6:
            refusal = Refusal(Code.UNAUTHENTICATED, "the cluster secret is wrong")
            connection.send(Msg.REFUSED, 0, 0, encode(refusal))
        else:
            connection.send(Msg.WELCOME, 0, 0, WELCOME)
        connection.close()

    async with server(refuse_six_times) as (address, accepted):
        link = Link(address)
        async with link.kept():
            await until(lambda: len(pauses) >= 8)
    assert pauses[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 0.05, 0.05]
    assert link.troubles == [f"{address}: the cluster secret is wrong"]


async def test_a_bad_address_is_told_and_a_better_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "LINK_RETRY_S_MAX", 0.05)
    async with server(welcome_and_pong) as (address, _):
        for bad in ("nonsense", "127.0.0.1:99999", "127.0.0.1:x", "", "a" * 70 + ".example:1"):
            link = Link(bad)
            async with link.kept() as task:
                await until(lambda: link.troubles)  # noqa: B023 - awaited at once
                link.address = address
                await until(lambda: link.welcomed)  # noqa: B023
                assert not task.done()
