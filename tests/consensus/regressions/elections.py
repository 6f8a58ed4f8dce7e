"""Who leads, and who must not."""

from __future__ import annotations

import pytest

from holdfast_shard.consensus import (
    Role,
    elections,
    engine,
)
from holdfast_shard.consensus import host as host_module
from holdfast_shard.consensus.messages import (
    RequestVote,
)
from holdfast_shard.consensus.replica import Replica
from tests.consensus.cluster import Cluster
from tests.consensus.regressions.rows import (
    GROUP,
    others,
    patch,
    replica,
    row,
)

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
