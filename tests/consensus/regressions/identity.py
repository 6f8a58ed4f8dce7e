"""Terms, connections, repetition, votes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast_shard.consensus import (
    Role,
    elections,
    links,
)
from holdfast_shard.consensus.durability import Durability
from holdfast_shard.consensus.messages import (
    Ack,
    Append,
    Vote,
    decode,
    encode,
)
from holdfast_shard.consensus.replica import Replica
from tests.consensus.cluster import Cluster, Node
from tests.consensus.regressions.rows import (
    GROUP,
    INFINITE,
    others,
    patch,
    replica,
    row,
)

# Terms, connections, repetition.


def _forget_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """An acknowledgement held for the disk is stamped with the term in which it leaves."""

    def match(self: Durability, term: int, index: int) -> None:
        self._matched = max(self._matched, index)

    monkeypatch.setattr(Durability, "match", match)
    monkeypatch.setattr(Durability, "matched", lambda self, term: self._matched)


@row("an ack keeps its term", _forget_terms)
def acknowledgement_dies_with_its_term() -> None:
    cluster = Cluster(5)
    first = cluster.elect()
    cluster.settle()
    slow, second = others(cluster, first)[:2]
    slow.sync_delay_s = INFINITE
    base = replica(first).last_index
    for n in range(5):
        first.host.propose(GROUP, b"t1-%d" % n, cluster.now)
    cluster.run(0.003)
    assert replica(slow).durability.matched(replica(first).term) == base + 5
    # A leader of a later term matches it only up to `base`; what it holds beyond is another's.
    term = replica(first).term + 1
    previous = replica(slow).log.entry(base)[2]
    replica(slow).receive(second.number, Append(GROUP, term, base, previous, 0, []), cluster.now)
    slow.journal.flush()
    slow.host.synced(slow.journal.sync(), cluster.now)
    assert replica(slow).durability.index == base + 5
    ack = replica(slow).following.acknowledgement()
    assert ack == Ack(GROUP, term, base)


@row("a leader counts no ack of an earlier term", patch(Replica, "is_of_the_past", lambda self, message: False))
def earlier_acknowledgements_do_not_count() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.crash(leader.number)
    leader = cluster.elect()
    alone = next(node for node in cluster.alive() if node is not leader)
    cluster.settle()
    cluster.isolate(leader.number)
    proposal = leader.host.propose(GROUP, b"unacknowledged", cluster.now)
    cluster.run(0.01)
    old = Ack(GROUP, replica(leader).term - 1, proposal.index)
    replica(leader).receive(alone.number, old, cluster.now)
    cluster.run(0.01)
    assert replica(leader).commit_index < proposal.index


def _observe_dispatch(cluster: Cluster, node: Node) -> list[Any]:
    seen: list[Any] = []
    original = node.host._dispatch

    def dispatch(peer: int, message: Any, now: float) -> None:
        seen.append(message)
        original(peer, message, now)

    node.host._dispatch = dispatch  # type: ignore[method-assign]
    return seen


@row("messages of a replaced connection are dropped", patch(links.Link, "is_current", lambda self, bundle: True))
def replaced_connection_delivers_nothing() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = others(cluster, leader)[0]
    kept: list[bytes] = []

    def keep(source: int, target: int, message: bytes) -> bool:
        if (source, target) == (follower.number, leader.number) and decode(message).messages:
            kept.append(message)
        return True

    cluster.filter = keep
    cluster.put(b"x")
    cluster.run(0.3)
    cluster.filter = None
    cluster.disconnect(leader.number, follower.number)
    cluster.connect(leader.number, follower.number)
    cluster.run(0.3)
    seen = _observe_dispatch(cluster, leader)
    dropped = leader.host.dropped
    late = msgspec.structs.replace(decode(kept[-1]), number=10_000)
    leader.host.receive(follower.number, encode(late), cluster.now)
    assert seen == []
    assert leader.host.dropped == dropped + 1


@row("repeated messages are dropped", patch(links.Link, "is_new", lambda self, bundle: True))
def repeated_message_is_dropped() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = others(cluster, leader)[0]
    kept: list[bytes] = []

    def keep(source: int, target: int, message: bytes) -> bool:
        if (source, target) == (follower.number, leader.number):
            kept.append(message)
        return True

    cluster.filter = keep
    cluster.run(0.35)
    cluster.filter = None
    seen = _observe_dispatch(cluster, leader)
    leader.host.receive(follower.number, kept[-1], cluster.now)
    assert seen == []


@row("a voter counts once", patch(elections.Elections, "is_new_voter", lambda self, peer: True))
def one_vote_delivered_twice_elects_nobody() -> None:
    cluster = Cluster(5)
    cluster.elect()
    cluster.settle()
    asker = next(node for node in cluster.alive() if replica(node).role is Role.FOLLOWER)
    cluster.isolate(asker.number)
    replica(asker).elections._campaign(cluster.now)
    voter = others(cluster, asker)[0].number
    for _ in range(3):
        replica(asker).receive(voter, Vote(GROUP, replica(asker).term), cluster.now)
    assert replica(asker).role is Role.CANDIDATE
