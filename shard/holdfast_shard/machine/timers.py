"""What runs out, and when, on the group clock.

Items stand in coarse buckets that they can leave at once, so that a released lock leaves nothing behind until its
lease would have ended. The farther a deadline, the coarser its bucket: there are a few hundred however long leases are.
An item may stand in an earlier bucket than it is due (a lease that is extended is not moved); it is placed again when
the clock, or a look at what comes next, reaches that bucket. Where an item stands never changes what is taken when.
"""

from __future__ import annotations

from heapq import heappop, heappush
from operator import itemgetter
from typing import Final, Protocol

Key = tuple[int, int, int, int, int, str]
"""(due, kind, tenant, …): unique among timed items and made of state alone, so that every replica, restored or not,
marks in one order. ``due`` never falls while an item is timed."""

GRAIN_BITS: Final = 7
"""The finest bucket is 128 ms wide."""
FINENESS_BITS: Final = 6
"""A bucket is at most 1/32 as wide as its deadlines are far."""
SCANNED_MAX: Final = 64
"""Items of the next bucket that are looked at one by one to say when the first of them is due."""


class Timed(Protocol):
    bucket: Bucket | None
    """Belongs to :class:`Timers`; None when the item is not timed."""

    def due_key(self) -> Key: ...


Bucket = dict[Timed, None]

NEAR: Final[Bucket] = {}
"""Stands for the heap of items due within the finest bucket's width."""


class Timers:
    __slots__ = ("_buckets", "_clock", "_near", "_order", "_pushed", "_soonest", "_soonest_due")

    def __init__(self, clock: int = 0) -> None:
        self._clock = clock
        self._buckets: dict[int, Bucket] = {}
        """By where they begin. Invariant: ``_order`` has each of these numbers once."""
        self._order: list[int] = []
        self._near: list[tuple[Key, int, Timed]] = []
        """With a running number: what was discarded stays here for a while, and may have the key of a later item."""
        self._pushed = 0
        self._soonest: Timed | None = None
        """While it stands where it stood and is due when it was: the first of its bucket."""
        self._soonest_due = 0

    def add(self, item: Timed, due: int) -> None:
        """Wake ``item`` at ``due`` or before; it must not be timed already."""
        begin = self._begin(due)
        bucket = self._buckets.get(begin)
        if bucket is None:
            bucket = self._buckets[begin] = {}
            heappush(self._order, begin)
        bucket[item] = None
        item.bucket = bucket
        if due < self._soonest_due and self._soonest is not None and self._soonest.bucket is bucket:
            self._soonest, self._soonest_due = item, due

    def _begin(self, due: int) -> int:
        far = (due - self._clock).bit_length() - FINENESS_BITS
        bits = far if far > GRAIN_BITS else GRAIN_BITS
        return due >> bits << bits

    def discard(self, item: Timed) -> None:
        """Nothing will wake ``item``. Nothing happens when it is not timed."""
        bucket = item.bucket
        if bucket is None:
            return
        item.bucket = None
        if bucket is not NEAR:
            del bucket[item]
            if not bucket:
                # A dict keeps the room it once needed, and a bucket may stand empty for hours until it is reached.
                bucket.clear()

    def next_due(self) -> int | None:
        """When to call :meth:`take` next; early by a bucket's width at most."""
        near, order, buckets = self._near, self._order, self._buckets
        while near:
            key, _, item = near[0]
            if item.bucket is NEAR and item.due_key() == key:
                break
            heappop(near)
            if item.bucket is NEAR:
                self._place(item)
        due = near[0][0][0] if near else None
        while order and (due is None or order[0] < due):
            first = self._first_of(order[0], buckets[order[0]])
            if first is not None:
                # A later, finer bucket may begin before the first of this one is due.
                first = min([first, *order[1:3], *([] if due is None else [due])])
                # What was added since the clock came here may stand in a bucket that began before.
                return max(first, self._clock + 1)
            del buckets[heappop(order)]
        return due

    def _first_of(self, begin: int, bucket: Bucket) -> int | None:
        """When the first of a bucket is due; items that belong elsewhere by now go there. None when all do."""
        soonest = self._soonest
        if soonest is not None and soonest.bucket is bucket and soonest.due_key()[0] == self._soonest_due:
            return self._soonest_due
        if len(bucket) > SCANNED_MAX:
            return begin
        self._soonest = None
        for item in list(bucket):
            due = item.due_key()[0]
            if self._begin(due) != begin:
                del bucket[item]
                self.add(item, due)
            elif self._soonest is None or due < self._soonest_due:
                self._soonest, self._soonest_due = item, due
        return self._soonest_due if bucket else None

    def take(self, clock: int) -> list[Timed]:
        """Items due at or before ``clock``, in the order of their keys. They are no longer timed."""
        self._clock = clock
        due: list[tuple[Key, Timed]] = []
        near, order = self._near, self._order
        while near and near[0][0][0] <= clock:
            _, _, item = heappop(near)
            if item.bucket is NEAR:
                self._take_or_place(item, due)
        while order and order[0] <= clock:
            for item in self._buckets.pop(heappop(order)):
                self._take_or_place(item, due)
        due.sort(key=itemgetter(0))
        return [item for _, item in due]

    def _take_or_place(self, item: Timed, due: list[tuple[Key, Timed]]) -> None:
        key = item.due_key()
        if key[0] <= self._clock:
            item.bucket = None
            due.append((key, item))
        else:
            self._place(item)

    def _place(self, item: Timed) -> None:
        key = item.due_key()
        if key[0] - self._clock < 1 << GRAIN_BITS:
            item.bucket = NEAR
            self._pushed += 1
            heappush(self._near, (key, self._pushed, item))
        else:
            self.add(item, key[0])
