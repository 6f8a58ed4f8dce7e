"""Holdfast as everybody starts it: three nodes, two groups of three replicas, every commit on disk, one router."""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib.metadata import version

from holdfast.cluster import ClusterError, LocalCluster

from .peer import Fault, Kind, Peer, PeerFailed, Target

SDK = Kind("SDK", "holdfast_sdk")


class Holdfast(Peer):
    name = "holdfast"
    title = "Holdfast, 3 nodes, 2 groups"
    kinds = (SDK,)
    fails_over = SDK

    def start(self) -> None:
        self._cluster = LocalCluster(self.directory / "cluster")
        self._hurt = 0
        self._do(self._cluster.start)

    def await_serving(self) -> None:
        self._do(lambda: self._cluster.ready(all_nodes=True))

    def target(self, kind: Kind) -> Target:
        return {"url": self._cluster.url, "api_key": self._cluster.api_key}

    def pids(self) -> list[int]:
        return list(self._cluster.pids.values())

    def hurt_leader(self, number: int, fault: Fault) -> None:
        group = 1 + number % self._cluster.shape.groups
        self._hurt = self._cluster.status().leaders()[group]
        self._cluster.kill(self._hurt, signal.SIGKILL if fault is Fault.KILL else signal.SIGSTOP)

    def restore(self) -> None:
        if self._cluster.nodes[self._hurt].running():
            self._cluster.kill(self._hurt, signal.SIGCONT)
        else:
            self._do(lambda: self._cluster.restart(self._hurt))
        self.await_serving()

    def version(self) -> str:
        return version("holdfast")

    def stop(self) -> None:
        self._cluster.stop()
        super().stop()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ClusterError as error:
            raise PeerFailed(str(error)) from None
