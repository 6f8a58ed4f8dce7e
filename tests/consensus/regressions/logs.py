"""The log: what is committed, appended, truncated, sent and applied."""

from __future__ import annotations

import msgspec

from holdfast_shard.consensus import (
    NotLeader,
    ReplicaConfig,
    ReplicaHalted,
    Role,
    following,
    replication,
)
from holdfast_shard.consensus.application import Application
from holdfast_shard.consensus.messages import (
    Append,
    RequestVote,
    SnapshotChunk,
)
from holdfast_shard.consensus.replica import Replica
from tests.consensus.cluster import Cluster, Node
from tests.consensus.regressions.rows import (
    GROUP,
    of_kind,
    others,
    patch,
    raises,
    replica,
    resent,
    row,
    without,
)

# S1: commit without matching.


@row("commit only what was matched", patch(following.Following, "committable", lambda self, term, commit: commit))
def heartbeat_commits_no_unmatched_tail() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.put(b"base")
    cluster.settle()
    cluster.isolate(old.number)
    for _ in range(4):
        old.host.propose(GROUP, b"lost", cluster.now)
    cluster.run_until(lambda: replica(old).role is not Role.LEADER)
    cluster.run_until(lambda: any(replica(node).ready for node in others(cluster, old)))
    for n in range(8):
        cluster.put(b"kept%d" % n)
    cluster.filter = without((Append, SnapshotChunk), old.number)
    cluster.heal()
    cluster.run(1.0)
    assert b"lost" not in cluster.machine(old.number).payloads()
    cluster.filter = None
    cluster.settle()
    assert b"lost" not in cluster.machine(old.number).payloads()


# S2: truncation.


def _follower_ahead() -> tuple[Cluster, Node, Node]:
    """A follower that holds five entries which it does not know to be committed."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    for n in range(5):
        leader.host.propose(GROUP, b"v%d" % n, cluster.now)
    cluster.run_until(lambda: replica(leader).commit_index == replica(leader).last_index)
    follower = others(cluster, leader)[0]
    assert replica(follower).last_index == replica(leader).last_index
    assert replica(follower).commit_index < replica(follower).last_index - 2
    return cluster, leader, follower


@row("a shorter append truncates nothing", patch(following.Following, "matching", lambda self, message, after: 0))
def shorter_append_truncates_nothing() -> None:
    cluster, leader, follower = _follower_ahead()
    last = replica(follower).last_index
    replica(follower).receive(leader.number, resent(leader, last - 5, last - 2), cluster.now)
    assert replica(follower).last_index == last
    assert replica(follower).durability.index == last


@row("nothing committed is truncated", patch(following.Following, "would_undo", lambda self, match: False))
def committed_entries_are_never_truncated() -> None:
    cluster, leader, follower = _follower_ahead()
    cluster.settle()
    last = replica(follower).last_index
    forged = Append(
        GROUP, replica(leader).term, 2, replica(leader).log.entry(2)[2], 2, [(replica(leader).term, b"\0x")]
    )
    term = replica(leader).term
    forged = msgspec.structs.replace(forged, term=term + 1, entries=[(term + 1, b"\0x")])
    try:
        replica(follower).receive(leader.number, forged, cluster.now)
    except ReplicaHalted as error:
        raise AssertionError("halted instead of refusing") from error
    assert replica(follower).last_index == last
    assert replica(follower).following.refused == 1


def _next_moves_back(progress: replication.Progress, index: int) -> None:
    """As the library does: an acknowledgement sets next to what it names."""
    progress.match = max(progress.match, index)
    progress.next = index + 1
    progress.in_flight.clear()
    progress.in_flight_bytes = 0


@row("pipelined entries are sent once", patch(replication.Progress, "acknowledged", _next_moves_back))
def pipelining_sends_each_entry_once() -> None:
    cluster = Cluster(3, delay_s=0.002)
    leader = cluster.elect()
    cluster.settle()
    sent = 0

    def count(source: int, target: int, message: bytes) -> bool:
        nonlocal sent
        sent += sum(len(append.entries) for append in of_kind(message, Append))
        return True

    cluster.filter = count
    for n in range(100):
        for _ in range(8):
            leader.host.propose(GROUP, b"p%d" % n, cluster.now)
        cluster.run(0.0005)
    cluster.settle()
    assert 1600 <= sent <= 1650, sent


@row("a returning follower gets a window", patch(replication.Replication, "window_open", lambda self, progress: True))
def backlog_is_sent_in_windows() -> None:
    config = ReplicaConfig(inflight_bytes=1 << 20, append_bytes=256 << 10)
    cluster = Cluster(3, config=config)
    leader = cluster.elect()
    late = others(cluster, leader)[0]
    cluster.crash(late.number)
    for _ in range(40):
        for _ in range(25):
            leader.host.propose(GROUP, bytes(10_000), cluster.now)
        cluster.run(0.02)
    cluster.start(late.number)
    turn = (0.0, 0)
    worst = 0

    def measure(source: int, target: int, message: bytes) -> bool:
        nonlocal turn, worst
        if target == late.number:
            turn = (cluster.now, len(message) + (turn[1] if turn[0] == cluster.now else 0))
            worst = max(worst, turn[1])
        return True

    cluster.filter = measure
    cluster.settle()
    assert worst < 2 << 20, worst


# Entries and proposals.


@row("only plain entries and no-ops are accepted", patch(following, "known_type", lambda command: True))
def membership_and_version_entries_are_refused() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    follower = others(cluster, leader)[0]
    log = replica(follower).log
    last, term = log.last_index, replica(leader).term
    for command in (b"\x02(dp0", b"\x03I1\n.", b"", b"\x01x", b"\xff"):
        replica(follower).receive(
            leader.number, Append(GROUP, term, last, log.last_term, 0, [(term, command)]), cluster.now
        )
    assert replica(follower).last_index == last
    assert replica(follower).following.refused == 5


@row("only a leader proposes", patch(Replica, "may_propose", lambda self, payload: None))
def nothing_is_queued_for_another_term() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    follower = others(cluster, leader)[0]
    last = replica(follower).last_index
    assert raises(NotLeader, lambda: follower.host.propose(GROUP, b"ghost", cluster.now))
    assert replica(follower).last_index == last
    # A leader deposed before its turn has not appended under a later term either.
    replica(leader).receive(follower.number, RequestVote(GROUP, replica(leader).term + 1, 99, 99), cluster.now)
    assert raises(NotLeader, lambda: leader.host.propose(GROUP, b"ghost", cluster.now))
    cluster.run(5.0)
    assert b"ghost" not in cluster.machine(1).payloads()


@row("applying yields to the loop", patch(Application, "is_spent", lambda self, bytes_left, ends: False))
def backlog_is_applied_in_parts() -> None:
    config = ReplicaConfig(apply_bytes=20_000)
    cluster = Cluster(1, config=config)
    node = cluster.elect()
    for _ in range(100):
        node.host.propose(GROUP, bytes(1_000), cluster.now)
    node.host.step(cluster.now)
    node.journal.flush()
    node.host.synced(node.journal.sync(), cluster.now)
    before = replica(node).applied_index
    node.host.step(cluster.now)
    assert 0 < replica(node).applied_index - before <= 25
    assert node.host.wakeup <= cluster.now
    cluster.settle()
