"""How long nobody is granted anything while nodes die or lose their links, measured by many clients in one process.

``python -m tests.chaos.failover --rounds 10 --fault kill``. One fault at a time, aimed at the leader of one group after
the other; the history is judged as in a whole run. The tests use it with a round or two.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import signal
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import holdfast
from holdfast.cluster import LocalCluster
from holdfast.errors import HoldfastError

from .cluster import ChaosCluster
from .events import now
from .history import History
from .judge import violations
from .link_faults import both_ways, deaf, unheard
from .network import Network
from .recorder import Recorder, Wish

CONNECTIONS = 8
CHECKED = 0.05
"""Part of the holds whose token is checked with the service while they last."""
STOP_S = 4.0


@dataclass(slots=True)
class Report:
    history: History = field(default_factory=History)
    instants: list[float] = field(default_factory=list)
    """When each fault was done."""
    began: float = 0.0
    ended: float = 0.0

    def gaps(self) -> list[float]:
        return self.history.gaps(self.began, self.ended, self.instants)

    def errors(self) -> Counter[str]:
        return self.history.errors()

    def violations(self) -> list[str]:
        return violations(self.history)

    def summary(self) -> dict[str, object]:
        gaps = self.gaps()
        return {
            "grants": self.history.grants(),
            "faults": len(self.instants),
            "gap_median_s": round(statistics.median(gaps), 3) if gaps else None,
            "gap_max_s": round(max(gaps), 3) if gaps else None,
            "violations": self.violations(),
            "errors": dict(self.errors()),
        }


Fault = Callable[[LocalCluster, Report, int], Awaitable[None]]
"""Its number says which group's leader it is aimed at."""


async def _cycle(client: holdfast.Client, number: int, names: int, report: Report, stopping: asyncio.Event) -> None:
    chance = random.Random(number)
    recorder = Recorder(f"{number}", report.history)
    while not stopping.is_set():
        try:
            grant = await recorder.acquire(client, Wish(f"name/{chance.randrange(names)}"))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.02)
            if chance.random() < CHECKED:
                await recorder.check(client, grant)
            await recorder.release(grant)
        except HoldfastError:
            pass  # is in the history


async def run(cluster: LocalCluster, fault: Fault, *, rounds: int, clients: int = 64, names: int = 500) -> Report:
    """Run ``fault`` that many times under load; the load ends when it is over and everybody has come to an end."""
    report = Report()
    stopping = asyncio.Event()
    connections = [
        await holdfast.connect(cluster.url, cluster.api_key, timeout=10) for _ in range(min(CONNECTIONS, clients))
    ]
    report.began = now()
    tasks = [
        asyncio.create_task(_cycle(connections[number % len(connections)], number, names, report, stopping))
        for number in range(clients)
    ]
    try:
        await asyncio.sleep(1.0)
        for number in range(rounds):
            await fault(cluster, report, number)
    finally:
        stopping.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        report.ended = now()
        for connection in connections:
            await connection.close()
    return report


async def _leader(cluster: LocalCluster, number: int) -> int:
    return (await asyncio.to_thread(cluster.status)).leaders()[1 + number % cluster.shape.groups]


async def _ready(cluster: LocalCluster) -> None:
    await asyncio.to_thread(cluster.ready)
    await asyncio.sleep(0.5)


async def kill_leader(cluster: LocalCluster, report: Report, number: int) -> None:
    """kill -9, and its restart."""
    node = await _leader(cluster, number)
    report.instants.append(now())
    await asyncio.to_thread(cluster.kill, node)
    await asyncio.sleep(1.5)
    await asyncio.to_thread(cluster.restart, node)
    await _ready(cluster)


async def stop_leader(cluster: LocalCluster, report: Report, number: int) -> None:
    """SIGSTOP for four seconds."""
    node = await _leader(cluster, number)
    report.instants.append(now())
    cluster.kill(node, signal.SIGSTOP)
    await asyncio.sleep(STOP_S)
    cluster.kill(node, signal.SIGCONT)
    await _ready(cluster)


async def term_leader(cluster: LocalCluster, report: Report, number: int) -> None:
    """TERM, as at an upgrade, and its restart."""
    node = await _leader(cluster, number)
    report.instants.append(now())
    cluster.kill(node, signal.SIGTERM)
    while cluster.nodes[node].running():
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(cluster.restart, node)
    await _ready(cluster)


async def kill_all(cluster: LocalCluster, report: Report, number: int) -> None:
    """kill -9 of every node at once, then a restart of all from disk."""
    report.instants.append(now())
    for node in cluster.nodes:
        cluster.kill(node)
    for node in cluster.nodes:
        await asyncio.to_thread(cluster.restart, node)
    await _ready(cluster)
    await asyncio.sleep(0.5)


def cutting(links: Callable[[int, int], list[tuple[int, int]]]) -> Fault:
    """The leader's links to its peers are cut for four seconds; needs a cluster with links."""

    async def fault(cluster: LocalCluster, report: Report, number: int) -> None:
        assert isinstance(cluster, ChaosCluster)
        assert cluster.links is not None
        leader = await _leader(cluster, number)
        peers = cluster.nodes.keys() - {leader}
        cut = list(itertools.chain.from_iterable(links(leader, peer) for peer in peers))
        report.instants.append(now())
        for source, target in cut:
            cluster.links.cut(source, target)
        await asyncio.sleep(STOP_S)
        for source, target in cut:
            cluster.links.mend(source, target)
        await asyncio.sleep(2.0)
        await _ready(cluster)
        await asyncio.sleep(0.5)

    return fault


FAULTS = {"kill": kill_leader, "term": term_leader, "stop": stop_leader, "all": kill_all}
CUTS = {"both": cutting(both_ways), "unheard": cutting(unheard), "deaf": cutting(deaf)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--names", type=int, default=500)
    parser.add_argument("--fault", choices=sorted(FAULTS | CUTS), default="kill")
    options = parser.parse_args()
    fault = (FAULTS | CUTS)[options.fault]
    with ChaosCluster(links=Network(3) if options.fault in CUTS else None) as cluster:
        report = asyncio.run(run(cluster, fault, rounds=options.rounds, clients=options.clients, names=options.names))
        diverged = cluster.status().diverged()
    summary = report.summary()
    print(json.dumps({"fault": options.fault, **summary, "diverged": diverged}, indent=1))
    raise SystemExit(bool(summary["violations"] or diverged))


if __name__ == "__main__":
    main()
