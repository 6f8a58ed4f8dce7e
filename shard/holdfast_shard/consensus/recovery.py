"""Reading the journal back: what was acknowledged, in order, or a refusal.

A crash may leave any of the sectors written since the last sync, in any combination. So a bad record is either torn,
if nothing says that it was ever synced, and is cut off with all that follows; or it is damage. Every record says up to
which number the journal was known to be synced when it was written, and that is what tells the two apart.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .disk import AHEAD_BYTES, Disk, DiskError
from .records import (
    CARRIED,
    ENTRY,
    HEADER,
    HEADER_BYTES,
    KEPT,
    MARK,
    RELEASE,
    SEGMENT,
    START,
    TRUNCATE,
    VOTE,
    decode_checkpoint,
    decode_vote,
    highest_mark,
    place,
)
from .segments import GroupLog, segment_name, segment_number

_ADVICE: Final = (
    "this replica may have acknowledged what is lost; replace the node as one whose disk was lost, "
    "and do not copy an older directory back"
)


class JournalDamaged(Exception):
    """Something that was acknowledged is missing or altered: the replica must not take part."""

    def __init__(self, file: str, offset: int, reason: str) -> None:
        super().__init__(f"{file}, byte {offset}: {reason}; {_ADVICE}")
        self.file = file
        self.offset = offset


@dataclass(frozen=True, slots=True)
class TornTail:
    """What a crash left behind above the last record that can have been acknowledged."""

    file: str
    offset: int
    size_bytes: int


@dataclass(slots=True)
class RecoveredGroup:
    term: int = 0
    voted_for: int | None = None
    entries: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(index, term, payload), contiguous."""
    released: int = 0
    """Entries up to here are gone, as told: a replica without a snapshot that reaches this index must not start."""


@dataclass(slots=True)
class _Carried:
    term: int
    payload: bytes
    segment: int


class _Replay:
    """One group while the journal is read. `entries` ends at `log.last`; its front may still be among `carried`."""

    __slots__ = ("carried", "entries", "log")

    def __init__(self) -> None:
        self.log = GroupLog()
        self.entries: list[tuple[int, int, bytes]] = []
        self.carried: dict[int, _Carried] = {}

    def truncate(self, from_index: int) -> None:
        self.log.truncate(from_index)
        if self.entries:
            del self.entries[max(from_index - self.entries[0][0], 0) :]
        self.carried = {index: kept for index, kept in self.carried.items() if index < from_index}

    def start(self, index: int, *, kept: bool) -> None:
        if index > self.log.released and not kept:
            self.entries.clear()
            self.carried.clear()
        self.log.start(index, kept=kept)

    def carry(self, index: int, kept: _Carried) -> None:
        here = self.entries[0][0] if self.entries else self.log.last + 1
        if self.log.released < index < here:
            self.carried[index] = kept

    def finish(self) -> int | None:
        """Drop what is released and put carried entries in front; returns a missing index if there is one."""
        log = self.log
        first = self.entries[0][0] if self.entries else log.last + 1
        if first <= log.released:
            del self.entries[: log.released + 1 - first]
        front = range(log.released + 1, first)
        missing = next((index for index in front if index not in self.carried), None)
        if missing is not None:
            return missing
        found = [(index, self.carried[index]) for index in front]
        self.entries[:0] = [(index, kept.term, kept.payload) for index, kept in found]
        log.put_in_front((index, kept.term, kept.segment, HEADER_BYTES + len(kept.payload)) for index, kept in found)
        return None


