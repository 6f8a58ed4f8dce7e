"""A process of clients that hold what a measurement wants held: ``python -m loadtests.extent.holding``.

Reads a `Holding` from standard input, says `Held` when all of it is held, and lets go when its input ends; then it says
how many were still held.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time

import msgspec
import uvloop

import holdfast

AT_ONCE = 256
PATIENCE_S = 60.0


class Holding(msgspec.Struct, frozen=True):
    """``count`` locks, from number ``first`` on, ``per_session`` under one session; 0: each under a lease of its own,
    which is not renewed. ``over_s``: begun evenly over so long, not as fast as can be."""

    url: str
    api_key: str
    count: int
    ttl_s: float
    first: int = 0
    per_session: int = 0
    over_s: float = 0.0


class Held(msgspec.Struct, frozen=True):
    """Moments of CLOCK_MONOTONIC: when the first was asked for, when the last was had."""

    first_at: float
    last_at: float


async def hold(holding: Holding) -> None:
    async with holdfast.connect(holding.url, holding.api_key, timeout=PATIENCE_S) as client:
        sessions: list[holdfast.Session] = []
        locks = _locks(client, holding, sessions)
        began = time.monotonic()
        await _acquire(locks, holding.over_s)
        _say(Held(began, time.monotonic()))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
        _say(sum(lock.held for lock in locks))
        await _let_go(locks, sessions)


def _locks(client: holdfast.Client, holding: Holding, sessions: list[holdfast.Session]) -> list[holdfast.Lock]:
    names = [f"held/{number}" for number in range(holding.first, holding.first + holding.count)]
    if not holding.per_session:
        return [client.lock(name, ttl=holding.ttl_s, renew=False) for name in names]
    locks = []
    for at, name in enumerate(names):
        if at % holding.per_session == 0:
            sessions.append(client.session(ttl=holding.ttl_s))
        locks.append(sessions[-1].lock(name))
    return locks


async def _acquire(locks: list[holdfast.Lock], over_s: float) -> None:
    began, numbers = time.monotonic(), iter(range(len(locks)))

    async def worker() -> None:
        for number in numbers:
            due_s = began + over_s * number / len(locks) - time.monotonic()
            if due_s > 0:
                await asyncio.sleep(due_s)
            await locks[number].acquire()

    await asyncio.gather(*(worker() for _ in range(min(AT_ONCE, len(locks)))))


async def _let_go(locks: list[holdfast.Lock], sessions: list[holdfast.Session]) -> None:
    left = iter([session.end for session in sessions] or [lock.release for lock in locks])

    async def worker() -> None:
        for each in left:
            await each()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


def _say(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    # It would walk hundreds of thousands of locks again and again, on cores that the service measured shares.
    gc.disable()
    uvloop.run(hold(msgspec.json.decode(sys.stdin.buffer.readline(), type=Holding)))


if __name__ == "__main__":
    main()
