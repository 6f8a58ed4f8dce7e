"""A million locks held: that it works, snapshots included, and how long anybody has to wait meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import msgspec

from holdfast.cluster import LocalCluster

from .holders import Holders
from .probe import Look, Probe
from .usage import memory_mib

PER_SESSION = 1000
TTL_S = 30.0
PROCESSES = 4
PRESSURE = 16
PRESSURE_BYTES = 1000
"""Metadata of the locks that are cycled to fill the log, so that a snapshot of everything becomes due."""
SNAPSHOT_S_MAX = 120.0
QUIET_S = 5.0

_SNAPSHOT = re.compile(r"snapshot-(\d+)-([0-9a-f]{16})\.snap")


class Million(msgspec.Struct, frozen=True):
    """``empty``, ``filling``, ``held``, ``pressed``: a probe of one lock at a time before anything is held, while the
    locks are acquired, while they are only kept, and while the log fills until every replica has written a snapshot of
    all; ``pressed_empty``: under the same load before anything was held."""

    locks: int
    seconds_to_acquire: float
    still_held: int
    snapshots: int
    """Written by all replicas while all locks were held."""
    snapshot_mib: float
    """The largest."""
    empty: Look
    pressed_empty: Look
    filling: Look
    held: Look
    pressed: Look
    memory_mib: dict[str, float]

    @property
    def line(self) -> str:
        pauses = {"filling": self.filling, "held": self.held, "snapshots": self.pressed}
        said = ", ".join(f"{name} {look.pause_ms:g} ms" for name, look in pauses.items())
        empty = f"nothing held: {self.empty.pause_ms:g} ms, under the same load {self.pressed_empty.pause_ms:g} ms"
        return (
            f"{self.locks:,} locks held, acquired in {self.seconds_to_acquire:g} s; {self.snapshots} snapshots up to "
            f"{self.snapshot_mib:g} MiB; {self.still_held:,} still held; longest without an answer: {said} ({empty})"
        )


def _snapshots(cluster: LocalCluster) -> dict[tuple[str, str], tuple[str, int]]:
    """(node, group) -> (index, bytes) of the newest, of groups that hold locks."""
    found: dict[tuple[str, str], tuple[str, int]] = {}
    for path in cluster.directory.glob("node-*/snapshot-*.snap"):
        named = _SNAPSHOT.fullmatch(path.name)
        if named is not None and named[1] != "0":
            at = (path.parent.name, named[1])
            found[at] = max(found.get(at, ("", 0)), (named[2], path.stat().st_size))
    return found


def _wait(enough: Callable[[], bool], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not enough() and time.monotonic() < deadline:
        time.sleep(0.1)


def million(cluster: LocalCluster, count: int) -> Million:
    """Through sessions of ``PER_SESSION`` locks each."""
    replicas = cluster.shape.groups * cluster.shape.replicas
    with Probe(cluster) as probe:
        time.sleep(1.0)
        empty = probe.watch(QUIET_S)
        with Probe(cluster, PRESSURE, metadata=PRESSURE_BYTES, name="pressure"):
            pressed_empty = probe.watch(QUIET_S)
        began = time.monotonic()
        with Holders(cluster, count, TTL_S, processes=PROCESSES, per_session=PER_SESSION) as holders:
            filling = probe.look(began, time.monotonic())
            held = probe.watch(2 * QUIET_S)
            before, began = _snapshots(cluster), time.monotonic()

            def renewed() -> int:
                return sum(before.get(at) != now for at, now in _snapshots(cluster).items())

            with Probe(cluster, PRESSURE, metadata=PRESSURE_BYTES, name="pressure"):
                # The next ones may have been begun before all was held: the second of each is of everything.
                _wait(lambda: renewed() == replicas, SNAPSHOT_S_MAX)
                pressed = probe.look(began, time.monotonic())
            written, memory, took_s = renewed(), memory_mib(cluster), holders.took_s
            largest = max((size for _, size in _snapshots(cluster).values()), default=0)
            still = holders.let_go()
    return Million(
        count, took_s, still, written, round(largest / 2**20, 1), empty, pressed_empty, filling, held, pressed, memory
    )
