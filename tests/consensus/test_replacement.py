"""An empty disk in a lost one's place: it has no voice before it has caught up."""

from __future__ import annotations

import pytest

from holdfast_shard.consensus.replica import Replica
from tests.consensus.cluster import Cluster, Node
from tests.simulation.disk import SimDisk


def lost_with_an_entry_that_one_survivor_has() -> tuple[Cluster, Node, Node, Node]:
    """(cluster, survivor with the entry, survivor without it, replaced): the latter two are up, the first is not."""
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.settle()
    without, replaced = (node for node in cluster.nodes.values() if node is not leader)
    cluster.isolate(without.number)
    cluster.put(b"acknowledged")
    cluster.crash(leader.number)
    cluster.crash(replaced.number)
    cluster.heal()
    replaced.disk = SimDisk()
    cluster.start(replaced.number, fresh=True)
    return cluster, leader, without, replaced


def test_it_does_not_outvote_the_survivor_that_has_an_acknowledged_entry() -> None:
    cluster, having, without, replaced = lost_with_an_entry_that_one_survivor_has()
    cluster.run(20.0)
    assert cluster.leader() is None
    cluster.start(having.number)
    cluster.elect()
    cluster.settle()
    assert b"acknowledged" in cluster.machine(without.number).payloads()
    assert b"acknowledged" in cluster.machine(replaced.number).payloads()


@pytest.mark.seeds_bugs
def test_without_the_rule_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replica, "may_vote", property(lambda self: True))
    cluster, *_ = lost_with_an_entry_that_one_survivor_has()
    with pytest.raises(AssertionError, match="applied another entry"):
        cluster.run(20.0)


def test_once_it_has_caught_up_it_votes_like_any_other() -> None:
    cluster, having, without, replaced = lost_with_an_entry_that_one_survivor_has()
    cluster.start(having.number)
    cluster.elect()
    cluster.settle()
    assert cluster.nodes[replaced.number].host.replicas[1].may_vote
    cluster.crash(having.number)
    cluster.elect()
    cluster.put(b"more")
    assert b"more" in cluster.machine(without.number).payloads()
