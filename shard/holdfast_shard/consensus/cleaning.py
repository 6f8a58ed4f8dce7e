"""Carrying live entries of old segments forward, so that a group at rest does not pin them for ever."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .disk import DiskError, ReadFile
from .records import CARRIED, ENTRY, HEADER, HEADER_BYTES, place
from .segments import GroupLog

SEGMENTS_KEPT: Final = 4
"""Up to this many segments nothing is carried."""
GARBAGE_FACTOR: Final = 2
"""Nor as long as at least one in this many bytes is live: so copying at most doubles what is written."""


def worth_carrying(total_bytes: int, groups: Mapping[int, GroupLog], segment_bytes: int) -> bool:
    if total_bytes <= SEGMENTS_KEPT * segment_bytes:
        return False
    live_bytes = sum(run.size_bytes for log in groups.values() for run in log.runs)
    return total_bytes > GARBAGE_FACTOR * live_bytes


@dataclass(frozen=True, slots=True)
class StoredEntry:
    group: int
    index: int
    term: int
    payload: bytes
    offset: int


class Carrier:
    """Reads one sealed segment twice, a bounded piece at a time: to find the newest record of each live entry, and to
    hand those out. An older record of the same entry was truncated, whatever its term.
    """

    def __init__(self, file: ReadFile, name: str, segment: int, is_live: Callable[[int, int, int], bool]) -> None:
        """`is_live(group, index, term)`"""
        self._file = file
        self._name = name
        self._is_live = is_live
        self._offset = 0
        self._newest: dict[tuple[int, int], int] = {}
        """Offset of the newest record by (group, index)."""
        self._found = False
        self.segment = segment
        self.done = False

    def close(self) -> None:
        self._file.close()

    def step(self, bytes_max: int, records_max: int) -> list[StoredEntry]:
        """Go on for about as much as asked for; returns what is to be carried. Raises DiskError on a damaged file."""
        entries = [e for e in self._read(bytes_max, records_max) if self._is_live(e.group, e.index, e.term)]
        if not self._found:
            self._newest.update(((entry.group, entry.index), entry.offset) for entry in entries)
            entries = []
        if self._offset >= self._file.size:
            self.done = self._found
            self._found = True
            self._offset = 0
        return [entry for entry in entries if self._newest.get((entry.group, entry.index)) == entry.offset]

    def _read(self, bytes_max: int, records_max: int) -> Iterator[StoredEntry]:
        """At least one record."""
        block = self._file.read(self._offset, bytes_max)
        at = 0
        for count in range(records_max):
            if self._offset >= self._file.size or (count and at + HEADER_BYTES > len(block)):
                return
            if at + HEADER_BYTES > len(block):
                raise self._damaged()
            crc, length, _, _, group, kind, index, term = HEADER.unpack_from(block, at)
            if at + length > len(block):
                if count:
                    return
                block = self._file.read(self._offset, length)
            body = memoryview(block)[at + 4 : at + length]
            if length < HEADER_BYTES or zlib.crc32(body, place(self.segment, self._offset)) != crc:
                raise self._damaged()
            offset, self._offset = self._offset, self._offset + length
            if kind in (ENTRY, CARRIED):
                yield StoredEntry(group, index, term, block[at + HEADER_BYTES : at + length], offset)
            at += length

    def _damaged(self) -> DiskError:
        return DiskError(f"{self._name}: the record at byte {self._offset} was whole once and is damaged now")
