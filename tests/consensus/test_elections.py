"""Who leads, when that changes, and what it never costs."""

from __future__ import annotations

import pytest

from holdfast_shard.consensus import NotLeader, Role
from holdfast_shard.consensus.elections import LAGGING_ENTRIES
from holdfast_shard.consensus.messages import PreVote
from tests.consensus.cluster import Cluster, Node


def replica_of(node: Node, group: int = 1):  # type: ignore[no-untyped-def]
    return node.host.replicas[group]


def others(cluster: Cluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes.values() if other is not node]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_one_leader_is_elected_soon_after_the_start(size: int) -> None:
    cluster = Cluster(size)
    leader = cluster.elect(limit_s=1.0)
    cluster.run(3.0)
    assert cluster.leader() is leader
    assert all(replica_of(node).leader == leader.number for node in cluster.alive())


@pytest.mark.parametrize("seed", range(20))
def test_a_dead_leader_is_replaced_within_three_tenths_of_a_second(seed: int) -> None:
    cluster = Cluster(3, seed=seed)
    leader = cluster.elect()
    cluster.put(b"x")
    cluster.crash(leader.number)
    # Two that ask at the same moment split the vote now and then; that must stay rare and cheap.
    cluster.elect(limit_s=0.6)
    cluster.put(b"y")


def test_fail_over_is_fast_in_the_median() -> None:
    gaps = []
    for seed in range(30):
        cluster = Cluster(3, seed=seed)
        leader = cluster.elect()
        cluster.put(b"x")
        began = cluster.now
        cluster.crash(leader.number)
        cluster.elect()
        gaps.append(cluster.now - began)
    assert sorted(gaps)[15] < 0.1
    assert max(gaps) < 0.6


@pytest.mark.parametrize(("inbound", "outbound"), [(True, True), (True, False), (False, True)])
def test_a_cut_link_moves_leadership_within_a_second_and_a_half(inbound: bool, outbound: bool) -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.put(b"x")
    began = cluster.now
    cluster.isolate(old.number, inbound=inbound, outbound=outbound)
    cluster.run_until(lambda: cluster.leader() not in (None, old), 2.5)
    assert cluster.now - began < 1.5
    cluster.put(b"y")
    cluster.heal()
    cluster.settle()
    assert cluster.machine(old.number).payloads() == [b"x", b"y"]


def test_a_stopped_leader_is_replaced_and_comes_back_as_a_follower() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.put(b"x")
    old.paused = True
    cluster.run_until(lambda: cluster.leader() not in (None, old), 1.5)
    cluster.put(b"y")
    old.paused = False
    cluster.run(1.0)
    assert replica_of(old).role is Role.FOLLOWER
    cluster.settle()


def test_no_majority_no_leader_and_no_growing_terms() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    for node in others(cluster, leader):
        cluster.crash(node.number)
    cluster.run(2.0)
    assert replica_of(leader).role is not Role.LEADER
    term = replica_of(leader).term
    cluster.run(30.0)
    assert replica_of(leader).term == term
    with pytest.raises(NotLeader):
        leader.host.propose(1, b"x", cluster.now)


def test_a_replica_with_a_shorter_log_is_not_elected() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    behind, ahead = others(cluster, leader)
    cluster.crash(behind.number)
    cluster.put(b"x")
    cluster.crash(leader.number)
    cluster.start(behind.number)
    assert cluster.elect() is ahead


