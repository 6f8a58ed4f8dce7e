"""Holdfast as everybody starts it: three nodes, two groups of three replicas, every commit on disk, one router."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from holdfast.cluster import ClusterError, LocalCluster

from .peer import Kind, Peer, PeerFailed, Target

SDK = Kind("SDK", "holdfast_sdk")


class Holdfast(Peer):
    name = "holdfast"
    title = "Holdfast, 3 nodes, 2 groups"
    kinds = (SDK,)
    fails_over = SDK

    def start(self) -> None:
        self._cluster = LocalCluster(self.directory / "cluster")
        self._killed = 0
        self._do(self._cluster.start)

    def await_serving(self) -> None:
        self._do(lambda: self._cluster.ready(all_nodes=True))

    def target(self, kind: Kind) -> Target:
        return {"url": self._cluster.url, "api_key": self._cluster.api_key}

    def pids(self) -> list[int]:
        return list(self._cluster.pids.values())

    def kill_leader(self, number: int) -> None:
        group = 1 + number % self._cluster.shape.groups
        self._killed = self._cluster.status().leaders()[group]
        self._cluster.kill(self._killed)

    def restore(self) -> None:
        self._do(lambda: self._cluster.restart(self._killed))
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
