"""Random runs of a cluster: one seed, one schedule of proposals and faults."""

from __future__ import annotations

import random

from holdfast_shard.consensus import ReplicaConfig
from tests.consensus.cluster import Cluster

SMALL = ReplicaConfig(
    kept_tail_bytes=6_000,
    snapshot_log_bytes=12_000,
    snapshot_chunk_bytes=700,
    snapshot_window_bytes=2_000,
    inflight_bytes=4_000,
    append_bytes=1_500,
    apply_bytes=3_000,
)


class Schedule:
    """Drives `cluster` through `steps` random steps, remembers what was acknowledged, and checks that it stays."""

    def __init__(self, seed: int, *, size: int = 3, groups: dict[int, list[int]] | None = None) -> None:
        self.rng = random.Random(seed)
        self.cluster = Cluster(size, groups=groups, seed=seed, config=SMALL)
        self.pending: list[tuple[int, int, int, int, bytes]] = []
        """(node, group, index, term, payload)"""
        self.acknowledged: list[tuple[int, int, int, bytes]] = []
        """(group, index, term, payload)"""
        self.count = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
            self.cluster.run(self.rng.choice([0.001, 0.003, 0.01, 0.05, 0.3, 1.0]))
            self.collect()
        self.recover()

    def step(self) -> None:
        rng, cluster = self.rng, self.cluster
        choice = rng.random()
        node = cluster.nodes[rng.choice(list(cluster.nodes))]
        if choice < 0.62:
            self.propose(rng.randint(1, 12))
        elif choice < 0.70:
            if node.alive and len(cluster.alive()) > 1:
                cluster.crash(node.number, power=rng.random() < 0.7, loud=rng.random() < 0.8)
        elif choice < 0.80:
            for other in cluster.nodes.values():
                if not other.alive:
                    cluster.start(other.number)
                    break
        elif choice < 0.84:
            cluster.isolate(node.number, inbound=rng.random() < 0.6, outbound=rng.random() < 0.6)
        elif choice < 0.86:
            cluster.partition(node.number)
        elif choice < 0.92:
            cluster.heal()
        elif choice < 0.94:
            node.paused = not node.paused
        elif choice < 0.96:
            node.sync_delay_s = rng.choice([0.0, 0.0, 0.002, 0.1, 3.0])
        elif choice < 0.98:
            cluster.jitter_s = rng.choice([0.0, 0.001, 0.2])
            cluster.loss = rng.choice([0.0, 0.0, 0.05])
            cluster.repeat = rng.choice([0.0, 0.2])
        else:
            self.transfer()

    def propose(self, count: int) -> None:
        group = self.rng.choice(list(self.cluster.groups))
        leaders = [n for n in self.cluster.alive() if group in n.machines and n.host.replicas[group].ready]
        if not leaders:
            return
        node = self.rng.choice(leaders)
        for _ in range(count):
            self.count += 1
            payload = b"%d:" % self.count + bytes(self.rng.randint(0, 400))
            if node.host.replicas[group].elections.handover is not None:
                return
            proposal = node.host.propose(group, payload, self.cluster.now)
            self.pending.append((node.number, group, proposal.index, proposal.term, payload))

    def transfer(self) -> None:
        group = self.rng.choice(list(self.cluster.groups))
        leader = self.cluster.leader(group)
        if leader is not None:
            peers = leader.host.replicas[group].peers
            if peers:
                leader.host.transfer(group, self.rng.choice(peers), self.cluster.now)

    def collect(self) -> None:
        """A proposal is acknowledged when its own node has applied its index in its term."""
        done = {
            (node.number, group, applied.index, applied.term)
            for node in self.cluster.nodes.values()
            for group, applied in node.applied
        }
        for node in self.cluster.nodes.values():
            node.applied.clear()
        for number, group, index, term, payload in self.pending:
            if (number, group, index, term) in done:
                self.acknowledged.append((group, index, term, payload))
        self.pending = [p for p in self.pending if p[:4] not in done]

    def recover(self) -> None:
        cluster = self.cluster
        cluster.loss = cluster.repeat = cluster.jitter_s = 0.0
        for node in cluster.nodes.values():
            node.paused = False
            node.sync_delay_s = 0.0
            if not node.alive:
                cluster.start(node.number)
        cluster.heal()
        cluster.run(5.0)
        for group in cluster.groups:
            cluster.put(b"last", group, limit_s=30.0)
            cluster.settle(group, limit_s=60.0)
        self.collect()
        self.check()

    def check(self) -> None:
        cluster = self.cluster
        for group, index, term, payload in self.acknowledged:
            assert cluster.history[group][index] == (term, payload), f"acknowledged entry {index} was lost"
        for group, members in cluster.groups.items():
            states = [cluster.machine(number, group).rows for number in members]
            assert all(state == states[0] for state in states), "replicas differ"
            assert {i: (t, p) for i, t, p in states[0]} == cluster.history[group]
