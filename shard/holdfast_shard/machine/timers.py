"""What runs out, and when, on the group clock.

Coarse buckets that an item can leave at once, so that a released lock leaves nothing behind until its lease would have
ended; the bucket that the clock has reached is put in order. Items may stand in an earlier bucket than they are due
(a lease that was extended is not moved); they are placed again when that bucket is reached.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Protocol

BUCKET_BITS = 7
"""Buckets of 128 ms."""

UNTIMED = -1
NEAR = -2

Key = tuple[int, int, int, int, str]
"""(due, kind, …): unique among timed items and made of state alone, so that every replica, restored or not, marks in
one order."""


class Timed(Protocol):
    bucket: int
    """Bucket number, ``NEAR`` or ``UNTIMED``; belongs to :class:`Timers`."""

    def due_key(self) -> Key: ...


class Timers:
    __slots__ = ("_buckets", "_near", "_order")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Timed, None]] = {}
        self._order: list[int] = []
        self._near: list[tuple[Key, Timed]] = []

    def add(self, item: Timed, due: int) -> None:
        """Wake ``item`` at ``due`` or before; it must not be timed already."""
        number = due >> BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            heappush(self._order, number)
        bucket[item] = None
        item.bucket = number

    def discard(self, item: Timed) -> None:
        """Nothing will wake ``item``."""
        number = item.bucket
        if number >= 0:
            del self._buckets[number][item]
        item.bucket = UNTIMED

    def next_due(self) -> int | None:
        """When :meth:`take` should be called next; perhaps earlier than anything is due."""
        near, order = self._near, self._order
        while order and not self._buckets[order[0]]:
            del self._buckets[heappop(order)]
        while near and near[0][1].bucket != NEAR:
            heappop(near)
        due = near[0][0][0] if near else None
        if order and (due is None or order[0] << BUCKET_BITS < due):
            due = order[0] << BUCKET_BITS
        return due

    def take(self, clock: int) -> list[Timed]:
        """Items due at or before ``clock``, in the order of their keys. They are no longer timed."""
        due: list[Timed] = []
        near, order = self._near, self._order
        while order and order[0] <= clock >> BUCKET_BITS:
            bucket = self._buckets.pop(heappop(order))
            for item in bucket:
                self._place(item, clock)
        while near and near[0][0][0] <= clock:
            key, item = heappop(near)
            if item.bucket != NEAR:
                continue
            if item.due_key() != key:
                self._place(item, clock)
                continue
            item.bucket = UNTIMED
            due.append(item)
        return due

    def _place(self, item: Timed, clock: int) -> None:
        key = item.due_key()
        if key[0] >> BUCKET_BITS <= clock >> BUCKET_BITS:
            item.bucket = NEAR
            heappush(self._near, (key, item))
        else:
            self.add(item, key[0])

    def compact(self) -> None:
        """Forget what was discarded among the near items."""
        self._near = [pair for pair in self._near if pair[1].bucket == NEAR]
        heapify(self._near)
