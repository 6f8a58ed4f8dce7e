"""Entries reach every replica once and in order, at a bounded price."""

from __future__ import annotations

import copy

import pytest

from holdfast_shard.consensus import EntryTooLarge, ReplicaConfig, Role
from holdfast_shard.consensus.messages import Ack, Append, Beat, Reject, decode
from holdfast_shard.consensus.replication import PROBE_BYTES
from tests.consensus.cluster import Cluster, Node


def others(cluster: Cluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes.values() if other is not node]


def test_an_applied_entry_is_told_once_with_its_result() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    proposal = cluster.put(b"x")
    told = [a for g, a in leader.applied if (g, a.index) == (1, proposal.index)]
    assert len(told) == 1
    assert told[0].term == proposal.term
    assert not told[0].noop
    assert told[0].result == len(cluster.machine(leader.number).rows)
    assert [a.noop for _, a in leader.applied[:1]] == [True]


def test_a_command_costs_two_messages_per_follower() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    kinds = {Append: 0, Ack: 0}

    def count(source: int, target: int, message: bytes) -> bool:
        for part in decode(message).messages:
            if type(part) in kinds:
                kinds[type(part)] += 1
        return True

    cluster.filter = count
    for n in range(100):
        proposal = leader.host.propose(1, b"%d" % n, cluster.now)
        cluster.run_until(lambda index=proposal.index: leader.host.replicas[1].applied_index >= index)  # type: ignore[misc]
    assert kinds[Append] <= 205
    assert kinds[Ack] <= 205


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("less", [0, 1, 2, 3, 16, 17, 18, 40])
def test_entries_near_a_multiple_of_the_batch_size_replicate(blocks: int, less: int) -> None:
    cluster = Cluster(3, config=ReplicaConfig(append_bytes=1 << 16))
    cluster.put(bytes(blocks * (1 << 16) - less))
    cluster.put(b"after")
    cluster.settle()
    assert len(cluster.machine(3).payloads()) == 2


def test_an_entry_larger_than_every_window_goes_alone() -> None:
    config = ReplicaConfig(append_bytes=1000, inflight_bytes=2000, entry_bytes_max=1 << 20)
    cluster = Cluster(3, config=config)
    leader = cluster.elect()
    cluster.put(bytes((1 << 20) - 1))
    with pytest.raises(EntryTooLarge):
        leader.host.propose(1, bytes(1 << 20), cluster.now)
    cluster.put(b"after")
    cluster.settle()


def test_a_follower_with_another_tail_is_brought_into_line() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.put(b"base")
    cluster.settle()
    cluster.isolate(old.number)
    for n in range(50):
        old.host.propose(1, b"lost%d" % n, cluster.now)
    cluster.run_until(lambda: cluster.leader() not in (None, old), 3.0)
    for n in range(5):
        cluster.put(b"kept%d" % n)
    rejects = 0

    def count(source: int, target: int, message: bytes) -> bool:
        nonlocal rejects
        rejects += sum(isinstance(part, Reject) for part in decode(message).messages)
        return True

    cluster.filter = count
    cluster.heal()
    cluster.settle()
    assert cluster.machine(old.number).payloads() == [b"base", *(b"kept%d" % n for n in range(5))]
    assert rejects <= 6, "agreement is found by terms, not entry by entry"


def test_lost_messages_on_a_standing_connection_are_sent_again() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    deaf = others(cluster, leader)[0]
    cluster.filter = lambda source, target, message: (
        target != deaf.number or not any(isinstance(part, Append) for part in decode(message).messages)
    )
    for n in range(5):
        cluster.put(b"%d" % n)
    cluster.filter = None
    cluster.run(0.5)
    assert len(cluster.machine(deaf.number).payloads()) == 5


