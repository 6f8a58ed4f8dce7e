"""All replicas of one node: what the node process and the simulator drive."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from .compaction import SnapshotJob
from .config import ReplicaConfig
from .links import Link
from .machine_interface import Applied, Proposal, ReplicaHalted, StateMachine
from .messages import Beat, BeatReply, GroupMessage, Message, decode
from .replica import Replica

if TYPE_CHECKING:
    from .journal import Journal, RecoveredGroup
    from .snapshots import SnapshotStore

TURN_MAX_S: Final = 0.1
"""One turn of the loop counts at most this much lease time: a stall, or a jump of the clock, ends nobody's lease."""
LEADING_TURN_S: Final = 0.05
"""While leading, turns come at least this often, so that the cap does not slow the stopwatch down."""


class Host:
    """Sans-io: input and time come in through the methods, messages, results and the next wake-up go out.

    Per turn of the driver's loop: deliver inputs, `step`, flush and sync the journal, `synced`, `step`, send
    `take_messages`, hand out `take_applied`. `stopwatch` (seconds) bounds applying by time; without one it is bounded
    by bytes, which keeps runs of a simulator alike.
    """

    def __init__(
        self,
        *,
        node: int,
        members: Mapping[int, Sequence[int]],
        machines: Mapping[int, StateMachine],
        journal: Journal,
        recovered: Mapping[int, RecoveredGroup],
        snapshots: Mapping[int, SnapshotStore],
        rng: random.Random,
        config: ReplicaConfig,
        now: float,
        stopwatch: Callable[[], float] | None = None,
        fresh: bool = False,
    ) -> None:
        config.validate()
        self.node: Final = node
        self.disk_stalled = False
        self.halted = False
        self.dropped = 0
        """Messages that were unreadable, stale, repeated, or about a group that the two nodes do not share."""
        self._journal = journal
        self._config = config
        self._turn_at = now
        self._turned = 0.0
        self._write_times: deque[tuple[int, float]] = deque()
        """(write number, when) of writes that are not durable, oldest first; marked once per step."""
        self._marked = journal.appended
        """Write number up to which times are noted."""
        self._durable = journal.durable
        peers = sorted({peer for numbers in members.values() for peer in numbers if peer != node})
        self._links = {peer: Link(peer, rng) for peer in peers}
        self._awake: dict[int, Replica] = {}
        self._writing: dict[int, Replica] = {}
        """Replicas that may have writes which are not durable."""
        self._answering: dict[int, Replica] = {}
        """Followers that may owe their leader an acknowledgement."""
        self._timers: list[tuple[float, int]] = []
        self._phase = rng.random() * config.heartbeat_s
        """So that the nodes of one machine do not all beat at the same moment."""
        self._beat_at = now
        self._applied: list[tuple[int, Applied]] = []
        self._replies: dict[int, list[tuple[int, int, int]]] = {}
        self._jobs: list[SnapshotJob] = []
        self._led = 0
        """How many groups this node leads."""
        self.replicas: Mapping[int, Replica] = {
            group: Replica(
                group, node, members[group], self, machines[group], journal, recovered.get(group),
                snapshots[group], rng, config, stopwatch, now, fresh,
            )
            for group in sorted(members)
        }  # fmt: skip
        for group, replica in self.replicas.items():
            heapq.heappush(self._timers, (replica.elections.deadline, group))
        self._armed = {group: replica.elections.deadline for group, replica in self.replicas.items()}
        self._shared = {
            peer: [replica for replica in self.replicas.values() if peer in replica.peers] for peer in peers
        }

    # Input.

    def connected(self, peer: int, now: float) -> None:
        """A connection to `peer` is up; it replaces any earlier one. A node that shares no group is ignored."""
        if peer not in self._links:
            return
        self._links[peer].connected()
        self._replies.pop(peer, None)
        for replica in self._shared[peer]:
            replica.connected(peer, now)

    def disconnected(self, peer: int, now: float) -> None:
        link = self._links.get(peer)
        if link is None or not link.up:
            return
        link.disconnected()
        self._replies.pop(peer, None)
        for replica in self._shared[peer]:
            replica.disconnected(peer, now)

    def receive(self, peer: int, message: bytes, now: float) -> None:
        """Any bytes; what is bad is counted and dropped. Raises JournalFailed and ReplicaHalted, having halted."""
        link = self._links.get(peer)
        if link is None or self.halted or len(message) > self._config.message_bytes_max:
            self.dropped += 1
            return
        try:
            bundle = decode(message)
        except msgspec.DecodeError:
            self.dropped += 1
            return
        was_established = link.established
        if not link.accept(bundle):
            self.dropped += 1
            return
        if not was_established:
            for replica in self._shared[peer]:
                self.wake(replica)
        try:
            for part in bundle.messages:
                self._dispatch(peer, part, now)
        except Exception:
            # Not the message's fault: the journal failed, or an invariant would have been broken.
            self.halt()
            raise

    def _dispatch(self, peer: int, message: Message, now: float) -> None:
        if isinstance(message, Beat):
            self._on_beat(peer, message, now)
        elif isinstance(message, BeatReply):
            for group, term, index in message.follows:
                replica = self.replicas.get(group)
                if replica is not None and peer in replica.peers:
                    replica.on_beat_reply(peer, term, index, now)
        else:
            replica = self.replicas.get(message.group)
            if replica is None or peer not in replica.peers:
                self.dropped += 1
                return
            replica.receive(peer, message, now)

    def _on_beat(self, peer: int, beat: Beat, now: float) -> None:
        replies = self._replies.setdefault(peer, [])
        for group, term, commit, sent in beat.leads:
            replica = self.replicas.get(group)
            if replica is None or peer not in replica.peers:
                self.dropped += 1
                continue
            index = replica.on_beat(peer, term, commit, sent, now)
            if index is not None and replica.durability.term_is_durable():
                replies.append((group, term, index))

    def propose(self, group: int, payload: bytes, now: float) -> Proposal:
        """Append at once in the present term. Raises NotLeader, EntryTooLarge, JournalFailed, ReplicaHalted."""
        self._require_running()
        replica = self.replicas[group]
        replica.may_propose(payload)
        try:
            return replica.propose(payload, now)
        except Exception:
            self.halt()
            raise

    def transfer(self, group: int, target: int, now: float) -> None:
        """Hand a group's leadership to another of its members."""
        self._require_running()
        self.replicas[group].transfer(target, now)

    def leave_office(self, now: float) -> bool:
        """Hand whatever is led here to the connected member that has most of it; call again while it says True."""
        if self.halted:
            return False
        leading = False
        for replica in self.replicas.values():
            heirs = [peer for peer in replica.peers if self._links[peer].established]
            if replica.engine.leading and heirs:
                leading = True
                if replica.elections.handover is None:
                    replica.transfer(max(heirs, key=replica.replication.match), now)
        return leading

    def synced(self, write: int, now: float) -> None:
        """The journal is durable up to `write`."""
        if self.halted or write <= self._durable:
            return
        self._durable = write
        while self._write_times and self._write_times[0][0] <= write:
            self._write_times.popleft()
        for group in [group for group, replica in self._writing.items() if replica.synced(write, now)]:
            del self._writing[group]

    def halt(self) -> None:
        """The disk failed (a failed sync is never tried again): nothing is said, applied or promised any more."""
        self.halted = True
        self._applied.clear()
        for link in self._links.values():
            link.outbox.clear()

    def _require_running(self) -> None:
        if self.halted:
            raise ReplicaHalted(f"node {self.node} has stopped taking part: its journal failed")

    # Work.

    def step(self, now: float) -> None:
        """Run due timers and all work that the inputs made. Raises JournalFailed and ReplicaHalted, having halted."""
        self._require_running()
        try:
            self._step(now)
        except Exception:
            self.halt()
            raise

    def _step(self, now: float) -> None:
        self._turned += min(max(now - self._turn_at, 0.0), TURN_MAX_S)
        self._turn_at = max(now, self._turn_at)
        self._check_disk(now)
        while self._timers and self._timers[0][0] <= now:
            at, group = heapq.heappop(self._timers)
            if at != self._armed[group]:
                continue
            replica = self.replicas[group]
            replica.timer(now)
            self._armed[group] = self._look_at(replica.elections.deadline, now)
            heapq.heappush(self._timers, (self._armed[group], group))
        awake, self._awake = self._awake, {}
        for replica in awake.values():
            if replica.work(self._applied, now):
                self.wake(replica)
            job = replica.compaction.due()
            if job is not None:
                self._jobs.append(job)
            self._arm(replica)
        if now >= self._beat_at:
            self._beat_at = self.next_beat(now)
            self._beat()
        self._note_writes(now)

    def _look_at(self, deadline: float, now: float) -> float:
        """When to look at a deadline. A distant one mostly moves away meanwhile: it is first looked at together with
        those of other groups, before it comes."""
        near = 2 * self._config.heartbeat_s
        return max(deadline, now) if deadline - now <= near else self.next_beat(deadline - near)

    def _arm(self, replica: Replica) -> None:
        """A deadline that moved closer; one that moved away is looked at when the old one comes."""
        deadline = replica.elections.deadline
        if deadline < self._armed[replica.group]:
            self._armed[replica.group] = deadline
            heapq.heappush(self._timers, (deadline, replica.group))

    def _note_writes(self, now: float) -> None:
        journal = self._journal
        if journal.appended > self._marked:
            self._marked = journal.appended
            self._write_times.append((self._marked, now))

    def _check_disk(self, now: float) -> None:
        oldest = self._write_times[0][1] if self._write_times else now
        self.disk_stalled = now - oldest > self._config.election_min_s
        if self.disk_stalled:
            for replica in self.replicas.values():
                replica.step_down(now)

    def _beat(self) -> None:
        for peer, link in self._links.items():
            if not link.established:
                link.greet()
                continue
            leads = [
                (replica.group, replica.term, replica.commit_index, replica.replication.sent(peer))
                for replica in self._shared[peer]
                if replica.engine.leading
            ]
            if leads:
                link.outbox.append(Beat(leads))

    # Output.

    def take_messages(self) -> dict[int, list[bytes]]:
        """What may leave now, by peer, in order."""
        if self.halted:
            return {}
        self._acknowledge()
        out = {}
        for peer, link in self._links.items():
            replies = self._replies.pop(peer, None)
            if replies and link.established:
                link.outbox.append(BeatReply(replies))
            bundles = link.take() if link.up else []
            if bundles:
                out[peer] = bundles
        return out

    def _acknowledge(self) -> None:
        answering, self._answering = self._answering, {}
        for group, replica in answering.items():
            leader = replica.leader
            if leader is None or leader == self.node:
                continue
            if not replica.durability.term_is_durable():
                self._answering[group] = replica
            elif self._links[leader].established:
                ack = replica.following.acknowledgement()
                if ack is not None:
                    self._links[leader].outbox.append(ack)

    def take_applied(self) -> list[tuple[int, Applied]]:
        """(group, entry) in the order of application."""
        applied, self._applied = self._applied, []
        return applied

    def take_snapshot_jobs(self) -> list[SnapshotJob]:
        """Snapshots to be written: call `step(budget_s)` of each between turns until it returns True."""
        jobs, self._jobs = self._jobs, []
        return jobs

    @property
    def has_work(self) -> bool:
        """Whether what was received calls for a turn."""
        return bool(self._awake or self._replies) or any(link.speaks for link in self._links.values())

    @property
    def wakeup(self) -> float:
        """When `step` must be called next, at the latest; in the past when there is work left."""
        if self._awake:
            return self._turn_at
        times = [self._beat_at]
        if self._timers:
            times.append(self._timers[0][0])
        if self._led:
            times.append(self._turn_at + LEADING_TURN_S)
        return min(times)

    # What the replicas ask.

    def reachable(self, peer: int) -> bool:
        return self._links[peer].established

    def connection(self, peer: int) -> int:
        return self._links[peer].mine

    def post(self, peer: int, message: GroupMessage) -> None:
        self._links[peer].outbox.append(message)

    def wake(self, replica: Replica) -> None:
        group = replica.group
        self._awake[group] = self._writing[group] = self._answering[group] = replica

    def leading(self, change: int) -> None:
        self._led += change

    def next_beat(self, now: float, count: int = 1) -> float:
        """The `count`-th heartbeat after `now`, on this node's own grid; none that is less than half a period away."""
        period = self._config.heartbeat_s
        beat = ((now - self._phase) // period + count) * period + self._phase
        # Division rounds: the beat of this very moment would come twice.
        return beat if beat > now + period / 2 else beat + period

    def uptime(self, now: float) -> float:
        """Seconds of all turns so far, each capped; never falls, never runs faster than `now`."""
        return self._turned + min(max(now - self._turn_at, 0.0), TURN_MAX_S)
