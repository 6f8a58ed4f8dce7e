"""Ever new names, acquired and released: nothing of them stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

import holdfast
from holdfast.cluster import LocalCluster

from .usage import memory_mib

CONCURRENCY = 512
SETTLE_S = 2.0


class Names(msgspec.Struct, frozen=True):
    """Memory of each process at the start, after a first round of names and after a second of as many others."""

    names: int
    memory_mib: dict[str, dict[str, float]]
    held_afterwards: int

    @property
    def line(self) -> str:
        largest = {when: max(of.values()) for when, of in self.memory_mib.items()}
        said = ", ".join(f"{mib:g} MiB {when}" for when, mib in largest.items())
        return f"{self.names:,} names, twice: the largest process has {said}; {self.held_afterwards} held afterwards"


async def names(cluster: LocalCluster, count: int) -> Names:
    """The first round fills logs and allocators; what the second adds, grows with names."""
    memory = {"start": memory_mib(cluster)}
    async with holdfast.connect(cluster.url, cluster.api_key, timeout=20) as client:
        for part in ("first", "second"):

            async def worker(part: str, numbers: Iterator[int]) -> None:
                for number in numbers:
                    async with client.lock(f"{part}/{number}", ttl=60):
                        pass

            numbers = iter(range(count))
            await asyncio.gather(*(worker(part, numbers) for _ in range(CONCURRENCY)))
            await asyncio.sleep(SETTLE_S)
            memory[part] = memory_mib(cluster)
    return Names(count, memory, sum(group.held for group in cluster.status().nodes[0].groups))
