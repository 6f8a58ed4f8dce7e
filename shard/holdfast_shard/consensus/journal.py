"""The journal: terms, votes and log entries of any number of groups, append-only, one sync for all of them.

Rules: what `sync` acknowledged is found again after any crash, in order, and nothing is ever made up; damage is
refused, never guessed around (`recovery`). A write or sync that failed ends the journal in this process.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import Final

from .cleaning import Carrier, worth_carrying
from .disk import AppendFile, Disk, DiskError, DiskFull
from .records import (
    CARRIED,
    ENTRY,
    HEADER_BYTES,
    KEPT,
    MARK,
    RELEASE,
    REPLACED,
    SEGMENT,
    START,
    TRUNCATE,
    VOTE,
    encode_checkpoint,
    encode_header,
    encode_vote,
    place,
)
from .recovery import JournalDamaged, RecoveredGroup, Recovery, TornTail
from .segments import GroupLog, segment_name

__all__ = ["Journal", "JournalDamaged", "JournalFailed", "JournalFull", "RecoveredGroup", "TornTail"]

SEGMENT_BYTES: Final = 64 << 20
SEGMENT_BYTES_MAX: Final = 1 << 30
CARRY_STEP_BYTES: Final = 64 << 10
CARRY_STEP_FACTOR: Final = 4
CARRY_STEP_RECORDS: Final = 100
"""While entries are carried forward, each append reads about this much of an old segment, or this many times its own
bytes if that is more, and at most so many records: well under a millisecond, yet faster than the journal grows."""


class JournalFailed(DiskError):
    """A write or sync failed. Nothing more can be promised by this process; it is never tried again."""


class JournalFull(JournalFailed, DiskFull):
    """It failed because the disk is full."""


class Journal:
    """`append_*` and `flush` belong to one thread; `sync` may run in another meanwhile, one at a time.

    Write numbers rise by one per record, over the whole life of the journal on disk.
    Invariant: durable <= flushed <= appended.
    """

    def __init__(self, disk: Disk, segment_bytes: int, recovery: Recovery) -> None:
        self._disk = disk
        self._segment_bytes = segment_bytes
        self.torn: TornTail | None = recovery.torn
        """What `open` cut off the end, written but never acknowledged."""
        self.appended = self.flushed = self.durable = recovery.last_number
        self.syncs = 0
        """Since it was opened, of those that had something to wait for."""
        self._groups = recovery.groups
        self._sizes = recovery.segment_sizes
        """Bytes of each segment but the last, oldest first."""
        self._segment = recovery.last_segment
        self._crc_base = place(self._segment, 0)
        self._position = 0
        self._segment_start = 0
        """Where the first record behind the segment's header stands; a segment holds at least one."""
        self._buffers: list[bytes] = []
        self._failure: str | None = None
        self._full = False
        self._unmarked = True
        """Whether anything was appended after the last mark."""
        self._carrier: Carrier | None = None
        # Shared with the thread that syncs.
        self._lock = threading.Lock()
        self._sealed: list[AppendFile] = []
        self._names_synced = True
        self._doomed: list[tuple[int, int]] = []
        """(segment, write number that must be durable before it is deleted), oldest first."""
        self._file: AppendFile | None = None

    @staticmethod
    def open(disk: Disk, *, segment_bytes: int = SEGMENT_BYTES) -> tuple[Journal, dict[int, RecoveredGroup]]:
        """Read everything, cut a torn tail, and make sure that what was read is on the disk.

        Raises JournalDamaged when something that was acknowledged is missing or altered, JournalFailed, DiskError.
        """
        assert 1024 <= segment_bytes <= SEGMENT_BYTES_MAX
        recovery = Recovery(disk)
        journal = Journal(disk, segment_bytes, recovery)
        journal._reopen(recovery)
        return journal, recovery.recovered()

    def _reopen(self, recovery: Recovery) -> None:
        try:
            if self._segment == 0:
                self._begin_segment()
                self.flush()
                self.sync()
            else:
                self._file = self._disk.append(segment_name(self._segment), ahead=True)
                self._position = self._file.size
                # A killed process leaves what it wrote in the page cache, and one whose sync failed leaves it there as
                # if it were on the disk: what was read counts once it was written and synced here.
                self._disk.sync_directory()
                for name, offset in recovery.unproved():
                    self._disk.write_again(name, offset)
                self._collect()
        except DiskError as error:
            raise self._failed(error) from error

    # Appending.

    def append_entry(self, group: int, index: int, term: int, payload: bytes) -> int:
        """Returns the write number. `index` follows the last; the payload is kept until flushed, not copied."""
        log = self._groups.get(group) or GroupLog()
        assert index == log.last + 1 or (log.last == 0 and index > 0), "a log has no gaps"
        if self._carrier is not None:
            self._carry(self._carrier, max(CARRY_STEP_BYTES, CARRY_STEP_FACTOR * len(payload)))
        number = self._append(ENTRY, group, index, term, payload)
        self._groups[group] = log
        log.append(index, term, self._segment, HEADER_BYTES + len(payload))
        return number

    def append_truncate(self, group: int, from_index: int) -> int:
        """Entries from `from_index` on are gone."""
        number = self._append(TRUNCATE, group, from_index)
        self._groups[group].truncate(from_index)
        self._collect()
        return number

    def append_vote(self, group: int, term: int, voted_for: int | None) -> int:
        number = self._append(VOTE, group, encode_vote(voted_for), term)
        log = self._groups.setdefault(group, GroupLog())
        log.term, log.voted_for = term, voted_for
        return number

    def append_start(self, group: int, index: int, term: int) -> int:
        """The log now begins after a snapshot at (index, term); a log without that very entry is replaced."""
        log = self._groups.get(group) or GroupLog()
        kept = log.term_at(index) == term
        number = self._append(START, group, index, term, KEPT if kept else REPLACED)
        self._groups[group] = log
        log.start(index, kept=kept)
        self._collect()
        return number

    def release(self, group: int, index: int) -> None:
        """Entries up to `index` are covered by a durable snapshot and not needed any more."""
        log = self._groups.get(group)
        if log is None or min(index, log.last) <= log.released:
            return
        self._append(RELEASE, group, index)
        log.release(index)
        self._collect()

    @property
    def marked(self) -> bool:
        """Whether the last record proves the one before."""
        return not self._unmarked

    def mark(self) -> int:
        """Note how far the journal is synced, unless that is the last thing noted; returns the last write number.

        To be called, flushed and synced when the journal is idle: only a later record can prove that the last
        acknowledged one was synced.
        """
        if self._unmarked:
            self._append(MARK, 0, 0)
            self._unmarked = False
        return self.appended

    def _append(self, kind: bytes, group: int, index: int, term: int = 0, payload: bytes = b"") -> int:
        length = HEADER_BYTES + len(payload)
        if self._failure is not None:
            raise self._again()
        if self._position + length > self._segment_bytes and self._position > self._segment_start:
            self._rotate()
        self.appended = number = self.appended + 1
        crc_start = self._crc_base ^ self._position
        self._buffers.append(encode_header(kind, group, number, self.durable, index, term, payload, crc_start))
        if payload:
            self._buffers.append(payload)
        self._position += length
        self._unmarked = True
        return number

    # Writing.

    def flush(self) -> int:
        """Hand what was appended to the operating system; returns the highest write number handed over."""
        if self._failure is not None:
            raise self._again()
        if self._buffers:
            self._write()
        return self.flushed

    def _write(self) -> None:
        assert self._file is not None
        buffers, self._buffers = self._buffers, []
        try:
            self._file.write_all(buffers)
        except DiskError as error:
            raise self._failed(error) from error
        self.flushed = self.appended

    def sync(self) -> int:
        """Wait until everything flushed before this call is on the disk; returns the highest durable write number."""
        if self._failure is not None:
            raise self._again()
        with self._lock:
            target = self.flushed
            if target == self.durable:
                return target
            sealed = list(self._sealed)
            file = self._file
            names_synced, self._names_synced = self._names_synced, True
        assert file is not None
        try:
            for earlier in sealed:
                earlier.sync()
            if not names_synced:
                self._disk.sync_directory()
            file.sync()
            self.durable = target
            self.syncs += 1
            for earlier in sealed:
                earlier.close()
            self._delete_doomed(len(sealed))
        except DiskError as error:
            raise self._failed(error) from error
        return target

    def _delete_doomed(self, sealed_count: int) -> None:
        with self._lock:
            del self._sealed[:sealed_count]
            doomed = [segment for segment, number in self._doomed if number <= self.durable]
            del self._doomed[: len(doomed)]
        for segment in doomed:
            # Oldest first and one by one: a gap would be taken for damage.
            self._disk.remove(segment_name(segment))
            self._disk.sync_directory()

    def close(self) -> None:
        """Close the files, without what was written ahead."""
        if self._file is not None and self._failure is None:
            # Where it fails, the next start cuts it off.
            with suppress(DiskError):
                self._file.trim()
        for file in (*self._sealed, self._file):
            if file is not None:
                file.close()
        self._failure = self._failure or "the journal is closed"

    def _failed(self, error: DiskError) -> JournalFailed:
        if isinstance(error, JournalFailed):
            return error
        self._full = isinstance(error, DiskFull)
        self._failure = str(error)
        return self._again()

    def _again(self) -> JournalFailed:
        return (JournalFull if self._full else JournalFailed)(f"the journal failed: {self._failure}")

    # Segments.

    def _rotate(self) -> None:
        self._write()
        assert self._file is not None
        self._sizes[self._segment] = self._position
        self._begin_segment()
        self._collect()

    def _begin_segment(self) -> None:
        try:
            if self._file is not None:
                self._file.trim()
            file = self._disk.append(segment_name(self._segment + 1), ahead=True)
        except DiskError as error:
            raise self._failed(error) from error
        with self._lock:
            if self._file is not None:
                self._sealed.append(self._file)
            self._file = file
            self._names_synced = False
        self._segment += 1
        self._crc_base = place(self._segment, 0)
        self._position = 0
        self._segment_start = SEGMENT_BYTES_MAX
        checkpoint = encode_checkpoint([log.summary(group) for group, log in sorted(self._groups.items())])
        self._append(SEGMENT, 0, 0, 0, checkpoint)
        self._segment_start = self._position

    def _collect(self) -> None:
        """Give up the oldest segments that hold nothing live, once what says so is durable."""
        live = {run.segment for log in self._groups.values() for run in log.runs}
        for segment in list(self._sizes):
            if segment in live:
                break
            del self._sizes[segment]
            with self._lock:
                self._doomed.append((segment, self.appended))
            if self._carrier is not None and self._carrier.segment == segment:
                self._carrier.close()
                self._carrier = None
        total_bytes = sum(self._sizes.values()) + self._position
        if self._carrier is None and self._sizes and worth_carrying(total_bytes, self._groups, self._segment_bytes):
            oldest = next(iter(self._sizes))
            name = segment_name(oldest)
            try:
                self._carrier = Carrier(self._disk.open(name), name, oldest, partial(self._is_live, oldest))
            except DiskError as error:
                raise self._failed(error) from error

    def _is_live(self, segment: int, group: int, index: int, term: int) -> bool:
        log = self._groups.get(group)
        return log is not None and log.stands_in(segment, index, term)

    def _carry(self, carrier: Carrier, bytes_max: int) -> None:
        try:
            for entry in carrier.step(bytes_max, CARRY_STEP_RECORDS):
                self._append(CARRIED, entry.group, entry.index, entry.term, entry.payload)
                log = self._groups[entry.group]
                log.carry(entry.index, self._segment, HEADER_BYTES + len(entry.payload))
        except DiskError as error:
            raise self._failed(error) from error
        if carrier.done and self._carrier is carrier:
            carrier.close()
            self._carrier = None
            self._collect()
