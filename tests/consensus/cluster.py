"""A simulated network of hosts: one clock, one queue of events, the real engine and journal on simulated disks.

Checks on every step that no two leaders share a term and that all replicas apply the same entries.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Iterator

import msgspec

from holdfast_shard.consensus import Applied, Host, NotLeader, Proposal, ReplicaConfig, Role
from holdfast_shard.consensus.journal import Journal
from holdfast_shard.consensus.snapshots import SnapshotStore
from tests.simulation.disk import SimDisk

TEST_CONFIG = ReplicaConfig()
TURNS_MAX = 400_000


class Recorder:
    """A state machine that remembers what was applied."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, bytes | None]] = []
        self.rows_per_chunk = 50

    def apply(self, index: int, term: int, payload: bytes | None) -> object:
        assert not self.rows or index == self.rows[-1][0] + 1, "applied out of order"
        self.rows.append((index, term, payload))
        return len(self.rows)

    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload in self.rows if payload is not None]

    def export(self) -> Iterator[bytes]:
        rows = list(self.rows)

        def chunks() -> Iterator[bytes]:
            for at in range(0, len(rows), self.rows_per_chunk):
                yield msgspec.msgpack.encode(rows[at : at + self.rows_per_chunk])

        return chunks()

    def restore(self, chunks: Iterable[bytes]) -> None:
        rows: list[tuple[int, int, bytes | None]] = []
        try:
            for chunk in chunks:
                rows += msgspec.msgpack.decode(chunk, type=list[tuple[int, int, bytes | None]])
        except msgspec.DecodeError as error:
            raise ValueError("bad snapshot") from error
        self.rows = rows


class Node:
    def __init__(self, number: int) -> None:
        self.number = number
        self.disk = SimDisk()
        self.alive = False
        self.paused = False
        self.sync_delay_s = 0.0
        """0 syncs within the turn; inf never."""
        self.syncing_until: float | None = None
        self.machines: dict[int, Recorder] = {}
        self.applied: list[tuple[int, Applied]] = []
        self.host: Host
        self.journal: Journal


