"""Nodes on links of their own, which can be cut both ways or one way; needs root, and Linux.

Each node runs in a network namespace; a link is cut where packets are sent (a blackhole route), so that one direction
can fail alone. By hand: ``python -m tests.integration.links --rounds 5 --fault both``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable

from holdfast.cluster import LocalCluster

from .faults import Report, run
from .history import now

OWN = os.getpid() % 100_000
"""In the names of links, so that two test processes do not meet."""
NETWORK = f"10.213.{OWN % 250}"
NODE_PORT = 7001
BRIDGE = f"hf{OWN}b"
CUT_S = 4.0


def possible() -> bool:
    """Whether this process may make namespaces and bridges."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    done = subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], capture_output=True, check=False)
    if done.returncode == 0:
        _ip("link", "del", BRIDGE)
    return done.returncode == 0


class SeparatedCluster(LocalCluster):
    """As :class:`LocalCluster`, of three nodes; only one at a time in a process."""

    def start(self, timeout_s: float = 30.0) -> None:
        self._unmake()
        try:
            self._make()
        except BaseException:
            self._unmake()
            raise
        super().start(timeout_s)

    def stop(self) -> None:
        super().stop()
        self._unmake()

    def node_addresses(self, count: int) -> list[str]:
        return [f"{NETWORK}.{number}:{NODE_PORT}" for number in range(1, count + 1)]

    def node_prefix(self, number: int) -> list[str]:
        return ["ip", "netns", "exec", _space(number)]

    def cut(self, source: int, target: int) -> None:
        """What ``source`` sends to ``target`` is lost from now on."""
        _ip("-n", _space(source), "route", "replace", "blackhole", f"{NETWORK}.{target}/32")

    def mend(self, source: int, target: int) -> None:
        _ip("-n", _space(source), "route", "del", "blackhole", f"{NETWORK}.{target}/32")

    def cut_router(self, number: int) -> None:
        """The router and this node lose what they send to each other; nodes still hear nodes."""
        _ip("route", "replace", "blackhole", f"{NETWORK}.{number}/32")
        _ip("-n", _space(number), "route", "replace", "blackhole", f"{NETWORK}.254/32")

    def mend_router(self, number: int) -> None:
        _ip("route", "del", "blackhole", f"{NETWORK}.{number}/32")
        _ip("-n", _space(number), "route", "del", "blackhole", f"{NETWORK}.254/32")

    def _numbers(self) -> range:
        return range(1, 4)

    def _make(self) -> None:
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for number in self._numbers():
            name, inside, outside = _space(number), f"hf{OWN}i{number}", _outside(number)
            _ip("netns", "add", name)
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            _ip("link", "set", inside, "netns", name)
            _ip("link", "set", outside, "master", BRIDGE, "up")
            _ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", inside)
            _ip("-n", name, "link", "set", inside, "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def _unmake(self) -> None:
        for number in self._numbers():
            _ip("route", "del", "blackhole", f"{NETWORK}.{number}/32", check=False)
            _ip("netns", "del", _space(number), check=False)
            _ip("link", "del", _outside(number), check=False)
        _ip("link", "del", BRIDGE, check=False)


def _space(number: int) -> str:
    return f"hf{OWN}-{number}"


def _outside(number: int) -> str:
    return f"hf{OWN}o{number}"


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def both_ways(leader: int, peer: int) -> list[tuple[int, int]]:
    """The leader neither hears its peers nor is heard by them."""
    return [(leader, peer), (peer, leader)]


def unheard(leader: int, peer: int) -> list[tuple[int, int]]:
    """The leader hears its peers, but they do not hear it."""
    return [(leader, peer)]


def deaf(leader: int, peer: int) -> list[tuple[int, int]]:
    """The peers hear the leader, but it does not hear them."""
    return [(peer, leader)]


FAULTS = {"both": both_ways, "unheard": unheard, "deaf": deaf}


def cutting(
    links: Callable[[int, int], list[tuple[int, int]]],
) -> Callable[[LocalCluster, Report, int], Awaitable[None]]:
    """A fault for :func:`tests.integration.faults.run`: the leader of one group after the other, for four seconds."""

    async def fault(cluster: LocalCluster, report: Report, number: int) -> None:
        assert isinstance(cluster, SeparatedCluster)
        leader = (await asyncio.to_thread(cluster.status)).leaders()[1 + number % cluster.shape.groups]
        peers = cluster.nodes.keys() - {leader}
        links_cut = list(itertools.chain.from_iterable(links(leader, peer) for peer in peers))
        report.instants.append(now())
        for source, target in links_cut:
            cluster.cut(source, target)
        await asyncio.sleep(CUT_S)
        for source, target in links_cut:
            cluster.mend(source, target)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(cluster.ready)
        await asyncio.sleep(1.0)

    return fault


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--names", type=int, default=500)
    parser.add_argument("--fault", choices=sorted(FAULTS), default="both")
    options = parser.parse_args()
    with SeparatedCluster() as cluster:
        fault = cutting(FAULTS[options.fault])
        report = asyncio.run(run(cluster, fault, rounds=options.rounds, clients=options.clients, names=options.names))
        diverged = cluster.status().diverged()
    print(json.dumps({"fault": options.fault, **report.summary(), "diverged": diverged}, indent=1))
    raise SystemExit(bool(report.history.violations() or diverged))


if __name__ == "__main__":
    main()
