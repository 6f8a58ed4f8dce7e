"""How far one local cluster goes: a million names, 100,000 locks held at once, 1,000 waiters on one name.

Run: ``python loadtests/extent.py names|held|waiters``. Prints one JSON object; CPU and memory are as the operating
system has them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

import psutil
import uvloop

import holdfast
from holdfast.cluster import LocalCluster

CONCURRENCY = 512


class Usage:
    """Of the cluster's processes, between two looks."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in cluster.pids.items()}
        self._began = time.monotonic()
        self._cpu = self._cpu_s()

    def _cpu_s(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}

    def memory_mib(self) -> dict[str, float]:
        return {name: round(process.memory_info().rss / 2**20, 1) for name, process in self._processes.items()}

    def cores(self) -> dict[str, float]:
        took = time.monotonic() - self._began
        now = self._cpu_s()
        return {name: round((now[name] - self._cpu[name]) / took, 4) for name in now}


async def names(cluster: LocalCluster, count: int) -> dict[str, object]:
    """Acquire and release ``count`` distinct names, after a first round of as many that fills logs and allocators."""
    usage = Usage(cluster)
    memory = {"start": usage.memory_mib()}
    async with holdfast.connect(cluster.url, cluster.api_key, timeout=20) as client:
        for part in ("warm", "measured"):
            numbers = iter(range(count))

            async def worker(part: str, numbers: object) -> None:
                for number in numbers:
                    async with client.lock(f"{part}/{number}", ttl=60):
                        pass

            await asyncio.gather(*(worker(part, numbers) for _ in range(CONCURRENCY)))
            await asyncio.sleep(2)
            memory[part] = usage.memory_mib()
    return {"names": count, "memory_mib": memory, "held_afterwards": _held(cluster)}


async def held(cluster: LocalCluster, count: int, seconds: float) -> dict[str, object]:
    """Hold ``count`` locks through 1,000 sessions of one process, TTL 30 s, and only keep them alive."""
    before = Usage(cluster).memory_mib()
    async with holdfast.connect(cluster.url, cluster.api_key, timeout=20) as client:
        sessions = [client.session(ttl=30) for _ in range(1000)]
        locks: list[holdfast.Lock] = []

        async def fill(session: holdfast.Session, first: int) -> None:
            for number in range(first, first + count // 1000):
                locks.append(await session.lock(f"held/{number}").acquire())

        began = time.monotonic()
        await asyncio.gather(*(fill(session, at * (count // 1000)) for at, session in enumerate(sessions)))
        filled = time.monotonic() - began
        usage = Usage(cluster)
        await asyncio.sleep(seconds)
        alive = sum(lock.held for lock in locks)
        result = {
            "locks": count,
            "seconds_to_acquire": round(filled, 1),
            "kept_alive_s": seconds,
            "still_held": alive,
            "cores": usage.cores(),
            "memory_mib_before": before,
            "memory_mib": usage.memory_mib(),
        }
        await asyncio.gather(*(session.end() for session in sessions))
    return result


async def waiters(cluster: LocalCluster, count: int) -> dict[str, object]:
    """``count`` clients wait for one name; each lets go as soon as it has it."""
    order: list[int] = []
    hand_offs: list[float] = []
    released = 0.0
    async with holdfast.connect(cluster.url, cluster.api_key, timeout=20) as client:
        first = await client.lock("one", ttl=60).acquire()

        async def wait(number: int) -> None:
            nonlocal released
            async with client.lock("one", ttl=60):
                hand_offs.append(time.perf_counter() - released)
                order.append(number)
                released = time.perf_counter()

        tasks = []
        for number in range(count):
            tasks.append(asyncio.create_task(wait(number)))
        while (await client.get("one")).waiters < count:
            await asyncio.sleep(0.01)
        released = time.perf_counter()
        await first.release()
        await asyncio.gather(*tasks)
    hand_offs.sort()
    return {
        "waiters": count,
        "first_come_first_served": order == list(range(count)),
        "hand_off_p50_ms": round(statistics.median(hand_offs) * 1000, 3),
        "hand_off_p99_ms": round(hand_offs[int(len(hand_offs) * 0.99)] * 1000, 3),
    }


def _held(cluster: LocalCluster) -> int:
    return sum(group.held for group in cluster.status().nodes[0].groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["names", "held", "waiters"])
    parser.add_argument("--count", type=int, help="default: 1,000,000 names, 100,000 locks, 1,000 waiters")
    parser.add_argument("--seconds", type=float, default=300, help="of keeping locks alive")
    options = parser.parse_args()
    with LocalCluster() as cluster:
        if options.what == "names":
            result = uvloop.run(names(cluster, options.count or 1_000_000))
        elif options.what == "held":
            result = uvloop.run(held(cluster, options.count or 100_000, options.seconds))
        else:
            result = uvloop.run(waiters(cluster, options.count or 1000))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
