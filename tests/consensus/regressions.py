"""One scenario per defect of the library, and how to disable what closes it.

A scenario returns when the promise is kept and raises AssertionError when it is broken. A mutant disables one named
method of ours; its scenario must then fail, or it would prove nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from holdfast_shard.consensus import (
    Host,
    NotLeader,
    ReplicaConfig,
    ReplicaHalted,
    Role,
    elections,
    engine,
    following,
    installation,
    links,
    replication,
)
from holdfast_shard.consensus import host as host_module
from holdfast_shard.consensus.application import Application
from holdfast_shard.consensus.durability import Durability
from holdfast_shard.consensus.journal import JournalFailed
from holdfast_shard.consensus.log import NO_OP, Log
from holdfast_shard.consensus.messages import (
    Ack,
    Append,
    RequestVote,
    SnapshotChunk,
    Vote,
    decode,
    encode,
)
from holdfast_shard.consensus.replica import Replica
from tests.consensus.cluster import Cluster, Node
from tests.consensus.schedules import SMALL

GROUP = 1
INFINITE = float("inf")


@dataclass(frozen=True)
class Row:
    """`disable` patches what `scenario` is about; None where the defect has no counterpart that could be disabled."""

    name: str
    scenario: Callable[[], None]
    disable: Callable[[pytest.MonkeyPatch], None] | None


ROWS: list[Row] = []


def row(name: str, disable: Callable[[pytest.MonkeyPatch], None] | None) -> Callable[[Callable[[], None]], None]:
    def add(scenario: Callable[[], None]) -> None:
        ROWS.append(Row(name, scenario, disable))

    return add


def patch(owner: Any, name: str, replacement: Any) -> Callable[[pytest.MonkeyPatch], None]:
    assert hasattr(owner, name), name

    def apply(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, replacement)

    return apply


def replica(node: Node) -> Replica:
    return node.host.replicas[GROUP]


def raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def others(cluster: Cluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes.values() if other is not node]


def of_kind(message: bytes, kind: type) -> list[Any]:
    return [part for part in decode(message).messages if type(part) is kind]


def without(kinds: tuple[type, ...], target: int) -> Callable[[int, int, bytes], bool]:
    """A network that loses bundles with such messages to `target`."""
    return lambda source, to, message: to != target or not any(type(part) in kinds for part in decode(message).messages)


def resent(leader: Node, after: int, upto: int) -> Append:
    """What the leader would send anew of its entries after index `after` up to index `upto`."""
    log = replica(leader).log
    entries = [(log.entry(index)[2], log.entry(index)[0]) for index in range(after + 1, upto + 1)]
    return Append(GROUP, replica(leader).term, after, log.entry(after)[2], replica(leader).commit_index, entries)


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


# Elections.


def _patient_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine._configuration
    monkeypatch.setattr(engine, "_configuration", lambda log, quorum_s, on_state: original(log, 30.0, on_state))


@row("a cut-off leader steps down", _patient_configuration)
def leader_without_a_majority_steps_down() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.isolate(leader.number)
    cluster.run(1.2)
    assert replica(leader).role is not Role.LEADER


@row(
    "a deaf node disturbs nobody",
    patch(elections.Elections, "_ask", lambda self, now: self._campaign(now)),
)
def deaf_node_does_not_depose_the_leader() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put(b"x")
    deaf = others(cluster, leader)[0]
    term = replica(leader).term
    cluster.isolate(deaf.number, outbound=False)
    cluster.run(5.0)
    cluster.heal()
    cluster.settle()
    assert cluster.leader() is leader
    assert replica(leader).term == term


@row("a lower term is answered", patch(Replica, "answer_lower_term", lambda self, peer: None))
def node_with_a_higher_term_comes_back() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    stuck = others(cluster, leader)[0]
    cluster.put(b"x")
    replica(stuck).elections.take_term(replica(stuck).term + 5, cluster.now)
    cluster.run(3.0)
    cluster.put(b"y")
    cluster.run(0.5)
    assert b"y" in cluster.machine(stuck.number).payloads()


def _sticky(self: elections.Elections, peer: int, message: RequestVote, now: float) -> None:
    if not self.hears_leader(now):
        self._replica.engine.vote_requested(peer, message.term, message.last_index, message.last_term, now)


@row("a vote request is never refused", patch(elections.Elections, "on_request_vote", _sticky))
def vote_request_is_answered_while_a_leader_lives() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put(b"x")
    cluster.settle()
    target = others(cluster, leader)[0]
    leader.host.transfer(GROUP, target.number, cluster.now)
    cluster.run_until(lambda: cluster.leader() is target, 0.5)


@row("a broken connection starts the pre-vote", patch(elections.Elections, "leader_lost", lambda self, now: None))
def death_of_the_leader_is_noticed_at_once() -> None:
    cluster = Cluster(3)
    for _ in range(3):
        leader = cluster.elect()
        cluster.settle()
        cluster.crash(leader.number)
        cluster.elect(limit_s=0.4)
        cluster.start(leader.number)


def _silent(self: elections.Elections, now: float) -> None:
    self.deadline = now + self._timeout()


@row("a leader that steps down says so", patch(elections.Elections, "resigned", _silent))
def resignation_starts_the_election() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    cluster.isolate(leader.number, outbound=False)
    cluster.run_until(lambda: replica(leader).role is not Role.LEADER, 1.2)
    cluster.run_until(lambda: cluster.leader() not in (None, leader), 0.3)


@row("a stall ends nobody's lease", patch(host_module, "TURN_MAX_S", 1e9))
def one_turn_counts_little() -> None:
    cluster = Cluster(1)
    node = cluster.elect()
    cluster.run(1.0)
    before = replica(node).elapsed_ms(cluster.now)
    cluster.now += 30.0
    assert replica(node).elapsed_ms(cluster.now) - before <= 101
    node.host.step(cluster.now)
    assert replica(node).elapsed_ms(cluster.now) - before <= 101