@pytest.mark.parametrize("seed", range(5))
def test_loss_repetition_and_disorder_lose_nothing(seed: int) -> None:
    cluster = Cluster(3, seed=seed)
    cluster.elect()
    cluster.loss, cluster.repeat, cluster.jitter_s = 0.1, 0.3, 0.02
    for n in range(60):
        cluster.propose(b"%d" % n)
        cluster.run(0.01)
    cluster.loss = cluster.repeat = cluster.jitter_s = 0.0
    cluster.put(b"end")
    cluster.settle()
    payloads = cluster.machine(1).payloads()
    assert len(payloads) == len(set(payloads))
    assert payloads == sorted(payloads, key=lambda p: 999 if p == b"end" else int(p))


def test_one_heartbeat_per_pair_of_nodes_lists_all_groups() -> None:
    groups = {group: [1, 2, 3] for group in range(30)}
    cluster = Cluster(groups=groups)
    cluster.run_until(lambda: all(cluster.leader(group) for group in groups))
    cluster.run(2.0)
    beats: list[Beat] = []
    bundles = 0

    def count(source: int, target: int, message: bytes) -> bool:
        nonlocal bundles
        bundles += 1
        beats.extend(part for part in decode(message).messages if isinstance(part, Beat))
        return True

    cluster.filter = count
    cluster.run(1.0)
    led = {n: sum(r.role is Role.LEADER for r in cluster.nodes[n].host.replicas.values()) for n in (1, 2, 3)}
    assert sum(led.values()) == 30
    leading = sum(count > 0 for count in led.values())
    assert len(beats) <= leading * 2 * 11
    assert bundles <= leading * 2 * 2 * 12
    assert sum(len(beat.leads) for beat in beats) >= 30 * 2 * 9


def test_an_acknowledgement_of_what_is_not_in_the_log_counts_for_nothing() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    replica = leader.host.replicas[1]
    cluster.isolate(leader.number)
    for other in others(cluster, leader):
        replica.receive(other.number, Ack(1, replica.term, replica.last_index + 1), cluster.now)
    proposal = leader.host.propose(1, b"acknowledged by nobody", cluster.now)
    cluster.run(0.01)
    assert replica.commit_index < proposal.index
    assert replica.following.refused == 2


def test_a_follower_that_lost_what_it_acknowledged_is_refused() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.put(b"a")
    cluster.settle()
    liar = others(cluster, leader)[0]
    cluster.crash(liar.number)
    saved = copy.deepcopy(liar.disk)
    cluster.start(liar.number)
    for n in range(3):
        cluster.put(b"b%d" % n)
    cluster.settle()
    term = leader.host.replicas[1].term
    cluster.crash(liar.number)
    liar.disk = saved
    cluster.start(liar.number)
    cluster.run(1.0)
    assert leader.host.replicas[1].term == term
    assert leader.host.replicas[1].status()["lost_acknowledged"] == [liar.number]
    assert leader.host.replicas[1].forgetful == {liar.number}
    cluster.put(b"the others go on")


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    """Raft, figure 8: only an entry of the leader's own term, on a majority, commits what is below it."""
    cluster = Cluster(3, config=ReplicaConfig(append_bytes=PROBE_BYTES, inflight_bytes=PROBE_BYTES))
    leader = cluster.elect()
    cluster.settle()
    follower, absent = others(cluster, leader)
    cluster.crash(absent.number)
    cluster.crash(follower.number)
    for _ in range(3):
        # So large that the new term's first entry travels in a message of its own.
        old = leader.host.propose(1, bytes(PROBE_BYTES), cluster.now)
    cluster.run(0.01)
    cluster.crash(leader.number)
    cluster.start(leader.number)
    cluster.start(follower.number)

    def only_old_entries(source: int, target: int, message: bytes) -> bool:
        """What the new term added is lost, once the follower could take it."""
        last = follower.host.replicas[1].last_index
        appends = [part for part in decode(message).messages if isinstance(part, Append)]
        fitting = [append for append in appends if append.previous_index <= last]
        return not any(term > old.term for append in fitting for term, _ in append.entries)

    cluster.filter = only_old_entries
    replica = leader.host.replicas[1]
    cluster.run_until(lambda: replica.replication.match(follower.number) >= old.index)
    cluster.run(0.3)
    assert replica.role is Role.LEADER
    assert replica.commit_index < old.index
    cluster.filter = None
    cluster.settle()
    assert replica.commit_index > old.index
