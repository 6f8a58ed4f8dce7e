"""Nothing counts before it is on the disk of whoever counts it."""

from __future__ import annotations

import pytest

from holdfast_shard.consensus import (
    Host,
    ReplicaHalted,
    Role,
)
from holdfast_shard.consensus.durability import Durability
from holdfast_shard.consensus.journal import JournalFailed
from holdfast_shard.consensus.messages import (
    Append,
    RequestVote,
    Vote,
)
from tests.consensus.cluster import Cluster
from tests.consensus.regressions.rows import (
    GROUP,
    INFINITE,
    of_kind,
    others,
    patch,
    raises,
    replica,
    row,
)

# Durability.


@row("a vote leaves when it is durable", patch(Durability, "term_is_durable", lambda self: True))
def vote_waits_for_the_disk() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    voter, asker = others(cluster, leader)
    voter.sync_delay_s = INFINITE
    votes: list[Vote] = []

    def watch(source: int, target: int, message: bytes) -> bool:
        votes.extend(of_kind(message, Vote))
        return True

    cluster.filter = watch
    log = replica(asker).log
    request = RequestVote(GROUP, replica(asker).term + 1, log.last_index, log.last_term)
    replica(voter).receive(asker.number, request, cluster.now)
    cluster.run(0.05)
    assert votes == []
    voter.sync_delay_s = 0.0
    voter.host.synced(voter.journal.sync(), cluster.now)
    cluster.turn(voter)
    cluster.run(0.05)
    assert votes[0] == Vote(GROUP, request.term)


@row("a leader counts only what is on its disk", patch(Durability, "countable", lambda self, index: index))
def leader_counts_its_own_disk() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    present, absent = others(cluster, leader)
    cluster.crash(absent.number)
    leader.sync_delay_s = 0.3
    proposal = leader.host.propose(GROUP, b"g", cluster.now)
    cluster.run(0.25)
    assert replica(present).durability.index == proposal.index
    assert replica(leader).commit_index < proposal.index
    assert replica(present).commit_index < proposal.index
    cluster.run(0.1)
    assert replica(leader).applied_index == proposal.index


@row("a group of one waits for its disk", patch(Durability, "appliable", lambda self, commit: commit))
def group_of_one_waits_for_its_disk() -> None:
    cluster = Cluster(1)
    node = cluster.elect()
    node.sync_delay_s = 0.3
    proposal = node.host.propose(GROUP, b"z", cluster.now)
    cluster.run(0.25)
    assert replica(node).applied_index < proposal.index
    cluster.run(0.1)
    assert replica(node).applied_index == proposal.index


@row("a follower claims only what is on its disk", patch(Durability, "claim", lambda self, term: self.matched(term)))
def follower_claims_its_own_disk() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    present, absent = others(cluster, leader)
    cluster.crash(absent.number)
    present.sync_delay_s = 0.3
    proposal = leader.host.propose(GROUP, b"g", cluster.now)
    cluster.run(0.25)
    assert replica(present).last_index == proposal.index
    assert replica(leader).commit_index < proposal.index
    cluster.run(0.1)
    assert replica(leader).commit_index == proposal.index


@row("durability goes by write, not by index", patch(Durability, "truncated", lambda self, last: None))
def truncated_index_is_not_durable_again() -> None:
    cluster = Cluster(5)
    first = cluster.elect()
    cluster.settle()
    node, second = others(cluster, first)[:2]
    base = replica(node).last_index
    cluster.filter = lambda source, target, message: target == node.number
    first.host.propose(GROUP, b"old", cluster.now)
    cluster.run(0.01)
    assert replica(node).durability.index == base + 1
    node.sync_delay_s = INFINITE
    term = replica(first).term + 1
    append = Append(GROUP, term, base, replica(node).log.entry(base)[2], 0, [(term, b"\0new")])
    replica(node).receive(second.number, append, cluster.now)
    assert replica(node).last_index == base + 1
    assert replica(node).durability.claim(term) == base


def _stays_calm(self: Host, now: float) -> None:
    self.disk_stalled = False


@row("a leader whose disk stalls steps down", patch(Host, "_check_disk", _stays_calm))
def stalled_disk_ends_leadership() -> None:
    cluster = Cluster(3)
    stalled = cluster.elect()
    cluster.settle()
    stalled.sync_delay_s = INFINITE
    stalled.host.propose(GROUP, b"g", cluster.now)
    cluster.run(2.5)
    assert replica(stalled).role is not Role.LEADER
    assert cluster.leader() not in (None, stalled)


@row("a failed disk ends the replica", patch(Host, "halt", lambda self: None))
def failed_sync_ends_the_replica() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    leader.disk.failing = True
    leader.host.propose(GROUP, b"g", cluster.now)
    with pytest.raises(JournalFailed):
        leader.journal.flush()
    leader.disk.failing = False
    with pytest.raises(JournalFailed):
        leader.journal.sync()
    leader.host.halt()
    assert leader.host.take_messages() == {}
    assert raises(ReplicaHalted, lambda: leader.host.step(cluster.now + 1.0))
