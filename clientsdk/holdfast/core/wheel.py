"""Timers that cost next to nothing when they never fire.

Nearly every lock is released long before its lease wants renewing. So items stand in coarse buckets that they can leave
at once, and only the buckets, not the items, are kept in order.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Final, Generic, Protocol, TypeVar

GRAIN_BITS: Final = 4
GRAIN_MS: Final = 1 << GRAIN_BITS
"""An item fires at most this much late, never early."""

UNTIMED: Final = -1


class Timed(Protocol):
    bucket: int
    """Belongs to the wheel; ``UNTIMED`` when the item is in none."""


Item = TypeVar("Item", bound=Timed)


class Wheel(Generic[Item]):
    """``on_earlier(due_ms)`` is called when something is due at a time that no bucket stood for yet."""

    __slots__ = ("_buckets", "_on_earlier", "_order")

    def __init__(self, on_earlier: Callable[[float], None]) -> None:
        self._buckets: dict[int, dict[Item, None]] = {}
        self._order: list[int] = []
        self._on_earlier = on_earlier

    def add(self, item: Item, due_ms: float) -> None:
        """Fire ``item`` at ``due_ms``; it moves when it stands elsewhere."""
        number = int(due_ms) >> GRAIN_BITS
        if item.bucket != UNTIMED:
            del self._buckets[item.bucket][item]
        item.bucket = number
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {item: None}
            heappush(self._order, number)
            self._on_earlier(float((number + 1) << GRAIN_BITS))
        else:
            bucket[item] = None

    def discard(self, item: Item) -> None:
        """``item`` will not fire. Nothing happens when it stands nowhere."""
        if item.bucket != UNTIMED:
            del self._buckets[item.bucket][item]
            item.bucket = UNTIMED

    def next_due_ms(self) -> float:
        """When to call :meth:`take` next; infinite when nothing is timed."""
        order = self._order
        while order and not self._buckets[order[0]]:
            del self._buckets[heappop(order)]
        return float((order[0] + 1) << GRAIN_BITS) if order else inf

    def take(self, now_ms: float) -> list[Item]:
        """Items that are due; they are no longer timed."""
        order = self._order
        due: list[Item] = []
        while order and (order[0] + 1) << GRAIN_BITS <= now_ms:
            bucket = self._buckets.pop(heappop(order))
            for item in bucket:
                item.bucket = UNTIMED
            due.extend(bucket)
        return due
