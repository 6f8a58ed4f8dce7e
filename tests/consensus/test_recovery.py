"""Restart from disk, snapshots, and catching up."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from holdfast_shard.consensus import Host, LogDamaged, ReplicaConfig
from holdfast_shard.consensus.compaction import CHUNKS_PER_STEP
from holdfast_shard.consensus.journal import Journal
from holdfast_shard.consensus.log import Log
from holdfast_shard.consensus.messages import Append, decode
from holdfast_shard.consensus.recovery import RecoveredGroup
from holdfast_shard.consensus.snapshots import SnapshotStore
from tests.consensus.cluster import Cluster, Node, Recorder
from tests.consensus.schedules import SMALL
from tests.simulation.disk import SimDisk


def others(cluster: Cluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes.values() if other is not node]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("power", [True, False])
def test_all_nodes_killed_at_once_lose_nothing(seed: int, power: bool) -> None:
    cluster = Cluster(3, seed=seed)
    for n in range(20):
        cluster.put(b"%d" % n)
    for _ in range(3):
        for number in cluster.nodes:
            cluster.crash(number, power=power)
        for number in cluster.nodes:
            cluster.start(number)
        cluster.elect()
        cluster.settle()
    assert cluster.machine(2).payloads() == [b"%d" % n for n in range(20)]


def test_a_node_restarted_under_load_catches_up() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    other = others(cluster, leader)[0]
    cluster.put(b"0")
    cluster.crash(other.number)
    for n in range(1, 50):
        cluster.put(b"%d" % n)
    cluster.start(other.number)
    for n in range(50, 60):
        cluster.put(b"%d" % n)
    cluster.settle()
    assert cluster.machine(other.number).payloads() == [b"%d" % n for n in range(60)]


def test_the_log_is_compacted_under_load_and_its_memory_bounded() -> None:
    cluster = Cluster(3, config=SMALL)
    largest = 0
    for n in range(300):
        cluster.put(b"%d:" % n + bytes(400))
        largest = max(largest, *(node.host.replicas[1].log.size_bytes for node in cluster.alive()))
    assert all(node.host.replicas[1].compaction.taken >= 3 for node in cluster.alive())
    snapshot = cluster.nodes[1].host.replicas[1].compaction.snapshot
    assert snapshot is not None
    assert largest < SMALL.kept_tail_bytes + 2 * max(SMALL.snapshot_log_bytes, snapshot.size)
    cluster.crash(1)
    node = cluster.start(1)
    assert node.host.replicas[1].applied_index == snapshot.index
    cluster.settle()
    assert len(cluster.machine(1).payloads()) == 300


def test_a_laggard_catches_up_by_snapshot_under_load() -> None:
    cluster = Cluster(3, config=SMALL)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    cluster.put(b"0")
    cluster.crash(late.number)
    for n in range(80):
        cluster.put(b"%d:" % n + bytes(400))
    assert leader.host.replicas[1].log.first_index > late.host.replicas[1].last_index
    cluster.start(late.number)
    for n in range(80, 160):
        leader.host.propose(1, b"%d:" % n + bytes(400), cluster.now)
        cluster.run(0.002)
    cluster.settle()
    assert late.host.replicas[1].installation.installed >= 1
    assert cluster.machine(late.number).rows == cluster.machine(leader.number).rows
    # It stands on its own disk afterwards.
    cluster.crash(late.number)
    cluster.start(late.number)
    cluster.settle()
    assert cluster.machine(late.number).rows == cluster.machine(leader.number).rows


def test_a_snapshot_transfer_goes_on_over_lost_chunks_and_reconnects() -> None:
    cluster = Cluster(3, config=SMALL)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    cluster.crash(late.number)
    for n in range(150):
        cluster.put(b"%d:" % n + bytes(400))
    cluster.loss = 0.2
    cluster.start(late.number)
    for _ in range(10):
        cluster.run(0.02)
        cluster.disconnect(leader.number, late.number)
        cluster.connect(leader.number, late.number)
    cluster.loss = 0.0
    cluster.settle()
    assert cluster.machine(late.number).rows == cluster.machine(leader.number).rows


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_at_any_point_of_an_installation_is_survived(seed: int) -> None:
    cluster = Cluster(3, seed=seed, config=SMALL)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    cluster.crash(late.number)
    for n in range(80):
        cluster.put(b"%d:" % n + bytes(400))
    rng = random.Random(seed)
    for _ in range(4):
        cluster.start(late.number)
        cluster.run(rng.uniform(0.0, 0.05))
        cluster.crash(late.number)
    cluster.start(late.number)
    cluster.settle()
    assert cluster.machine(late.number).rows == cluster.machine(leader.number).rows


class Fussy(Recorder):
    """Takes no snapshot from outside while told so."""

    refusing = False

    def restore(self, chunks: Iterable[bytes]) -> None:
        if self.refusing:
            raise ValueError("from a newer release")
        super().restore(chunks)


def test_a_snapshot_that_cannot_be_loaded_changes_nothing() -> None:
    cluster = Cluster(3, config=SMALL)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    cluster.crash(late.number)
    for n in range(60):
        cluster.put(b"%d:" % n + bytes(400))
    fussy = Fussy()
    fussy.refusing = True
    cluster.start(late.number, machine=fussy)
    last = late.host.replicas[1].last_index
    cluster.run(2.0)
    assert late.host.replicas[1].last_index == last
    assert late.host.replicas[1].installation.refused > 0
    assert leader.host.replicas[1].replication.match(late.number) <= last
    fussy.refusing = False
    cluster.settle()
    assert cluster.machine(late.number).rows == cluster.machine(leader.number).rows


def test_a_snapshot_under_way_is_given_up_when_another_is_installed() -> None:
    """What it would show is no longer the state that the log goes on from."""
    cluster = Cluster(3, config=SMALL)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    for n in range(CHUNKS_PER_STEP + 5):
        cluster.put(b"%d" % n)
    cluster.settle()
    cluster.machine(late.number).rows_per_chunk = 1
    job = late.host.replicas[1].compaction.begin()
    assert job is not None
    assert not job.step(0.0)
    cluster.partition(late.number)
    for n in range(100, 180):
        cluster.put(b"%d:" % n + bytes(400))
    cluster.heal()
    cluster.settle()
    assert late.host.replicas[1].installation.installed == 1
    assert job.step(0.0), "there is nothing left to do"
    assert [name for name in late.disk.names() if name.endswith(".tmp")] == []
    assert cluster.machine(late.number).rows == cluster.machine(leader.number).rows
    cluster.crash(late.number)
    cluster.start(late.number)
    cluster.settle()
    assert cluster.machine(late.number).rows == cluster.machine(leader.number).rows


def test_a_snapshot_shows_one_moment_while_entries_are_applied() -> None:
    cluster = Cluster(1, config=ReplicaConfig(snapshot_log_bytes=10_000))
    cluster.snapshot_jobs = False
    node = cluster.elect()
    cluster.machine(1).rows_per_chunk = 1
    while not (jobs := node.host.take_snapshot_jobs()):
        cluster.put(bytes(200))
    index = node.host.replicas[1].applied_index
    while not jobs[0].step(0.0):
        cluster.put(b"meanwhile")
    cluster.put(b"later")
    snapshot = node.host.replicas[1].compaction.snapshot
    assert snapshot is not None
    assert index - 1 <= snapshot.index <= index < node.host.replicas[1].applied_index - 1
    copy = Recorder()
    copy.restore(snapshot.chunks())
    assert copy.rows == [row for row in cluster.machine(1).rows if row[0] <= snapshot.index]


@pytest.mark.parametrize("steps", [0, 1])
def test_a_crash_while_a_snapshot_is_written_loses_nothing(steps: int) -> None:
    cluster = Cluster(1, config=ReplicaConfig(snapshot_log_bytes=10_000, kept_tail_bytes=1_000))
    cluster.snapshot_jobs = False
    node = cluster.elect()
    cluster.machine(1).rows_per_chunk = 1
    count = 0
    while not (jobs := node.host.take_snapshot_jobs()):
        cluster.put(b"%d:" % count + bytes(200))
        count += 1
    for _ in range(steps):
        assert not jobs[0].step(0.0)
    cluster.put(b"meanwhile")
    cluster.crash(1)
    cluster.start(1)
    cluster.elect()
    cluster.settle()
    assert len(cluster.machine(1).payloads()) == count + 1


def test_a_gap_between_snapshot_and_journal_refuses_to_start() -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk)
    journal.append_vote(1, 3, None)
    for index in range(10, 13):
        journal.append_entry(1, index, 3, b"\0x")
    journal.flush()
    journal.sync()
    journal, recovered = Journal.open(disk)
    with pytest.raises(LogDamaged, match="begins at 10"):
        Host(
            node=1,
            members={1: [1]},
            machines={1: Recorder()},
            journal=journal,
            recovered=recovered,
            snapshots={1: SnapshotStore(disk, 1)},
            rng=random.Random(1),
            config=ReplicaConfig(),
            now=0.0,
        )


def test_a_term_and_a_vote_outlive_the_process() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    votes = {n: (node.host.replicas[1].term, node.host.replicas[1].log.voted_for) for n, node in cluster.nodes.items()}
    assert votes[leader.number][1] == leader.number
    for number in cluster.nodes:
        cluster.crash(number)
    for number in cluster.nodes:
        node = cluster.start(number)
        assert (node.host.replicas[1].term, node.host.replicas[1].log.voted_for) == votes[number]


def test_an_apply_that_raises_stops_the_node_and_repeats_nothing() -> None:
    class Poisoned(Recorder):
        def apply(self, index: int, term: int, payload: bytes | None) -> object:
            super().apply(index, term, payload)
            if payload == b"poison":
                raise RuntimeError("a bug")
            return None

    cluster = Cluster(1)
    cluster.crash(1)
    machine = Poisoned()
    node = cluster.start(1, machine=machine)
    cluster.elect()
    node.host.propose(1, b"poison", cluster.now)
    with pytest.raises(RuntimeError):
        cluster.run(1.0)
    assert node.host.halted
    assert machine.payloads() == [b"poison"]


def test_what_leaves_the_log_while_a_follower_is_asked_is_sent_as_a_snapshot() -> None:
    cluster = Cluster(3, config=SMALL)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    cluster.put(b"0")
    cluster.settle()
    cluster.filter = lambda source, target, message: (
        target != late.number or not any(isinstance(part, Append) for part in decode(message).messages)
    )
    cluster.disconnect(leader.number, late.number)
    cluster.connect(leader.number, late.number)
    for n in range(60):
        cluster.put(b"%d:" % n + bytes(400))
    assert leader.host.replicas[1].log.first_index > late.host.replicas[1].last_index
    cluster.filter = None
    cluster.settle()
    assert late.host.replicas[1].installation.installed == 1


def test_an_older_snapshot_than_the_one_that_entries_were_let_go_for_refuses_to_start() -> None:
    journal, _ = Journal.open(SimDisk())
    with pytest.raises(LogDamaged, match="let go"):
        Log(1, journal, RecoveredGroup(term=1, released=50), (10, 1))
    assert Log(1, journal, RecoveredGroup(term=1, released=50), (50, 1)).first_index == 50
