"""The leader's side of replication: what to send to whom, and what may be counted.

Replaces the library's sending loop. A window in bytes per follower; the commit index rides on what goes next, or on the
heartbeat.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Final

from .config import ReplicaConfig
from .messages import Ack, Append, Count, Reject

if TYPE_CHECKING:
    from .replica import Replica

REPLACES: Final = ("_SyncObj__sendAppendEntries", "_SyncObj__raftNextIndex", "_checkCommandsToApply", "_applyCommand")

PROBE_BYTES: Final = 64 << 10


class Sending(enum.Enum):
    PROBE = 0
    """One append under way until the follower has shown where its log agrees."""
    STREAM = 1
    SNAPSHOT = 2


class Progress:
    """What the leader knows of one follower.

    Invariants: match < next; match never falls within a term; next never falls to or below match; `in_flight` holds
    (last index, bytes) of appends between match and next, `in_flight_bytes` their sum.
    """

    __slots__ = ("in_flight", "in_flight_bytes", "match", "next", "probing", "state")

    def __init__(self, following: int) -> None:
        self.match = 0
        self.next = following
        self.state = Sending.PROBE
        self.probing = False
        self.in_flight: deque[tuple[int, int]] = deque()
        self.in_flight_bytes = 0

    def restart(self, following: int) -> None:
        """Look for the agreement again; everything under way counts as lost."""
        self.state = Sending.PROBE
        self.probing = False
        self.next = max(following, self.match + 1)
        self.in_flight.clear()
        self.in_flight_bytes = 0

    def acknowledged(self, index: int) -> None:
        self.match = max(self.match, index)
        self.next = max(self.next, self.match + 1)
        flight = self.in_flight
        while flight and flight[0][0] <= self.match:
            self.in_flight_bytes -= flight.popleft()[1]


class Replication:
    def __init__(self, replica: Replica, config: ReplicaConfig) -> None:
        self._replica = replica
        self._config = config
        self.progress: dict[int, Progress] = {}
        """Per follower, while this replica leads."""
        self.forgetful: set[int] = set()
        """Followers that lack what they acknowledged in this term. They are sent nothing more."""

    def took_office(self) -> None:
        # The no-op is the last entry; what is below it is where agreement is looked for first.
        self.progress = {peer: Progress(self._replica.log.last_index) for peer in self._replica.peers}

    def left_office(self) -> None:
        self.progress.clear()
        self.forgetful.clear()

    def match(self, peer: int) -> int:
        progress = self.progress.get(peer)
        return progress.match if progress else 0

    def sent(self, peer: int) -> int:
        """The last index that the follower should have by now; 0 while that is being found out."""
        progress = self.progress[peer]
        return progress.next - 1 if progress.state is Sending.STREAM else 0

    def connection_changed(self, peer: int) -> None:
        """What was under way on the old connection may be lost."""
        progress = self.progress.get(peer)
        if progress:
            progress.restart(progress.match + 1 if progress.match else progress.next)

    # Sending.

    def pump(self) -> None:
        replica = self._replica
        last = replica.log.last_index
        for peer, progress in self.progress.items():
            if progress.state is Sending.STREAM:
                if progress.next <= last and self.window_open(progress):
                    self._stream(peer, progress, last)
            elif progress.state is Sending.PROBE and not progress.probing and self._may_send(peer):
                self._probe(peer, progress)

    def window_open(self, progress: Progress) -> bool:
        """Whether more may be under way to a follower: it and the network decide the pace, not the log's length."""
        return progress.in_flight_bytes < self._config.inflight_bytes

    def _may_send(self, peer: int) -> bool:
        return self._replica.reachable(peer) and peer not in self.forgetful

    def _stream(self, peer: int, progress: Progress, last: int) -> None:
        if not self._may_send(peer):
            return
        while progress.next <= last and self.window_open(progress):
            if progress.next <= self._replica.log.first_index:
                self._send_snapshot(peer, progress)
                return
            count, size = self._append(peer, progress.next, self._config.append_bytes)
            progress.next += count
            progress.in_flight.append((progress.next - 1, size))
            progress.in_flight_bytes += size

    def _probe(self, peer: int, progress: Progress) -> None:
        if progress.next <= self._replica.log.first_index:
            self._send_snapshot(peer, progress)
            return
        progress.probing = True
        self._append(peer, progress.next, PROBE_BYTES)

    def _send_snapshot(self, peer: int, progress: Progress) -> None:
        progress.state = Sending.SNAPSHOT
        self._replica.installation.offer(peer)

    def _append(self, peer: int, following: int, size_max: int) -> tuple[int, int]:
        """Send entries from `following` on, at least one if there is one; returns their number and bytes."""
        replica = self._replica
        log = replica.log
        entries: list[tuple[Count, bytes]] = []
        size = 0
        for index in range(following, log.last_index + 1):
            command, _, term = log.entry(index)
            if entries and size + len(command) > size_max:
                break
            entries.append((term, command))
            size += len(command)
        previous_term = log.entry(following - 1)[2]
        commit = replica.engine.commit_index
        replica.send(peer, Append(replica.group, replica.term, following - 1, previous_term, commit, entries))
        return len(entries), size

    # Answers.

    def alive(self, peer: int, now: float) -> None:
        """The follower answered in this term; that counts for check-quorum, and for nothing else."""
        if peer in self.progress:
            self._replica.engine.acknowledged(peer, 0, now)

    def on_ack(self, peer: int, message: Ack, now: float) -> None:
        self.acknowledged(peer, message.index, now)

    def complete(self, peer: int) -> bool:
        """Whether the follower has been sent all that there is, and nothing is being found out about it."""
        progress = self.progress.get(peer)
        return progress is None or (progress.state is Sending.STREAM and progress.next > self._replica.log.last_index)

    def acknowledged(self, peer: int, index: int, now: float) -> None:
        """The follower holds the log of this term up to `index` on its disk (0: it is alive, and nothing more)."""
        progress = self.progress.get(peer)
        if progress is None:
            return
        if index > self._replica.log.last_index:
            self._replica.following.refused += 1
            return
        if index > 0:
            progress.acknowledged(index)
            self._agreed(peer, progress)
        elif progress.state is Sending.PROBE:
            progress.probing = False
        elif progress.state is Sending.SNAPSHOT:
            self._replica.installation.nudge(peer, progress.match)
        self.count(peer, progress, now)

    def _agreed(self, peer: int, progress: Progress) -> None:
        """The follower's log is known to be this one up to `match`: stream what follows, if it is still in the log."""
        if progress.state is Sending.STREAM:
            return
        if progress.next <= self._replica.log.first_index:
            if progress.state is Sending.SNAPSHOT:
                self._replica.installation.nudge(peer, progress.match)
            elif self._may_send(peer):
                # What it needs left the log while it was being asked.
                self._send_snapshot(peer, progress)
            return
        self._replica.installation.accepted(peer)
        progress.restart(progress.match + 1)
        progress.state = Sending.STREAM

    def count(self, peer: int, progress: Progress, now: float) -> None:
        """Let the commit rule count a follower, as far as the leader's own disk reaches."""
        replica = self._replica
        replica.engine.acknowledged(peer, replica.durability.countable(progress.match), now)
        if self._majority_index() > replica.engine.commit_index:
            replica.count_soon()

    def _majority_index(self) -> int:
        """What a majority holds; the commit rule is asked only when that has grown."""
        counted = sorted((self._replica.engine.counted(peer) for peer in self.progress), reverse=True)
        return counted[len(self._replica.members) // 2 - 1]

    def durable_grew(self, now: float) -> None:
        """Acknowledgements that were cut to the leader's disk count for more now."""
        for peer, progress in self.progress.items():
            if progress.match > self._replica.engine.counted(peer):
                self.count(peer, progress, now)

    def on_reject(self, peer: int, message: Reject, now: float) -> None:
        progress = self.progress.get(peer)
        if progress is None:
            return
        self.alive(peer, now)
        if progress.state is Sending.SNAPSHOT:
            return
        if progress.state is Sending.PROBE:
            if message.previous_index != progress.next - 1:
                return
            if message.previous_index <= progress.match:
                # It acknowledged this in this very term: its directory was copied back, or its disk lied.
                self.forgetful.add(peer)
                return
        elif message.previous_index <= progress.match:
            return
        progress.restart(min(message.hint, message.previous_index))
