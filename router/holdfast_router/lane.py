"""What waits for frames of one kind to one group: who goes next, how much may be under way, who comes too late."""

from __future__ import annotations

from math import ceil
from typing import Final

from holdfast.wire.errors import Code
from holdfast.wire.limits import FRAME_BYTES_MAX, OPERATIONS_PER_FRAME_MAX, SECTIONS_PER_FRAME_MAX
from holdfast.wire.messages import Refusal

from .fair_queue import FairQueue
from .flight_limit import FRAMES_IN_FLIGHT_MAX, FlightLimit
from .item import Item

EXEMPT_SHARE: Final = 3
"""Operations of exempt sections for each of the others while both wait: first, but not alone."""
WAIT_S_MAX: Final = 0.1
"""Longest wait that a queue may grow to, by estimate. It is there for bursts: under lasting load every queue is as long
as it may be, whatever its length, and only makes everybody wait."""
MARGIN: Final = 2.0
"""Waits may turn out so many times longer than estimated: what then comes too late has cost the group all the same."""
RETRY_MS_MIN: Final = 10


class Lane:
    def __init__(self, group: int) -> None:
        self._group = group
        self._too_busy = f"group {group} is too busy to answer in time"
        self._exempt = FairQueue()
        self._others = FairQueue()
        self._exempt_lead = 0
        """Operations by which the exempt are ahead of their share since both began to wait."""
        self.limit = FlightLimit()
        self.frames = 0
        """In flight."""

    def __len__(self) -> int:
        return self._exempt.sections + self._others.sections

    @property
    def operations(self) -> int:
        """Waiting."""
        return self._exempt.operations + self._others.operations

    # In.

    def refusal(self, item: Item) -> Refusal | None:
        """Why ``item`` cannot wait here: no room, or (unless it is exempt) no hope to be answered in time."""
        if not (self._others.sections or self._exempt.sections):
            return None
        if not self._queue(item).has_room(item):
            return self._overloaded(f"too much is waiting for group {self._group}", self._wait_s(item) / 2)
        # Without a wait nothing is refused: only a flight could tell that flights have become short again.
        if item.exempt or not (wait_s := self._wait_s(item)):
            return None
        late_s = self._late_s(item, wait_s)
        # Others are told to come again, too: when half of what waits has left, there is room for more than one.
        return self._overloaded(self._too_busy, max(late_s, wait_s / 2)) if late_s > 0 else None

    def overdue(self, item: Item) -> Refusal:
        """For an item that waited here until its deadline."""
        return self._overloaded(self._too_busy, self._wait_s(item))

    def _overloaded(self, text: str, again_s: float) -> Refusal:
        return Refusal(Code.OVERLOADED, text, max(ceil(1000 * again_s), RETRY_MS_MIN))

    def push(self, item: Item) -> None:
        (self._exempt if item.exempt else self._others).push(item)

    def put_back(self, item: Item) -> None:
        """In front of everything of its class: call in the reverse of the order in which they left."""
        self._queue(item).put_back(item)

    def _queue(self, item: Item) -> FairQueue:
        return self._exempt if item.exempt else self._others

    def _wait_s(self, item: Item) -> float:
        """Estimate of what ``item`` would wait before it leaves."""
        ahead = self._queue(item).ahead(item.tenant, item.weight)
        return (ahead + (0 if item.exempt else self._exempt.operations)) / self.limit.rate

    def _late_s(self, item: Item, wait_s: float) -> float:
        """Seconds by which it would be answered, or leave, too late."""
        patience_s = item.deadline - item.arrived
        return max(wait_s - (patience_s - self.limit.flight_s) / MARGIN, wait_s - WAIT_S_MAX)

    # Out.

    def gather(self, sections_max: int = SECTIONS_PER_FRAME_MAX) -> list[Item]:
        """The next frame's sections; empty when nothing waits or nothing may leave."""
        items: list[Item] = []
        if self.frames >= FRAMES_IN_FLIGHT_MAX or not (self._others.sections or self._exempt.sections):
            return items
        room = min(self.limit.room(self.operations), OPERATIONS_PER_FRAME_MAX)
        if not room:
            return items
        size = operations = 0
        while len(items) < sections_max and (queue := self._next()) is not None:
            item = queue.head()
            assert item is not None
            operations += item.operations
            if items and (size + len(item.body) > FRAME_BYTES_MAX - 8 or operations > room):
                break
            self._pop(queue)
            size += len(item.body)
            items.append(item)
        return items

    def _next(self) -> FairQueue | None:
        if not self._others.sections:
            return self._exempt if self._exempt.sections else None
        return self._exempt if self._exempt.sections and self._exempt_lead <= 0 else self._others

    def _pop(self, queue: FairQueue) -> None:
        item = queue.pop()
        if not self._exempt.sections or not self._others.sections:
            self._exempt_lead = 0
        elif item.exempt:
            self._exempt_lead += item.operations
        else:
            self._exempt_lead -= item.operations * EXEMPT_SHARE

    def remove(self, item: Item) -> None:
        """Let go of it if it waits here."""
        self._queue(item).remove(item)
        self.settle()

    def settle(self) -> None:
        """When nothing waits and nothing is under way, a new busy period begins with all tenants equal."""
        if not self.frames:
            if not (self._others.sections or self._exempt.sections):
                self.limit.rest()
            for queue in (self._exempt, self._others):
                if not queue.rested and not queue.sections:
                    queue.rest()
