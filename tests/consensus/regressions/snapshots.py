"""Snapshots: taken, sent, installed, restarted from."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from holdfast_shard.consensus import (
    installation,
)
from holdfast_shard.consensus.log import NO_OP, Log
from holdfast_shard.consensus.messages import (
    SnapshotChunk,
    decode,
    encode,
)
from tests.consensus.cluster import Cluster, Node
from tests.consensus.regressions.rows import (
    GROUP,
    others,
    patch,
    replica,
    row,
)
from tests.consensus.schedules import SMALL

# Snapshots.


def _laggard(seed: int = 3) -> tuple[Cluster, Node, Node]:
    """A follower that is down while the leader's log moves on behind a snapshot."""
    cluster = Cluster(3, seed=seed, config=SMALL)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    cluster.crash(late.number)
    for n in range(60):
        cluster.put(b"%d:" % n + bytes(400))
    assert replica(leader).log.first_index > replica(late).last_index
    return cluster, leader, late


def _damage(message: bytes) -> bytes:
    """Chunks whose own checksum is right and whose content is not."""
    bundle = decode(message)
    parts: list[Any] = []
    for part in bundle.messages:
        if isinstance(part, SnapshotChunk):
            data = bytes([part.data[0] ^ 0xFF]) + part.data[1:]
            part = msgspec.structs.replace(part, data=data, chunk_crc=zlib.crc32(data))
        parts.append(part)
    return encode(msgspec.structs.replace(bundle, messages=parts))


def _install_unseen(self: installation.Installation, arrival: Any) -> bool:
    arrival.writer.abort()
    return True


@row(
    "a damaged snapshot is not acknowledged",
    patch(installation.Installation, "verify_and_restore", _install_unseen),
)
def damaged_snapshot_changes_nothing() -> None:
    cluster, leader, late = _laggard()
    cluster.start(late.number)
    last = replica(late).last_index
    send = cluster.send

    def corrupt(source: int, target: int, message: bytes) -> None:
        send(source, target, _damage(message) if target == late.number else message)

    cluster.send = corrupt  # type: ignore[method-assign]
    cluster.run(2.0)
    assert replica(late).installation.refused > 0
    assert replica(late).last_index == last
    assert replica(leader).replication.match(late.number) <= last
    cluster.send = send  # type: ignore[method-assign]
    cluster.settle()
    assert replica(late).installation.installed == 1


@row(
    "a damaged chunk is asked for again",
    patch(installation.Installation, "chunk_is_whole", lambda self, message: True),
)
def damaged_chunk_is_repeated() -> None:
    cluster, _, late = _laggard()
    cluster.start(late.number)
    send = cluster.send
    damaged = 0

    def corrupt(source: int, target: int, message: bytes) -> None:
        nonlocal damaged
        bundle = decode(message)
        if target == late.number and damaged < 3:
            for part in bundle.messages:
                if isinstance(part, SnapshotChunk) and damaged < 3:
                    damaged += 1
                    part.data = bytes(len(part.data))
        send(source, target, encode(bundle))

    cluster.send = corrupt  # type: ignore[method-assign]
    cluster.settle()
    assert damaged == 3
    assert replica(late).installation.refused == 0


@row(
    "an older snapshot is not installed",
    patch(installation.Installation, "not_newer", lambda self, message: False),
)
def older_snapshot_is_refused() -> None:
    cluster, leader, late = _laggard()
    cluster.start(late.number)
    cluster.settle()
    snapshot = replica(leader).compaction.snapshot
    assert snapshot is not None
    cluster.put(b"newer than the snapshot")
    cluster.settle()
    before = list(cluster.machine(late.number).rows)
    data = snapshot.read(0, snapshot.size)
    chunk = SnapshotChunk(
        GROUP, replica(leader).term, snapshot.index, snapshot.term, snapshot.size, snapshot.crc, 0,
        zlib.crc32(data), data,
    )  # fmt: skip
    replica(late).receive(leader.number, chunk, cluster.now)
    assert cluster.machine(late.number).rows == before
    cluster.run(0.5)
    cluster.put(b"goes on")
    cluster.settle()


def _cleared_unless_exact(self: Log, entries: list[Any], index: int, term: int) -> list[Any]:
    """As the library does: a journal that keeps a tail behind the snapshot is cleared."""
    exact = bool(entries) and entries[0][1] == index
    return entries if exact else [(NO_OP, index, term)]


@row("a tail behind the snapshot survives a restart", patch(Log, "_aligned", _cleared_unless_exact))
def kept_tail_survives_restart_of_all() -> None:
    cluster = Cluster(3, config=SMALL)
    for n in range(60):
        cluster.put(b"%d:" % n + bytes(400))
    cluster.settle()
    snapshot = replica(cluster.nodes[1]).compaction.snapshot
    assert snapshot is not None
    assert replica(cluster.nodes[1]).log.first_index < snapshot.index < replica(cluster.nodes[1]).last_index
    for number in cluster.nodes:
        cluster.crash(number)
    for number in cluster.nodes:
        cluster.start(number)
    cluster.put(b"after", limit_s=20)
    cluster.settle()
    assert len(cluster.machine(1).payloads()) == 61


@row("the commit index starts at the snapshot's", patch(Log, "getRaftCommitIndex", lambda self: 1))
def commit_index_starts_at_the_snapshot() -> None:
    cluster = Cluster(3, config=SMALL)
    for n in range(60):
        cluster.put(b"%d:" % n + bytes(400))
    cluster.settle()
    cluster.crash(1)
    node = cluster.start(1)
    snapshot = replica(node).compaction.snapshot
    assert snapshot is not None
    assert replica(node).engine.commit_index == snapshot.index == replica(node).engine.applied_index
