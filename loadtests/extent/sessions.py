"""Many sessions that are only kept alive: what that costs."""

from __future__ import annotations

import time

import msgspec

from holdfast.cluster import LocalCluster

from .holders import Holders
from .usage import Cores, Usage, memory_mib

RENEWALS_PER_TTL = 3


class Sessions(msgspec.Struct, frozen=True):
    """``cores``: while nothing else was done for ``kept_s``."""

    sessions: int
    processes: int
    ttl_s: float
    seconds_to_open: float
    kept_s: float
    cores: Cores
    still_held: int
    memory_mib: dict[str, float]

    @property
    def line(self) -> str:
        cores = self.cores
        return (
            f"{self.sessions:,} sessions of {self.ttl_s:g} s in {self.processes} processes: "
            f"{100 * cores.total:.1f} % of a core (clients {100 * cores.clients:.1f}, router {100 * cores.router:.1f}, "
            f"nodes {100 * cores.nodes:.1f}); {self.still_held:,} still held after {self.kept_s:g} s"
        )


def sessions(cluster: LocalCluster, count: int, processes: int, ttl_s: float, seconds: float) -> Sessions:
    """Each session holds one lock. They are opened evenly over the time in which all are renewed once."""
    with Holders(cluster, count, ttl_s, processes=processes, per_session=1, over_s=ttl_s / RENEWALS_PER_TTL) as holders:
        # Until all have been renewed once.
        time.sleep(ttl_s / RENEWALS_PER_TTL)
        usage = Usage(cluster, holders.pids)
        time.sleep(seconds)
        cores, memory, took_s = usage.cores(), memory_mib(cluster), holders.took_s
        still = holders.let_go()
    return Sessions(count, processes, ttl_s, took_s, seconds, cores, still, memory)
