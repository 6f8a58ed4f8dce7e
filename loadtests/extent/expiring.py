"""Leases that all run out within a second, because their holders were killed: what others notice."""

from __future__ import annotations

import time

import msgspec

from holdfast.cluster import LocalCluster

from ..spread import Spread
from .holders import Holders
from .probe import Look, Probe

TTL_S = 4.0
WITHIN_S = 0.95
"""So that all run out within a second."""
WORKERS = 64
WARM_UP_S = 2.0
SETTLE_S = 1.0


class Expiry(msgspec.Struct, frozen=True):
    """Others, for a second before any holder came and for the second in which all leases ran out."""

    before: Look
    during: Look

    @property
    def p99_ratio(self) -> float | None:
        if self.before.cycle_ms is None or self.during.cycle_ms is None:
            return None
        return round(self.during.cycle_ms.p99 / self.before.cycle_ms.p99, 2)


class Expiring(msgspec.Struct, frozen=True):
    leases: int
    rounds: list[Expiry]
    p99_ratio: Spread | None
    left_held: int
    """Of the leases, once all was over: 0 or the measurement is worth nothing."""

    @property
    def line(self) -> str:
        ratio = self.p99_ratio
        said = f"{ratio.median:.2f} ({ratio.min:.2f} to {ratio.max:.2f})" if ratio else "unknown"
        return f"{self.leases:,} leases run out within a second: others' p99 is {said} times that before"


def expiring(cluster: LocalCluster, count: int, rounds: int) -> Expiring:
    """``WORKERS`` others cycle all the while."""
    seen = []
    with Probe(cluster, WORKERS) as probe:
        time.sleep(WARM_UP_S)
        for number in range(rounds):
            before = probe.watch(1.0)
            with Holders(cluster, count, TTL_S, first=number * count, over_s=WITHIN_S) as holders:
                holders.kill()
                begins = min(held.first_at for held in holders.held) + TTL_S
            time.sleep(max(0.0, begins + 1.0 - time.monotonic()))
            seen.append(Expiry(before, probe.look(begins, begins + 1.0)))
            time.sleep(SETTLE_S)
    left = sum(group.held for group in cluster.status().nodes[0].groups)
    return Expiring(count, seen, Spread.of(each.p99_ratio for each in seen), left)
