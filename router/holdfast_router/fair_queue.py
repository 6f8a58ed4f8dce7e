"""Sections of many tenants, taken in turn: start-time fair queueing (Goyal, Vin and Cheng, 1996; docs/adr/0005).

A section costs its operations. It has a start tag, its tenant's finish tag before it or the queue's virtual time when
it came, whichever is later; its finish tag is that and cost / weight. The smallest start tag leaves first and is the
virtual time from then on. So a tenant that comes back from a rest is next, whatever others have waiting, and tenants
that always have something waiting share by weight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from .item import Item

QUEUE_BYTES_MAX: Final = 64 << 20
QUEUE_SECTIONS_MAX: Final = 65_536


class _Flow:
    """One tenant's sections, first come first served."""

    __slots__ = ("bytes", "items", "operations", "tag", "weight")

    def __init__(self, tag: float) -> None:
        self.items: deque[Item] = deque()
        self.bytes = 0
        self.operations = 0
        self.weight = 1
        self.tag = tag
        """Start tag of the first that waits; while none does, the finish tag of the last that left."""


class FairQueue:
    """Not bounded by itself: ask :meth:`has_room` before :meth:`push`."""

    def __init__(self) -> None:
        self._flows: dict[int, _Flow] = {}
        """Of the tenants heard since the last rest."""
        self._heap: list[tuple[float, int, int]] = []
        """(start tag, when it got there, tenant), once for each tenant with something waiting."""
        self._returned: deque[Item] = deque()
        """What left and came back: it has had its turn, and goes first."""
        self._virtual_time = 0.0
        self._order = 0
        self._weight = 0
        """Of all tenants with something waiting."""
        self.sections = 0
        self.bytes = 0
        self.operations = 0

    def __len__(self) -> int:
        return self.sections

    def __iter__(self) -> Iterator[Item]:
        yield from self._returned
        for flow in self._flows.values():
            yield from flow.items

    def has_room(self, item: Item) -> bool:
        """Whether the tenant's part stays at or below what is free (dynamic thresholds: Choudhury and Hahne, 1998).

        One tenant alone fills half of the queue, and however many flood it, a newcomer finds room.
        """
        flow = self._flows.get(item.tenant)
        sections, size = (len(flow.items), flow.bytes) if flow is not None else (0, 0)
        return (
            sections + 1 <= QUEUE_SECTIONS_MAX - self.sections and size + len(item.body) <= QUEUE_BYTES_MAX - self.bytes
        )

    def ahead(self, tenant: int, weight: int) -> float:
        """At most about so many operations of the queue leave before a section of this tenant that comes now."""
        flow = self._flows.get(tenant)
        if flow is None or not flow.items:
            return 0.0
        return min(self.operations, flow.operations * self._weight / weight)

    def push(self, item: Item) -> None:
        flow = self._flows.get(item.tenant)
        if flow is None:
            flow = self._flows[item.tenant] = _Flow(self._virtual_time)
        if not flow.items:
            flow.tag = max(flow.tag, self._virtual_time)
            flow.weight = item.weight
            self._weight += item.weight
            self._order += 1
            heappush(self._heap, (flow.tag, self._order, item.tenant))
        flow.items.append(item)
        flow.bytes += len(item.body)
        flow.operations += item.operations
        self._count(item, 1)

    def put_back(self, item: Item) -> None:
        """In front of everything: call in the reverse of the order in which they left."""
        self._returned.appendleft(item)
        self._count(item, 1)

    def head(self) -> Item | None:
        """The next to leave."""
        if self._returned:
            return self._returned[0]
        return self._flows[self._heap[0][2]].items[0] if self._heap else None

    def pop(self) -> Item:
        if self._returned:
            item = self._returned.popleft()
        else:
            tag, _, tenant = self._heap[0]
            flow = self._flows[tenant]
            item = flow.items.popleft()
            flow.bytes -= len(item.body)
            flow.operations -= item.operations
            self._virtual_time = tag
            flow.tag = tag if item.done else tag + item.operations / item.weight
            if flow.items:
                self._order += 1
                heapreplace(self._heap, (flow.tag, self._order, tenant))
            else:
                heappop(self._heap)
                self._weight -= flow.weight
        self._count(item, -1)
        return item

    def sweep(self) -> None:
        """Let go of what is done."""
        self._returned = deque(item for item in self._returned if not item.done)
        self.sections, self.bytes, self.operations, self._weight = 0, 0, 0, 0
        for item in self._returned:
            self._count(item, 1)
        for flow in self._flows.values():
            if flow.items:
                self._sweep(flow)
        self._heap = [entry for entry in self._heap if self._flows[entry[2]].items]
        heapify(self._heap)

    def _sweep(self, flow: _Flow) -> None:
        flow.items = deque(item for item in flow.items if not item.done)
        flow.bytes = sum(len(item.body) for item in flow.items)
        flow.operations = sum(item.operations for item in flow.items)
        self.sections += len(flow.items)
        self.bytes += flow.bytes
        self.operations += flow.operations
        if flow.items:
            self._weight += flow.weight

    def rest(self) -> None:
        """Nothing waits and nothing is being served: who had how much before counts no more."""
        assert not self.sections
        self._flows.clear()
        self._virtual_time = 0.0

    def _count(self, item: Item, sign: int) -> None:
        self.sections += sign
        self.bytes += sign * len(item.body)
        self.operations += sign * item.operations
