"""Few and many waiters on one name: what a hand-off costs and takes, and who gets how many turns."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import msgspec

import holdfast
from holdfast.bench.report import Quantiles, quantiles
from holdfast.cluster import LocalCluster

from ..spread import Spread
from .usage import Usage

NAME = "one"
CONNECTIONS = 10
"""Shared by few and many waiters alike."""
PATIENCE_S = 30.0


class Turns(msgspec.Struct, frozen=True):
    """``cpu_us``: of all processes, for a hand-off with the queueing of who comes back."""

    waiters: int
    hand_offs_per_s: float
    cpu_us: float
    hand_off_ms: Quantiles | None
    grants_min: int
    grants_max: int


class Waiters(msgspec.Struct, frozen=True):
    few: list[Turns]
    many: list[Turns]
    cost_of_many: Spread | None
    """Processor time of a hand-off with many waiters, divided by that with few; by repetition."""
    long: Turns
    """A long run of clients with a connection each."""

    @property
    def line(self) -> str:
        spread = self.long.grants_max / self.long.grants_min - 1 if self.long.grants_min else float("inf")
        ratio = f"{self.cost_of_many.median:.2f}" if self.cost_of_many else "?"
        return (
            f"{self.many[0].waiters:,} waiters: a hand-off costs {ratio} of what it costs with {self.few[0].waiters}; "
            f"{self.long.waiters} clients came back for {self.long.grants_min:,} to {self.long.grants_max:,} turns "
            f"each ({100 * spread:.1f} % apart)"
        )


class _Crowd:
    """Clients that come back for the lock as soon as they have let it go."""

    def __init__(self, count: int) -> None:
        self.grants = [0] * count
        self.hand_offs: list[float] = []
        self._let_go_at = 0.0
        self._over = False

    async def take_turns(self, lock: holdfast.Lock, number: int) -> None:
        clock = time.perf_counter
        while not self._over:
            await lock.acquire()
            if self._let_go_at:
                self.hand_offs.append(clock() - self._let_go_at)
            self.grants[number] += 1
            self._let_go_at = clock()
            await lock.release()

    async def leave(self, tasks: list[asyncio.Task[None]]) -> None:
        self._over = True
        await asyncio.gather(*tasks)


async def turns(cluster: LocalCluster, count: int, seconds: float, connections: int) -> Turns:
    """``count`` clients over so many connections, all in the queue when the time begins."""
    opened = [
        await holdfast.connect(cluster.url, cluster.api_key, timeout=PATIENCE_S) for _ in range(min(connections, count))
    ]
    crowd = _Crowd(count)
    locks = [opened[number % len(opened)].lock(NAME, ttl=60) for number in range(count)]
    tasks = [asyncio.create_task(crowd.take_turns(lock, number)) for number, lock in enumerate(locks)]
    await _until(opened[0], lambda waiters: waiters >= count - 2)
    crowd.grants, crowd.hand_offs = [0] * count, []
    usage, began = Usage(cluster, [os.getpid()]), time.monotonic()
    await asyncio.sleep(seconds)
    took, grants, seen = time.monotonic() - began, list(crowd.grants), sorted(crowd.hand_offs)
    cpu_us = usage.us_per(sum(grants))
    await crowd.leave(tasks)
    await asyncio.gather(*(client.close() for client in opened))
    return Turns(count, round(sum(grants) / took, 1), cpu_us, quantiles(seen), min(grants), max(grants))


async def _until(client: holdfast.Client, enough: Callable[[int], bool]) -> None:
    while not enough((await client.get(NAME)).waiters):
        await asyncio.sleep(0.05)


async def waiters(
    cluster: LocalCluster, few: int, many: int, repetitions: int, seconds: float, long: int, long_s: float
) -> Waiters:
    """Few and many in turn; then the long run."""
    of_few, of_many = [], []
    for _ in range(repetitions):
        of_few.append(await turns(cluster, few, seconds, CONNECTIONS))
        of_many.append(await turns(cluster, many, seconds, CONNECTIONS))
    ratios = [many.cpu_us / few.cpu_us for few, many in zip(of_few, of_many, strict=True) if few.cpu_us]
    return Waiters(of_few, of_many, Spread.of(ratios), await turns(cluster, long, long_s, long))
