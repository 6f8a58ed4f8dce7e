"""Processor time and memory of servers and clients, as the operating system counts them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import msgspec
import psutil

from holdfast.bench.processes import seconds_of
from holdfast.cluster import LocalCluster


class Cores(msgspec.Struct, frozen=True):
    """Processor seconds for each second that passed."""

    clients: float
    router: float
    nodes: float

    @property
    def total(self) -> float:
        return round(self.clients + self.router + self.nodes, 4)


class Usage:
    """Of a cluster's processes and of ``clients`` (process ids), from when it was made."""

    def __init__(self, cluster: LocalCluster, clients: Iterable[int] = ()) -> None:
        pids = cluster.pids
        self._parts = [list(clients), [pids["router"]], [pid for name, pid in pids.items() if name != "router"]]
        self._began = time.monotonic()
        self._before = self._seconds()

    def _seconds(self) -> list[float]:
        return [used if (used := seconds_of(part)) is not None else 0.0 for part in self._parts]

    def cores(self) -> Cores:
        took = time.monotonic() - self._began
        return Cores(*(round((now - then) / took, 4) for now, then in zip(self._seconds(), self._before, strict=True)))

    def us_per(self, count: int) -> float:
        """Processor microseconds of all of them for each of ``count`` things that were done meanwhile."""
        used = sum(self._seconds()) - sum(self._before)
        return round(1e6 * used / count, 1) if count else 0.0


def memory_mib(cluster: LocalCluster) -> dict[str, float]:
    return {name: round(psutil.Process(pid).memory_info().rss / 2**20, 1) for name, pid in cluster.pids.items()}


def own_memory() -> int:
    """Bytes of this process that are in memory."""
    return psutil.Process(os.getpid()).memory_info().rss
