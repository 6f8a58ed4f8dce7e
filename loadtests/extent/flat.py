"""What a cycle costs beside ever more locks that are held, and over ever more groups."""

from __future__ import annotations

import time

import msgspec

from holdfast.bench import Mode, Report, Spec, measure
from holdfast.cluster import LocalCluster
from holdfast.cluster.forming import Shape

from ..spread import Spread
from .holders import Holders
from .usage import Cores, Usage, memory_mib

CONCURRENCY = 64
"""At all of the groups together where locks grow, at each of the groups where these do."""
HOLD_S = 24 * 3600.0
PROCESSES_PER_LOCKS = 250_000
SETTLE_S = 2.0


class Level(msgspec.Struct, frozen=True):
    """``of``: locks held, or groups. Processor time of all for a cycle."""

    of: int
    cpu_us: Spread | None
    cycles_per_s: Spread | None
    operations_per_entry: Spread | None
    leaders: dict[int, int]
    """Group -> node: where one node leads more than its part, commits are larger and cycles cheaper."""
    memory_mib: dict[str, float]


class Flat(msgspec.Struct, frozen=True):
    what: str
    levels: list[Level]
    again: Level | None = None
    """The first level once more at the end: how far the machine itself has moved."""

    @property
    def line(self) -> str:
        costs = ", ".join(f"{_median(level)} at {level.of:,}" for level in self.levels)
        if self.again is None:
            return f"CPU us for a cycle by {self.what}: {costs}"
        again = f"{self.again.of:,} again at the end {_median(self.again)}"
        moved = any(level.leaders != self.again.leaders for level in self.levels)
        doubt = "; LEADERS MOVED, which changes costs by itself: measure again" if moved else ""
        return f"CPU us for a cycle by {self.what}: {costs}; {again}{doubt}"


def _median(level: Level) -> str:
    return f"{level.cpu_us.median:.1f}" if level.cpu_us else "?"


def measured(cluster: LocalCluster, of: int, concurrency: int, repetitions: int, seconds: float) -> Level:
    spec = Spec(Mode.CYCLE, seconds, concurrency)
    reports: list[Report] = [
        measure(cluster.url, cluster.api_key, spec, operator_key=cluster.operator_key) for _ in range(repetitions)
    ]
    leaders = {group: node for group, node in sorted(cluster.status().leaders().items()) if group}
    return Level(
        of,
        Spread.of(report.cpu_us_per_cycle.total for report in reports),
        Spread.of(report.cycles_per_s for report in reports),
        Spread.of(report.work.operations_per_entry if report.work else None for report in reports),
        leaders,
        memory_mib(cluster),
    )


def by_locks(cluster: LocalCluster, levels: list[int], repetitions: int, seconds: float) -> Flat:
    """Locks with a lease of a day each, which nobody renews; levels ascending."""
    done, crowds, held = [], [], 0
    try:
        for level in levels:
            crowd = Holders(
                cluster, level - held, HOLD_S, first=held, processes=1 + (level - held) // PROCESSES_PER_LOCKS
            )
            crowds.append(crowd)
            crowd.__enter__()
            held = level
            time.sleep(SETTLE_S)
            done.append(measured(cluster, level, CONCURRENCY, repetitions, seconds))
        for crowd in crowds[1:]:
            crowd.let_go()
        time.sleep(SETTLE_S)
        return Flat("locks held", done, measured(cluster, levels[0], CONCURRENCY, repetitions, seconds))
    finally:
        for crowd in crowds:
            crowd.kill()


class Groups(msgspec.Struct, frozen=True):
    cost: Flat
    idle: dict[int, Cores]
    """By number of groups: processor time of a cluster that nobody uses."""
    idle_node: dict[int, float]
    """Of one node of it, in cores."""

    @property
    def line(self) -> str:
        idle = ", ".join(f"{100 * cores:.2f} % of a core with {groups}" for groups, cores in self.idle_node.items())
        return f"{self.cost.line}; an idle node: {idle}"


def by_groups(levels: list[int], repetitions: int, seconds: float, idle_s: float, nodes: int) -> Groups:
    """A cluster for each level, with ``CONCURRENCY`` for each group; before, it is left alone for ``idle_s``."""
    done, idle, idle_node = [], {}, {}
    for level in levels:
        with LocalCluster(shape=Shape(nodes, level, 3)) as cluster:
            time.sleep(SETTLE_S)
            usage = Usage(cluster)
            time.sleep(idle_s)
            idle[level] = usage.cores()
            idle_node[level] = round(idle[level].nodes / nodes, 5)
            done.append(measured(cluster, level, CONCURRENCY * level, repetitions, seconds))
    return Groups(Flat(f"groups over {nodes} nodes", done), idle, idle_node)
