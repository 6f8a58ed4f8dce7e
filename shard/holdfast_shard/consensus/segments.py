"""Which segment holds which live entries: enough to know what may be deleted, without holding any payload."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .records import GroupSummary

_NAME: Final = re.compile(r"journal-([0-9a-f]{16})\.log")


def segment_name(number: int) -> str:
    return f"journal-{number:016x}.log"


def segment_number(name: str) -> int | None:
    match = _NAME.fullmatch(name)
    return int(match[1], 16) if match else None


class Run:
    """Consecutive live entries of one term whose records stand in one segment."""

    __slots__ = ("first", "last", "segment", "size_bytes", "term")

    def __init__(self, segment: int, first: int, last: int, term: int, size_bytes: int) -> None:
        self.segment = segment
        self.first = first
        self.last = last
        self.term = term
        self.size_bytes = size_bytes

    def keep(self, first: int, last: int) -> None:
        """Narrow to what lies within; bytes are shared out evenly, they only steer when to carry forward."""
        count = self.last - self.first + 1
        self.first = max(self.first, first)
        self.last = min(self.last, last)
        self.size_bytes = self.size_bytes * max(self.last - self.first + 1, 0) // count


class GroupLog:
    """What the journal remembers of one group.

    Invariants: `runs` are contiguous, ascending, and cover exactly (released, last]; `released` never falls.
    """

    __slots__ = ("_open", "last", "released", "runs", "term", "voted_for")

    def __init__(self) -> None:
        self.term = 0
        self.voted_for: int | None = None
        self.released = 0
        self.last = 0
        """0 until the first entry or start."""
        self.runs: list[Run] = []
        self._open: Run | None = None
        """The run that the next entry may extend."""

    def append(self, index: int, term: int, segment: int, size_bytes: int) -> None:
        run = self._open
        if run is not None and run.term == term and run.segment == segment:
            run.last = index
            run.size_bytes += size_bytes
        else:
            if self.last == 0:
                self.released = index - 1
            self._open = Run(segment, index, index, term, size_bytes)
            self.runs.append(self._open)
        self.last = index

    def term_at(self, index: int) -> int | None:
        return next((run.term for run in reversed(self.runs) if run.first <= index <= run.last), None)

    def truncate(self, from_index: int) -> None:
        assert self.released < from_index, "released entries are committed"
        self._narrow(self.released + 1, from_index - 1)
        self.last = min(self.last, from_index - 1)

    def start(self, index: int, *, kept: bool) -> None:
        if index <= self.released:
            return
        if kept:
            self.release(index)
        else:
            self.runs.clear()
            self._open = None
            self.released = self.last = index

    def release(self, index: int) -> None:
        index = min(index, self.last)
        if index > self.released:
            self.released = index
            self._narrow(index + 1, self.last)

    def _narrow(self, first: int, last: int) -> None:
        for run in self.runs:
            run.keep(first, last)
        self.runs = [run for run in self.runs if run.first <= run.last]
        self._open = None

    def stands_in(self, segment: int, index: int, term: int) -> bool:
        """Whether the newest record of entry `index` in `segment` is the one that this log needs."""
        run = next((run for run in self.runs if run.first <= index <= run.last), None)
        return run is not None and run.segment == segment and run.term == term

    def carry(self, index: int, segment: int, size_bytes: int) -> None:
        """Entry `index` has been written again, in `segment`."""
        at = next(at for at, run in enumerate(self.runs) if run.first <= index <= run.last)
        old = self.runs[at]
        before = self.runs[at - 1] if at and old.first == index else None
        if before is not None and before.segment == segment and before.term == old.term:
            before.last = index
            before.size_bytes += size_bytes
            pieces = []
        else:
            pieces = [Run(segment, index, index, old.term, size_bytes)]
        if old.first < index:
            front = Run(old.segment, old.first, old.last, old.term, old.size_bytes)
            front.keep(old.first, index - 1)
            pieces.insert(0, front)
        if index < old.last:
            old.keep(index + 1, old.last)
            pieces.append(old)
        elif old is self._open:
            self._open = None
        self.runs[at : at + 1] = pieces

    def put_in_front(self, records: Iterable[tuple[int, int, int, int]]) -> None:
        """(index, term, segment, bytes) of entries that stand before the first run."""
        behind, last = self.runs, self.last
        self.runs, self._open = [], None
        for record in records:
            self.append(*record)
        self.runs += behind
        self.last, self._open = last, None

    def summary(self, group: int) -> GroupSummary:
        return GroupSummary(group, self.term, self.voted_for, self.released, self.last)
