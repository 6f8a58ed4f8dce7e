"""Snapshots of this replica's own state, and forgetting the log behind them.

Replaces the library's dump and log compaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from .config import ReplicaConfig
from .machine_interface import StateMachine
from .snapshots import SnapshotDamaged

if TYPE_CHECKING:
    from .journal import Journal
    from .replica import Replica
    from .snapshots import Snapshot, SnapshotReceiver, SnapshotStore, SnapshotWriter

REPLACES: Final = ("_SyncObj__tryLogCompaction", "_SyncObj__loadDumpFile", "Serializer")

CHUNKS_PER_STEP: Final = 16
"""Where no stopwatch is given."""
PATIENCE: Final = 4
"""While a follower is being sent the present snapshot, the next one waits until the log is this many times too long."""


class SnapshotJob:
    """Writing one snapshot, in small steps between turns of the loop."""

    def __init__(
        self,
        compaction: Compaction,
        writer: SnapshotWriter,
        chunks: Iterator[bytes],
        stopwatch: Callable[[], float] | None,
    ) -> None:
        self._compaction = compaction
        self._writer = writer
        # A generator does nothing before its first chunk is asked for; the state it exports is the one of now.
        self._first = next(chunks, None)
        self._chunks = chunks
        self._stopwatch = stopwatch
        self.done = False

    @property
    def group(self) -> int:
        return self._compaction.group

    def step(self, budget_s: float) -> bool:
        """Write chunks for about `budget_s` seconds; returns whether the snapshot is finished or given up."""
        if self.done:
            return True
        if self._first is not None:
            self._writer.write(self._first)
            self._first = None
        ends = self._stopwatch() + budget_s if self._stopwatch else 0.0
        for written, chunk in enumerate(self._chunks, start=1):
            self._writer.write(chunk)
            if self._stopwatch() >= ends if self._stopwatch else written >= CHUNKS_PER_STEP:
                return False
        self.done = True
        self._compaction.finished(self._writer.finish())
        return True

    def abort(self) -> None:
        """The exported state was replaced."""
        if not self.done:
            self.done = True
            self._chunks = iter(())
            self._writer.abort()


class Compaction:
    def __init__(
        self,
        replica: Replica,
        machine: StateMachine,
        journal: Journal,
        store: SnapshotStore,
        config: ReplicaConfig,
        stopwatch: Callable[[], float] | None,
    ) -> None:
        self._replica = replica
        self._machine = machine
        self._journal = journal
        self._store = store
        self._config = config
        self._stopwatch = stopwatch
        self.snapshot: Snapshot | None = store.latest()
        """The newest whole one."""
        self._job: SnapshotJob | None = None
        self._size_at_snapshot = 0
        """Log bytes that the newest snapshot covers or that came before it."""
        self._job_size = 0
        self.taken = 0
        if self.snapshot is not None:
            machine.restore(self.snapshot.chunks())

    @property
    def group(self) -> int:
        return self._replica.group

    def anchor(self) -> tuple[int, int] | None:
        return (self.snapshot.index, self.snapshot.term) if self.snapshot else None

    def started(self) -> None:
        """The log has been read."""
        covered = self.snapshot.index if self.snapshot else 0
        self._size_at_snapshot = self._replica.log.size_bytes - self._replica.log.bytes_after(covered)

    def due(self) -> SnapshotJob | None:
        """A new job when the log since the last snapshot has grown beyond its limit."""
        if self._job is not None and not self._job.done:
            return None
        size = self._replica.log.size_bytes - self._size_at_snapshot
        limit = max(self._config.snapshot_log_bytes, self.snapshot.size if self.snapshot else 0)
        if size <= limit or (size <= limit * PATIENCE and self._replica.installation.sending):
            return None
        return self.begin()

    def begin(self) -> SnapshotJob | None:
        """Start a snapshot of what is applied; None when there is nothing new to take."""
        index = self._replica.engine.applied_index
        term = self._replica.log.term_at(index)
        if term is None or (self.snapshot is not None and index <= self.snapshot.index) or index <= 1:
            return None
        self._job_size = self._replica.log.size_bytes - self._replica.log.bytes_after(index)
        self._replica.installation.forget_covered(index)
        writer = self._store.begin(index, term)
        self._job = SnapshotJob(self, writer, self._machine.export(), self._stopwatch)
        return self._job

    def finished(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.taken += 1
        self._size_at_snapshot = self._job_size
        self._drop(snapshot.index)

    def _drop(self, index: int) -> None:
        log = self._replica.log
        start = log.tail_start(index, self._config.kept_tail_bytes)
        before = log.size_bytes
        log.drop_before(start)
        self._size_at_snapshot -= before - log.size_bytes
        if log.first_index > 1:
            self._journal.release(self.group, log.first_index if start == index else log.first_index - 1)

    def _abandon_job(self) -> None:
        if self._job is not None:
            self._job.abort()
            self._job = None

    def receive(self, index: int, term: int, size: int, crc: int) -> SnapshotReceiver:
        return self._store.receive(index, term, size, crc)

    def adopt(self, receiver: SnapshotReceiver) -> bool:
        """Make a received snapshot this replica's own: verified, on disk, loaded. Otherwise nothing changes."""
        try:
            snapshot = receiver.finish()
        except SnapshotDamaged:
            return False
        # An export under way is of the state that is about to go.
        self._abandon_job()
        try:
            self._machine.restore(snapshot.chunks())
        except (SnapshotDamaged, ValueError):
            snapshot.discard()
            return False
        self.snapshot = snapshot
        self._store.remove_older(snapshot.index)
        return True

    def replaced(self) -> None:
        """The state, the log and the snapshot are those of a leader now."""
        assert self.snapshot is not None
        self._size_at_snapshot = self._replica.log.size_bytes - self._replica.log.bytes_after(self.snapshot.index)
        self._journal.release(self.group, self.snapshot.index)