@pytest.mark.parametrize("seed", range(10))
def test_a_replica_that_still_applies_much_lets_another_be_elected(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(3, seed=seed)
    leader = cluster.elect()
    behind, abreast = others(cluster, leader)
    application = replica_of(behind).application
    monkeypatch.setattr(application, "limit", lambda: 1)
    for n in range(LAGGING_ENTRIES + 10):
        cluster.put(b"%d" % n)
    cluster.crash(leader.number)
    assert cluster.elect(limit_s=0.6) is abreast


def test_a_consent_that_nobody_asked_for_starts_no_election() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    follower, other = others(cluster, leader)
    replica = replica_of(follower)
    for peer in (leader, other):
        replica.receive(peer.number, PreVote(1, replica.term, replica.term), cluster.now)
    cluster.run(0.1)
    assert cluster.leader() is leader
    assert replica.role is Role.FOLLOWER


def test_leadership_is_handed_over_without_a_gap_in_the_log() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    cluster.put(b"before")
    target = others(cluster, old)[1]
    old.host.propose(1, b"under way", cluster.now)
    old.host.transfer(1, target.number, cluster.now)
    with pytest.raises(NotLeader):
        old.host.propose(1, b"refused", cluster.now)
    cluster.run_until(lambda: cluster.leader() is target, 0.2)
    cluster.put(b"after")
    cluster.settle()
    assert cluster.machine(1).payloads() == [b"before", b"under way", b"after"]


def test_a_node_that_stops_hands_over_to_whoever_has_most() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    behind, abreast = others(cluster, old)
    cluster.disconnect(old.number, behind.number)
    cluster.put(b"x")
    cluster.connect(old.number, behind.number)
    cluster.run(0.01)
    assert old.host.leave_office(cluster.now)
    cluster.run_until(lambda: not old.host.leave_office(cluster.now), 0.5)
    assert cluster.elect(limit_s=0.5) in (behind, abreast)


def test_a_node_without_connected_peers_has_nobody_to_hand_over_to() -> None:
    cluster = Cluster(3)
    old = cluster.elect()
    for other in others(cluster, old):
        cluster.crash(other.number)
    cluster.run(0.01)
    assert not old.host.leave_office(cluster.now)


def test_a_hand_over_to_a_dead_node_is_given_up() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    target = others(cluster, leader)[0]
    cluster.crash(target.number)
    leader.host.transfer(1, target.number, cluster.now)
    cluster.run(2.0)
    assert cluster.leader() is leader
    cluster.put(b"goes on")


def test_transfer_is_refused_to_strangers_and_by_followers() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    with pytest.raises(ValueError, match="no other member"):
        leader.host.transfer(1, 9, cluster.now)
    with pytest.raises(NotLeader):
        others(cluster, leader)[0].host.transfer(1, leader.number, cluster.now)


def test_a_leader_is_ready_only_when_its_own_first_entry_is_applied() -> None:
    cluster = Cluster(3)
    seen_unready = False

    def ready() -> bool:
        nonlocal seen_unready
        for node in cluster.alive():
            replica = replica_of(node)
            if replica.role is Role.LEADER:
                first = next((i for i, t, _ in cluster.machine(node.number).rows if t == replica.term), None)
                assert replica.ready == (first is not None)
                seen_unready |= not replica.ready
                return bool(replica.ready)
        return False

    cluster.run_until(ready)
    assert seen_unready


def test_the_stopwatch_starts_after_the_win_and_never_runs_ahead() -> None:
    cluster = Cluster(3)
    won: dict[int, float] = {}
    cluster.elect()
    for _ in range(400):
        cluster.run(0.01)
        for node in cluster.alive():
            replica = replica_of(node)
            if replica.role is Role.LEADER:
                won.setdefault(replica.term, cluster.now)
                assert replica.elapsed_ms(cluster.now) <= (cluster.now - won[replica.term]) * 1000 + 1000
            else:
                assert replica.elapsed_ms(cluster.now) == 0
    leader = cluster.elect()
    began, before = cluster.now, replica_of(leader).elapsed_ms(cluster.now)
    cluster.run(10.0)
    measured = replica_of(leader).elapsed_ms(cluster.now) - before
    assert (cluster.now - began) * 1000 - 2 <= measured <= (cluster.now - began) * 1000 + 1


@pytest.mark.parametrize("seed", range(5))
def test_the_stopwatch_counts_nothing_from_before_the_win(seed: int) -> None:
    cluster = Cluster(3, seed=seed, delay_s=0.02)
    cluster.run_until(lambda: any(replica_of(node).role is Role.LEADER for node in cluster.alive()))
    won = cluster.now
    leader = next(node for node in cluster.alive() if replica_of(node).role is Role.LEADER)
    for _ in range(20):
        cluster.run(0.01)
        assert replica_of(leader).elapsed_ms(cluster.now) <= (cluster.now - won) * 1000


def test_a_group_of_one_needs_nobody() -> None:
    cluster = Cluster(1)
    cluster.elect(limit_s=0.01)
    cluster.put(b"x", limit_s=0.01)
    cluster.crash(1)
    cluster.start(1)
    cluster.put(b"y", limit_s=0.1)
    assert cluster.machine(1).payloads() == [b"x", b"y"]
