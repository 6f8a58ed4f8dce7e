"""Clients that cycle over names while nodes die; what they believed is judged afterwards (``history``).

Used by the tests with a few rounds, and by hand: ``python -m tests.integration.faults --rounds 10 --fault kill``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import holdfast
from holdfast.cluster import LocalCluster
from holdfast.errors import HoldfastError, LockLost
from tests.integration.history import History, now

CONNECTIONS = 8
CHECKED = 0.05
"""Part of the holds whose token is checked with the service while they last."""


@dataclass(slots=True)
class Report:
    history: History = field(default_factory=History)
    errors: Counter[str] = field(default_factory=Counter)
    instants: list[float] = field(default_factory=list)
    """When each fault was done."""
    began: float = 0.0
    ended: float = 0.0

    def gaps(self) -> list[float]:
        return self.history.gaps(self.began, self.ended, self.instants)

    def summary(self) -> dict[str, object]:
        gaps = self.gaps()
        return {
            "grants": len(self.history.holds),
            "faults": len(self.instants),
            "gap_median_s": round(statistics.median(gaps), 3) if gaps else None,
            "gap_max_s": round(max(gaps), 3) if gaps else None,
            "violations": self.history.violations(),
            "errors": dict(self.errors),
        }


async def _cycle(client: holdfast.Client, number: int, names: int, report: Report, stopping: asyncio.Event) -> None:
    chance = random.Random(number)
    while not stopping.is_set():
        lock = client.lock(f"name/{chance.randrange(names)}", ttl=10, wait=30)
        asked = now()
        try:
            await lock.acquire()
        except HoldfastError as error:
            report.errors[type(error).__name__] += 1
            continue
        hold = report.history.granted(number, lock.name, lock.token, asked)
        lost_at: list[float] = []
        lock.on_lost(partial(_note, lost_at))
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.02)
        if chance.random() < CHECKED:
            await _check(client, lock, hold.checked)
        try:
            hold.ended = lost_at[0] if lost_at else now()
            if not lost_at and not lock.held:
                # Belief ended between two looks: at the latest when remaining() began to say 0.
                hold.ended = hold.granted
            await lock.release()
        except LockLost:
            report.errors["LockLost"] += 1
        except HoldfastError as error:
            report.errors[f"release: {type(error).__name__}"] += 1


def _note(times: list[float], reason: holdfast.Reason) -> None:
    times.append(now())


async def _check(client: holdfast.Client, lock: holdfast.Lock, checked: list[tuple[float, bool]]) -> None:
    try:
        still = await client.check(lock.name, lock.token)
    except HoldfastError:
        return
    if lock.held:
        # Believed after the answer, so believed when it was made.
        checked.append((now(), still))


async def run(
    cluster: LocalCluster,
    fault: Callable[[LocalCluster, Report, int], Awaitable[None]],
    *,
    rounds: int,
    clients: int = 64,
    names: int = 500,
) -> Report:
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


async def _in_thread(call: Callable[..., object], *arguments: object) -> None:
    await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


def _leader_of(cluster: LocalCluster, number: int) -> int:
    groups = cluster.shape.groups
    return cluster.status().leaders()[1 + number % groups]


async def kill_leader(cluster: LocalCluster, report: Report, number: int) -> None:
    """kill -9 of the leader of one group after the other, and its restart."""
    node = await asyncio.get_running_loop().run_in_executor(None, _leader_of, cluster, number)
    report.instants.append(now())
    await _in_thread(cluster.kill, node)
    await asyncio.sleep(1.5)
    await _in_thread(cluster.restart, node)
    await _in_thread(cluster.ready)
    await asyncio.sleep(0.5)


async def stop_leader(cluster: LocalCluster, report: Report, number: int) -> None:
    """SIGSTOP of the leader for four seconds."""
    node = await asyncio.get_running_loop().run_in_executor(None, _leader_of, cluster, number)
    report.instants.append(now())
    cluster.kill(node, signal.SIGSTOP)
    await asyncio.sleep(4.0)
    cluster.kill(node, signal.SIGCONT)
    await _in_thread(cluster.ready)
    await asyncio.sleep(0.5)


async def term_leader(cluster: LocalCluster, report: Report, number: int) -> None:
    """TERM of the leader of one group after the other, as at an upgrade, and its restart."""
    node = await asyncio.get_running_loop().run_in_executor(None, _leader_of, cluster, number)
    report.instants.append(now())
    cluster.kill(node, signal.SIGTERM)
    while cluster.nodes[node].running():
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)
    await _in_thread(cluster.restart, node)
    await _in_thread(cluster.ready)
    await asyncio.sleep(0.5)


async def kill_all(cluster: LocalCluster, report: Report, number: int) -> None:
    """kill -9 of every node at once, then a restart of all from disk."""
    report.instants.append(now())
    for node in cluster.nodes:
        cluster.kill(node)
    for node in cluster.nodes:
        await _in_thread(cluster.restart, node)
    await _in_thread(cluster.ready)
    await asyncio.sleep(1.0)


FAULTS = {"kill": kill_leader, "term": term_leader, "stop": stop_leader, "all": kill_all}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--names", type=int, default=500)
    parser.add_argument("--fault", choices=sorted(FAULTS), default="kill")
    options = parser.parse_args()
    with LocalCluster() as cluster:
        report = asyncio.run(
            run(cluster, FAULTS[options.fault], rounds=options.rounds, clients=options.clients, names=options.names)
        )
        diverged = cluster.status().diverged()
    print(json.dumps({"fault": options.fault, **report.summary(), "diverged": diverged}, indent=1))
    raise SystemExit(bool(report.history.violations() or diverged))


if __name__ == "__main__":
    main()
