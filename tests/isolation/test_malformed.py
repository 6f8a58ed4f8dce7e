"""Bytes that are no messages, and messages that mean nothing, at a live router and node: refused, and nobody is harmed.

Seeded: a failing round says its seed, and does the same again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

import holdfast
from holdfast.wire.errors import Code
from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Role
from holdfast.wire.stream import pack
from tests.router.test_process import OTHER_KEY, Sdk, Service

from .conftest import Two

ROUNDS: Final = 150
ODD: Final[list[Any]] = [
    *(0, 1, -1, 255, 2**31, 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1),
    *(None, True, 1.5, float("nan"), float("inf"), "", "a", "a" * 600, "\x00", "{", "{}", "ü{a}", b"", b"\xff" * 20),
    *([], [1, 2], {}, {"a": 1}),
]
KINDS: Final = [*range(20), *range(30, 40), 63, 64, 255]


def _mutated(rng: random.Random, data: bytes) -> bytes:
    body = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(body)) if body else 0
        match rng.randrange(4):
            case 0 if body:
                body[at] = rng.randrange(256)
            case 1 if body:
                del body[at : at + rng.randint(1, 8)]
            case 2:
                body[at:at] = rng.randbytes(rng.randint(1, 8))
            case _:
                body[at:at] = body[at : at + 16]
    return bytes(body)


def _section(rng: random.Random) -> list[Any]:
    """A section of the right form with now and then a field that is not."""
    count = rng.randint(1, 4)

    def column(usual: Callable[[], Any]) -> list[Any]:
        return [rng.choice(ODD) if rng.random() < 0.1 else usual() for _ in range(count)]

    kinds = bytes(rng.choice(KINDS) if rng.random() < 0.2 else rng.randint(2, 8) for _ in range(count))
    section: list[Any] = [
        rng.choice([0, 1, 2, 3, 1 << 40]), rng.choice([0, 1, 5]), kinds, column(lambda: rng.randint(0, 9)),
        column(lambda: rng.choice(["a", "b", "{t}x"])), column(lambda: rng.randint(0, 3)),
        column(lambda: rng.randint(0, 9)), column(lambda: rng.randint(0, 90_000)), column(lambda: rng.randint(0, 9)),
        {},
    ]  # fmt: skip
    if rng.random() < 0.3:
        section[-1] = {rng.choice([0, 1, 99, -1]): [rng.choice(ODD) for _ in range(rng.randint(0, 13))]}
    if rng.random() < 0.1:
        section[rng.randrange(len(section))] = rng.choice(ODD)
    if rng.random() < 0.1:
        section.append(rng.choice(ODD))
    return section


async def _speak(address: str, data: bytes) -> None:
    """Say it, hang up the writing side, and read to the end, which has to come."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(10):
                while await reader.read(1 << 16):
                    pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _unharmed(two: Two, lock: holdfast.Lock, service: Service) -> None:
    assert lock.held
    assert await two.mine.check(lock.id)
    async with two.theirs.lock("proof", wait=0, ttl=5):
        pass
    assert service.router.poll() is None
    assert service.node.process.poll() is None


@pytest.mark.parametrize("seed", range(3))
async def test_a_stranger_who_says_anything(two: Two, service: Service, seed: int) -> None:
    rng = random.Random(seed)
    good = pack(Msg.HELLO, 0, 0, encode(Hello(PROTOCOL_VERSION, Role.CLIENT, "hf_unknown")))
    async with two.mine.lock(f"stranger/{seed}") as lock:
        for address in (service.address, service.node.address):
            for _ in range(ROUNDS // 6):
                data = rng.randbytes(rng.randint(1, 300)) if rng.random() < 0.3 else _mutated(rng, good)
                await _speak(address, data)
        await _unharmed(two, lock, service)


@pytest.mark.parametrize("seed", range(3))
async def test_a_tenant_who_says_anything(two: Two, service: Service, seed: int) -> None:
    rng = random.Random(seed)
    async with two.mine.lock(f"tenant/{seed}") as lock:
        sdk = Sdk()
        await sdk.open(service, key=OTHER_KEY)
        for number in range(ROUNDS):
            body = encode([rng.choice([5000, 5000, 0, -1, 10**9]), _section(rng)])
            if rng.random() < 0.2:
                body = _mutated(rng, body)
            if sdk.closed.is_set():
                sdk = Sdk()
                await sdk.open(service, key=OTHER_KEY)
            kind = rng.choice([Msg.OPS, Msg.OPS, Msg.READ, rng.randint(1, 63)])
            if kind == Msg.HELLO:
                continue
            sdk.connection.send(kind, rng.choice([1, 2, 0, 9, 65535]), number + 1, body)
            if number % 10 == 9:
                sdk.connection.send(Msg.PING, 0, 0, b"")
                await sdk.next()
        await _unharmed(two, lock, service)


async def test_a_router_that_says_anything_is_refused_by_a_node_that_goes_on(two: Two, service: Service) -> None:
    """Routers are trusted with what they say of tenants, not with being right about the form."""
    rng = random.Random(7)
    formation = service.formation
    hello = pack(
        Msg.HELLO, 0, 0, encode(Hello(PROTOCOL_VERSION, Role.ROUTER, formation["secret"], formation["cluster"]))
    )
    async with two.mine.lock("router") as lock:
        for _ in range(ROUNDS // 3):
            frames = []
            for request in range(rng.randint(1, 5)):
                frame = encode([[2, rng.choice([b"\xff\xff", b"", b"\x01\x00" * 3]), _section(rng)]])
                inner = _mutated(rng, frame) if rng.random() < 0.7 else encode([rng.choice(ODD), rng.choice(ODD)])
                patience = encode(rng.choice([[], [5000], [1], [0], [-1], [5, 5], rng.choice(ODD)]))
                body = b"\x92" + patience + inner if rng.random() < 0.9 else inner
                frames.append(pack(rng.choice([Msg.OPS, Msg.READ]), rng.choice([1, 2, 9]), request, body))
            await _speak(service.node.address, hello + b"".join(frames))
        await _unharmed(two, lock, service)


async def test_a_section_nested_without_end(two: Two, service: Service) -> None:
    async with two.mine.lock("nested") as lock:
        sdk = Sdk()
        await sdk.open(service, key=OTHER_KEY)
        for body in (b"\x91" * 100_000, b"\x92\xcd\x13\x88" + b"\x91" * 100_000 + b"\xc0", msgspec.msgpack.encode([1])):
            sdk.connection.send(Msg.OPS, 1, 1, body)
            assert await sdk.reply(1) == Code.BAD_MESSAGE
        await _unharmed(two, lock, service)
