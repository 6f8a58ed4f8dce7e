"""Bugs of the journal and of snapshot files."""

from __future__ import annotations

from holdfast_shard.consensus import records, snapshots
from holdfast_shard.consensus.disk import DiskError
from holdfast_shard.consensus.journal import Journal, JournalFailed
from holdfast_shard.consensus.records import KEPT, START
from holdfast_shard.consensus.segments import GroupLog
from holdfast_shard.consensus.snapshots import Snapshot, SnapshotReceiver, SnapshotStore, SnapshotWriter
from tests.consensus.journal_bugs import BUGS

from .mutant import Mutant, Promise, Selection, Simulation, patch

_JOURNAL = Selection(("tests/consensus/test_journal.py",))
_SNAPSHOTS = Selection(("tests/consensus/test_snapshots.py",))
_RECOVERY = Selection(("tests/consensus/test_recovery.py", "tests/consensus/test_random_schedules.py"))


# The journal.


def _syncs_nothing(self: Journal) -> int:
    self.durable = self.flushed
    return self.durable


def _acknowledges_what_came_meanwhile(self: Journal) -> int:
    _SYNC(self)
    self.durable = self.flushed
    return self.durable


def _tries_again_after_a_failure(self: Journal, error: DiskError) -> JournalFailed:
    failed = _FAILED(self, error)
    self._failure = None
    return failed


def _truncates_in_memory_alone(self: Journal, group: int, from_index: int) -> int:
    self._groups[group].truncate(from_index)
    return self.appended


def _keeps_any_tail(self: Journal, group: int, index: int, term: int) -> int:
    log = self._groups.setdefault(group, GroupLog())
    number = self._append(START, group, index, term, KEPT)
    log.start(index, kept=True)
    return number


_SYNC, _FAILED = Journal.sync, Journal._failed


# Snapshot files.


def _seals_without_sync(self: snapshots._Draft) -> None:
    self._write_out()
    assert self._file is not None
    self._file.close()


def _publishes_without_sync(self: snapshots._Draft) -> None:
    self.disk.rename(self.temporary, self.name)
    self._file = None


def _removes_the_older_first(self: SnapshotStore, index: int, term: int) -> SnapshotWriter:
    self.remove_older(index)
    return _BEGIN(self, index, term)


def _takes_any_snapshot(self: SnapshotReceiver) -> Snapshot:
    self._draft.seal()
    self._draft.publish()
    return self._store.verify(self._draft.name)


def _believes_every_file(self: SnapshotStore, name: str) -> Snapshot:
    file = self._disk.open(name)
    begin = file.read(0, snapshots._HEADER.size)
    _, _, index, term = snapshots._HEADER.unpack(begin.ljust(snapshots._HEADER.size, b"\0"))
    return Snapshot(self._disk, file, name, index, term, 0)


_BEGIN = SnapshotStore.begin


MUTANTS = (
    *(Mutant(f"journal: {name}", Promise.DURABLE, apply, (_JOURNAL,)) for name, apply in BUGS.items()),
    Mutant("fsync skipped", Promise.DURABLE, patch(Journal, "sync", _syncs_nothing), (_JOURNAL, Simulation())),
    Mutant(
        "a sync acknowledges what came while it ran", Promise.DURABLE,
        patch(Journal, "sync", _acknowledges_what_came_meanwhile), (_JOURNAL,),
    ),
    Mutant(
        "a failed sync tried again", Promise.DURABLE,
        patch(Journal, "_failed", _tries_again_after_a_failure), (_JOURNAL,),
    ),
    Mutant(
        "truncation not written", Promise.ALIKE, patch(Journal, "append_truncate", _truncates_in_memory_alone),
        (_JOURNAL, Simulation()),
    ),
    Mutant(
        "a start keeps the tail of another history", Promise.ALIKE, patch(Journal, "append_start", _keeps_any_tail),
        (_JOURNAL,),
    ),
    Mutant(
        "bytes of a payload taken for a record", Promise.DURABLE,
        patch(records, "is_whole", lambda *_: True), (_JOURNAL,),
    ),
    Mutant(
        "nothing proves the last record", Promise.DURABLE,
        patch(Journal, "mark", lambda self: self.appended), (_JOURNAL,),
    ),
    Mutant(
        "a snapshot renamed before it is synced", Promise.WHOLE_SNAPSHOTS,
        patch(snapshots._Draft, "seal", _seals_without_sync), (_SNAPSHOTS,),
    ),
    Mutant(
        "a snapshot's name never synced", Promise.WHOLE_SNAPSHOTS,
        patch(snapshots._Draft, "publish", _publishes_without_sync), (_SNAPSHOTS, _RECOVERY),
    ),
    Mutant(
        "the older snapshot removed first", Promise.WHOLE_SNAPSHOTS,
        patch(SnapshotStore, "begin", _removes_the_older_first),
        (_SNAPSHOTS,),
    ),
    Mutant(
        "a received snapshot not compared with the one announced", Promise.WHOLE_SNAPSHOTS,
        patch(SnapshotReceiver, "finish", _takes_any_snapshot), (_SNAPSHOTS,),
    ),
    Mutant(
        "a damaged snapshot read as whole", Promise.WHOLE_SNAPSHOTS,
        patch(SnapshotStore, "verify", _believes_every_file),
        (_SNAPSHOTS,),
    ),
)  # fmt: skip