class Cluster:
    """`groups` maps a group to its members' numbers. Times are seconds of the simulation."""

    def __init__(
        self,
        size: int = 3,
        *,
        groups: dict[int, list[int]] | None = None,
        seed: int = 1,
        config: ReplicaConfig = TEST_CONFIG,
        delay_s: float = 0.0005,
        start: bool = True,
    ) -> None:
        self.rng = random.Random(seed)
        self.config = config
        self.now = 100.0
        self.delay_s = delay_s
        self.jitter_s = 0.0
        self.loss = 0.0
        self.repeat = 0.0
        self.groups = groups or {1: list(range(1, size + 1))}
        self.nodes = {number: Node(number) for number in sorted({n for ns in self.groups.values() for n in ns})}
        self.cut: set[tuple[int, int]] = set()
        """Directed pairs whose messages are lost without anyone noticing."""
        self.filter: Callable[[int, int, bytes], bool] | None = None
        """Drops a message when it returns False."""
        self._events: list[tuple[float, int, int, int, bytes]] = []
        self._number = itertools.count()
        self._fifo: dict[tuple[int, int], float] = {}
        self._up: set[tuple[int, int]] = set()
        self.history: dict[int, dict[int, tuple[int, bytes | None]]] = {group: {} for group in self.groups}
        self.leaders: dict[tuple[int, int], int] = {}
        self.turns = 0
        self.snapshot_jobs = True
        if start:
            for number in self.nodes:
                self.start(number)

    # Nodes.

    def start(self, number: int, *, machine: Recorder | None = None, fresh: bool = False) -> Node:
        node = self.nodes[number]
        assert not node.alive
        members = {group: numbers for group, numbers in self.groups.items() if number in numbers}
        node.journal, recovered = Journal.open(node.disk)
        node.machines = {group: machine or Recorder() for group in members}
        node.host = Host(
            node=number,
            members=members,
            machines=node.machines,
            journal=node.journal,
            recovered=recovered,
            snapshots={group: SnapshotStore(node.disk, group) for group in members},
            rng=random.Random(self.rng.random()),
            config=self.config,
            now=self.now,
            fresh=fresh,
        )
        node.alive = True
        node.syncing_until = None
        for other in self.nodes.values():
            if other.alive and other is not node:
                self.connect(number, other.number)
        return node

    def crash(self, number: int, *, power: bool = True, loud: bool = True) -> None:
        """Stop a node at once; with `power` its unsynced writes are at risk, with `loud` its connections break."""
        node = self.nodes[number]
        node.alive = False
        if power:
            node.disk.crash(self.rng)
        self._events = [event for event in self._events if event[3] != number]
        heapq.heapify(self._events)
        for other in self.nodes:
            if other != number:
                self.disconnect(number, other, loud=loud)

    def connect(self, one: int, two: int) -> None:
        if not (self.nodes[one].alive and self.nodes[two].alive):
            return
        self._up |= {(one, two), (two, one)}
        self.nodes[one].host.connected(two, self.now)
        self.nodes[two].host.connected(one, self.now)

    def disconnect(self, one: int, two: int, *, loud: bool = True) -> None:
        self._up -= {(one, two), (two, one)}
        self._events = [e for e in self._events if {e[2], e[3]} != {one, two}]
        heapq.heapify(self._events)
        if loud:
            for a, b in ((one, two), (two, one)):
                if self.nodes[a].alive:
                    self.nodes[a].host.disconnected(b, self.now)

    def isolate(self, number: int, *, inbound: bool = True, outbound: bool = True) -> None:
        """Silently."""
        for other in self.nodes:
            if other != number:
                if inbound:
                    self.cut.add((other, number))
                if outbound:
                    self.cut.add((number, other))

    def partition(self, number: int) -> None:
        """Loudly, both ways."""
        for other in self.nodes:
            if other != number:
                self.disconnect(number, other)

    def heal(self) -> None:
        self.cut.clear()
        for one in self.nodes:
            for two in self.nodes:
                if one < two and (one, two) not in self._up:
                    self.connect(one, two)

    def alive(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive]

    # Time.

    def run(self, seconds: float) -> None:
        self._run(self.now + seconds, lambda: False)

    def run_until(self, condition: Callable[[], bool], limit_s: float = 20.0) -> None:
        assert self._run(self.now + limit_s, condition), "the condition was not met in time"

    def _run(self, end: float, condition: Callable[[], bool]) -> bool:
        while not condition():
            at = self._next()
            if at > end:
                self.now = end
                return condition()
            self.now = max(self.now, at)
            for number in self._due():
                self.turn(self.nodes[number])
        return True

    def _next(self) -> float:
        times = [self._events[0][0]] if self._events else []
        for node in self.nodes.values():
            if node.alive and not node.paused:
                times.append(self._wants(node))
        return min(times, default=float("inf"))

    @staticmethod
    def _wants(node: Node) -> float:
        wakeup = node.host.wakeup
        return wakeup if node.syncing_until is None else min(wakeup, node.syncing_until)

    def _due(self) -> list[int]:
        due = set()
        while self._events and self._events[0][0] <= self.now:
            _, _, source, target, message = heapq.heappop(self._events)
            node = self.nodes[target]
            if not node.alive:
                continue
            if node.paused:
                heapq.heappush(self._events, (self.now + 0.05, next(self._number), source, target, message))
                continue
            node.host.receive(source, message, self.now)
            due.add(target)
        for node in self.nodes.values():
            if node.alive and not node.paused and self._wants(node) <= self.now:
                due.add(node.number)
        return sorted(due)

    def turn(self, node: Node) -> None:
        """One turn of a node's loop, as the node process makes it."""
        self.turns += 1
        assert self.turns < TURNS_MAX, "the cluster spins"
        node.host.step(self.now)
        self._sync(node)
        node.host.step(self.now)
        if self.snapshot_jobs:
            for job in node.host.take_snapshot_jobs():
                while not job.step(0.001):
                    pass
        self._collect(node)
        for peer, bundles in node.host.take_messages().items():
            for bundle in bundles:
                self.send(node.number, peer, bundle)

    def _sync(self, node: Node) -> None:
        if node.syncing_until is not None and node.syncing_until <= self.now:
            node.syncing_until = None
            node.host.synced(node.journal.sync(), self.now)
        if node.journal.appended > node.journal.durable and node.syncing_until is None:
            node.journal.flush()
            if node.sync_delay_s == 0:
                node.host.synced(node.journal.sync(), self.now)
            else:
                node.syncing_until = self.now + node.sync_delay_s

    def _collect(self, node: Node) -> None:
        for group, applied in node.host.take_applied():
            rows = node.machines[group].rows
            payload = rows[applied.index - rows[0][0]][2] if applied.index >= rows[0][0] else None
            known = self.history[group].setdefault(applied.index, (applied.term, payload))
            assert known == (applied.term, payload), f"node {node.number} applied another entry at {applied.index}"
            node.applied.append((group, applied))
        for group, replica in node.host.replicas.items():
            if replica.role is Role.LEADER:
                leader = self.leaders.setdefault((group, replica.term), node.number)
                assert leader == node.number, f"two leaders in term {replica.term}"

    def send(self, source: int, target: int, message: bytes) -> None:
        if (source, target) not in self._up or (source, target) in self.cut:
            return
        if self.filter is not None and not self.filter(source, target, message):
            return
        if self.loss and self.rng.random() < self.loss:
            return
        for _ in range(2 if self.repeat and self.rng.random() < self.repeat else 1):
            at = self.now + self.delay_s + self.rng.random() * self.jitter_s
            at = max(at, self._fifo.get((source, target), 0.0))
            self._fifo[(source, target)] = at
            heapq.heappush(self._events, (at, next(self._number), source, target, message))

    # Groups.

    def leader(self, group: int = 1) -> Node | None:
        """The ready leader of the highest term."""
        found = [
            node
            for node in self.alive()
            if group in node.host.replicas and not node.paused and node.host.replicas[group].ready
        ]
        return max(found, key=lambda node: node.host.replicas[group].term, default=None)

    def elect(self, group: int = 1, limit_s: float = 10.0) -> Node:
        self.run_until(lambda: self.leader(group) is not None, limit_s)
        leader = self.leader(group)
        assert leader is not None
        return leader

    def propose(self, payload: bytes, group: int = 1) -> tuple[Node, Proposal] | None:
        leader = self.leader(group)
        if leader is None:
            return None
        try:
            return leader, leader.host.propose(group, payload, self.now)
        except NotLeader:
            return None

    def put(self, payload: bytes, group: int = 1, limit_s: float = 10.0) -> Proposal:
        """Propose and wait until the leader has applied it."""
        leader = self.elect(group)
        proposal = leader.host.propose(group, payload, self.now)
        self.run_until(lambda: self.history[group].get(proposal.index) == (proposal.term, payload), limit_s)
        return proposal

    def settle(self, group: int = 1, limit_s: float = 20.0) -> None:
        """Until all live replicas have applied the same."""

        def same() -> bool:
            replicas = [node.host.replicas[group] for node in self.alive() if group in node.host.replicas]
            last = max(replica.last_index for replica in replicas)
            return self.leader(group) is not None and all(replica.applied_index == last for replica in replicas)

        self.run_until(same, limit_s)

    def machine(self, number: int, group: int = 1) -> Recorder:
        return self.nodes[number].machines[group]