class Recovery:
    """Reads a journal and mends its end. Raises JournalDamaged, DiskError."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._replays: dict[int, _Replay] = {}
        self.torn: TornTail | None = None
        self.last_number = 0
        """Number of the last record."""
        self._unproved: deque[tuple[int, int, int]] = deque()
        """(number, segment, offset) of the records that none behind them says to have been synced."""
        self.last_segment = 0
        """0 when there is none."""
        self.segment_sizes: dict[int, int] = {}
        """All but the last."""
        self._numbers = sorted(n for n in map(segment_number, disk.names()) if n is not None)
        self._read()
        self._finish()

    @property
    def groups(self) -> dict[int, GroupLog]:
        return {group: replay.log for group, replay in self._replays.items()}

    def recovered(self) -> dict[int, RecoveredGroup]:
        return {
            group: RecoveredGroup(replay.log.term, replay.log.voted_for, replay.entries, replay.log.released)
            for group, replay in self._replays.items()
        }

    def unproved(self) -> list[tuple[str, int]]:
        """(file, offset) from which on no record is known to have been synced, oldest first."""
        first: dict[int, int] = {}
        for _, segment, offset in self._unproved:
            first.setdefault(segment, offset)
        return [(segment_name(segment), offset) for segment, offset in first.items()]

    def _read(self) -> None:
        for position, segment in enumerate(self._numbers):
            if position and segment != self._numbers[position - 1] + 1:
                self._cut(position, 0, b"")
                break
            data = self._disk.read(segment_name(segment))
            end = self._scan(segment, data, first=position == 0)
            if end and 0 < len(data) - end <= AHEAD_BYTES and not data[end:].strip(b"\0"):
                # Written ahead, and nothing over it. What a later segment misses here shows in its numbers.
                self._disk.truncate(segment_name(segment), end)
            elif end == 0 or end < len(data):
                self._cut(position, end, data)
                break
            self.segment_sizes[segment] = end
        if self.segment_sizes:
            self.last_segment = max(self.segment_sizes)
            del self.segment_sizes[self.last_segment]

    def _scan(self, segment: int, data: bytes, *, first: bool) -> int:
        """Replay whole records in order; returns where the first that is none begins, or the end."""
        view = memoryview(data)
        size = len(data)
        crc_base = place(segment, 0)
        replays, unproved = self._replays, self._unproved
        expected = self.last_number + 1
        if first and size >= HEADER_BYTES:
            expected = HEADER.unpack_from(data)[2]
        at = 0
        while at + HEADER_BYTES <= size:
            crc, length, number, synced, group, kind, index, term = HEADER.unpack_from(data, at)
            end = at + length
            if length < HEADER_BYTES or end > size or number != expected or (at == 0) != (kind == SEGMENT):
                break
            if zlib.crc32(view[at + 4 : end], crc_base ^ at) != crc:
                break
            if kind == ENTRY:
                replay = replays.get(group)
                if replay is None:
                    replay = replays[group] = _Replay()
                log = replay.log
                if index != log.last + 1 and log.last:
                    raise JournalDamaged(segment_name(segment), at, f"group {group}: {index} follows {log.last}")
                replay.entries.append((index, term, data[at + HEADER_BYTES : end]))
                log.append(index, term, segment, length)
            else:
                self._apply(kind, group, index, term, data[at + HEADER_BYTES : end], segment, at)
            unproved.append((number, segment, at))
            while unproved[0][0] <= synced:
                unproved.popleft()
            at = end
            self.last_number = expected
            expected += 1
        return at

    def _apply(self, kind: bytes, group: int, index: int, term: int, payload: bytes, segment: int, offset: int) -> None:
        if kind == SEGMENT:
            self._checkpoint(payload, segment)
            return
        if kind == MARK:
            return
        replay = self._replays.setdefault(group, _Replay())
        if kind == VOTE:
            replay.log.term, replay.log.voted_for = term, decode_vote(index)
        elif kind == TRUNCATE:
            if index <= replay.log.released:
                raise JournalDamaged(
                    segment_name(segment), offset, f"group {group}: {index} was committed and is undone"
                )
            replay.truncate(index)
        elif kind == START:
            replay.start(index, kept=payload == KEPT)
        elif kind == RELEASE:
            replay.log.release(index)
        elif kind == CARRIED:
            replay.carry(index, _Carried(term, payload, segment))
        else:
            raise DiskError(f"{segment_name(segment)}, byte {offset}: record kind {kind!r} is of another release")

    def _checkpoint(self, payload: bytes, segment: int) -> None:
        try:
            summaries = decode_checkpoint(payload)
        except ValueError as error:
            raise DiskError(f"{segment_name(segment)}: {error}") from error
        if segment == self._numbers[0]:
            for told in summaries:
                log = self._replays.setdefault(told.group, _Replay()).log
                log.term, log.voted_for, log.released, log.last = told.term, told.voted_for, told.released, told.last
        elif summaries != [replay.log.summary(group) for group, replay in sorted(self._replays.items())]:
            raise JournalDamaged(segment_name(segment), 0, "contradicts what the earlier segments hold")

    def _cut(self, position: int, offset: int, data: bytes) -> None:
        """The record that should stand here does not: cut it off with all that follows, if it was never synced."""
        segment = self._numbers[position]
        name = segment_name(segment)
        later = self._numbers[position + 1 :]
        expected = self.last_number + 1
        removed = len(data) - offset
        mark = highest_mark(data or self._disk.read(name), offset, segment, expected)
        for following in later:
            data = self._disk.read(segment_name(following))
            removed += len(data)
            mark = max(mark, highest_mark(data, 0, following, expected))
        if mark >= expected or (position == 0 and offset == 0 and segment > 1):
            raise JournalDamaged(name, offset, f"record {expected} is damaged or missing though it was synced once")
        self.torn = TornTail(name, offset, removed)
        # Highest first: what remains after another crash is torn in the same place.
        for following in reversed(later):
            self._disk.remove(segment_name(following))
        if offset == 0:
            self._disk.remove(name)
        self._disk.sync_directory()
        if offset:
            self._disk.truncate(name, offset)
            self.segment_sizes[segment] = offset

    def _finish(self) -> None:
        for group, replay in self._replays.items():
            missing = replay.finish()
            if missing is not None:
                name = segment_name(self._numbers[0])
                raise JournalDamaged(name, 0, f"group {group}: entry {missing} is missing, earlier segments are lost")
