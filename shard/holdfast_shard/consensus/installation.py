"""Catching up a follower by snapshot: raw bytes by offset, verified whole before anything changes or is acknowledged.

Replaces the library's sending and installing of dumps.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from .config import ReplicaConfig
from .messages import SnapshotChunk, SnapshotProgress

if TYPE_CHECKING:
    from .replica import Replica
    from .snapshots import Snapshot, SnapshotReceiver

REPLACES: Final = ("Serializer", "_SyncObj__loadDumpFile")


class _Transfer:
    """Leader's side. Invariant: acknowledged <= sent <= snapshot.size."""

    __slots__ = ("acknowledged", "nudged_at", "rewound_to", "sent", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.sent = 0
        self.acknowledged = 0
        self.nudged_at = -1
        self.rewound_to = -1
        """Where the last rewinding went: everything under way behind a gap asks for it, and one time is enough."""


class _Arrival:
    """Follower's side: one snapshot partly received."""

    __slots__ = ("identity", "offset", "writer")

    def __init__(self, identity: tuple[int, int, int, int], writer: SnapshotReceiver) -> None:
        self.identity = identity
        self.writer = writer
        self.offset = 0


class Installation:
    def __init__(self, replica: Replica, config: ReplicaConfig) -> None:
        self._replica = replica
        self._config = config
        self._transfers: dict[int, _Transfer] = {}
        self._arrival: _Arrival | None = None
        self.refused = 0
        """Snapshots that were damaged or could not be loaded."""
        self.installed = 0

    # Leader.

    def offer(self, peer: int) -> None:
        snapshot = self._replica.compaction.snapshot
        assert snapshot is not None, "a log that does not begin at 1 has a snapshot"
        transfer = self._transfers.get(peer)
        if transfer is None:
            self._transfers[peer] = _Transfer(snapshot)
        else:
            transfer.sent = transfer.acknowledged
        self._send(peer)

    @property
    def sending(self) -> bool:
        return bool(self._transfers)

    def accepted(self, peer: int) -> None:
        self._transfers.pop(peer, None)

    def left_office(self) -> None:
        self._transfers.clear()

    def lost(self, peer: int) -> None:
        """The connection broke; on the next one, go on from what was confirmed."""
        self._transfers.pop(peer, None)

    def nudge(self, peer: int, match: int) -> None:
        """The follower answered a heartbeat: where it confirmed nothing since the last one, send the window again."""
        transfer = self._transfers.get(peer)
        if transfer is None or match >= transfer.snapshot.index:
            self._transfers.pop(peer, None)
            self.offer(peer)
            return
        transfer.rewound_to = -1
        if transfer.nudged_at == transfer.acknowledged:
            transfer.sent = transfer.acknowledged
            self._send(peer)
        else:
            transfer.nudged_at = transfer.acknowledged

    def _send(self, peer: int) -> None:
        transfer = self._transfers[peer]
        replica = self._replica
        newest = replica.compaction.snapshot
        if newest is not None and replica.log.first_index > transfer.snapshot.index:
            # What follows the one under way has left the log: the follower would need another at once.
            transfer = self._transfers[peer] = _Transfer(newest)
        snapshot = transfer.snapshot
        if not replica.reachable(peer):
            return
        while transfer.sent < snapshot.size and (
            transfer.sent - transfer.acknowledged < self._config.snapshot_window_bytes
        ):
            data = snapshot.read(transfer.sent, self._config.snapshot_chunk_bytes)
            chunk = SnapshotChunk(
                replica.group, replica.term, snapshot.index, snapshot.term, snapshot.size, snapshot.crc,
                transfer.sent, zlib.crc32(data), data,
            )  # fmt: skip
            replica.send(peer, chunk)
            transfer.sent += len(data)

    def on_progress(self, peer: int, message: SnapshotProgress, now: float) -> None:
        transfer = self._transfers.get(peer)
        self._replica.replication.alive(peer, now)
        if transfer is None or transfer.snapshot.index != message.index or message.offset > transfer.snapshot.size:
            return
        if message.resend:
            if message.offset == transfer.rewound_to:
                return
            transfer.sent = transfer.acknowledged = transfer.rewound_to = message.offset
        else:
            transfer.acknowledged = max(transfer.acknowledged, message.offset)
            transfer.sent = max(transfer.sent, transfer.acknowledged)
        self._send(peer)

    # Follower.

    def on_chunk(self, peer: int, message: SnapshotChunk, now: float) -> None:
        replica = self._replica
        if not replica.follow(peer, message.term, now):
            return
        if self.not_newer(message):
            self._drop_arrival()
            # Whatever is committed is also the leader's.
            replica.durability.match(message.term, replica.log.commit_index)
            replica.following.ack_due = True
            return
        arrival = self._arriving(message)
        whole = self.chunk_is_whole(message)
        if message.offset == arrival.offset and whole and message.offset + len(message.data) <= message.size:
            arrival.writer.write(message.data)
            arrival.offset += len(message.data)
            if arrival.offset == message.size:
                self._complete(peer, message, arrival, now)
                return
            self._report(peer, message, arrival.offset, resend=False)
        elif message.offset > arrival.offset or not whole:
            self._report(peer, message, arrival.offset, resend=True)
        else:
            # A part that is here already: a repetition, or a leader that starts over and may skip what is here.
            self._report(peer, message, arrival.offset, resend=False)

    def chunk_is_whole(self, message: SnapshotChunk) -> bool:
        return bool(message.data) and zlib.crc32(message.data) == message.chunk_crc

    def not_newer(self, message: SnapshotChunk) -> bool:
        """One at or below the commit index would replace newer state by older."""
        return message.index <= self._replica.log.commit_index

    def _report(self, peer: int, message: SnapshotChunk, offset: int, *, resend: bool) -> None:
        self._replica.send(peer, SnapshotProgress(self._replica.group, message.term, message.index, offset, resend))

    def _arriving(self, message: SnapshotChunk) -> _Arrival:
        identity = (message.index, message.snapshot_term, message.size, message.crc)
        if self._arrival is None or self._arrival.identity != identity:
            self._drop_arrival()
            self._arrival = _Arrival(identity, self._replica.compaction.receive(*identity))
        return self._arrival

    def forget_covered(self, index: int) -> None:
        """This replica's own state has reached what was arriving."""
        if self._arrival is not None and self._arrival.identity[0] <= index:
            self._drop_arrival()

    def _drop_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.writer.abort()
            self._arrival = None

    def _complete(self, peer: int, message: SnapshotChunk, arrival: _Arrival, now: float) -> None:
        self._arrival = None
        if not self.verify_and_restore(arrival):
            self.refused += 1
            self._report(peer, message, 0, resend=True)
            return
        replica = self._replica
        replica.log.restart_at(message.index, message.snapshot_term)
        replica.engine.installed(message.index)
        replica.durability.installed(message.index)
        replica.durability.match(message.term, message.index)
        replica.following.ack_due = True
        self.installed += 1
        replica.compaction.replaced()

    def verify_and_restore(self, arrival: _Arrival) -> bool:
        """Whether the snapshot is whole, on disk and loaded; if not, nothing has changed."""
        return self._replica.compaction.adopt(arrival.writer)
