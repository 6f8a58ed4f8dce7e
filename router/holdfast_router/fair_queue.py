"""Sections of many tenants, taken in turn: start-time fair queueing (Goyal, Vin and Cheng, 1996; docs/adr/0005).

A section costs its operations. It has a start tag, its tenant's finish tag before it or the queue's virtual time when
it came, whichever is later; its finish tag is that and cost / weight. The smallest start tag leaves first and is the
virtual time from then on. So a tenant that comes back from a rest is next, whatever others have waiting, and tenants
that always have something waiting share by weight.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush, heapreplace
from typing import Final

from .item import Item

QUEUE_BYTES_MAX: Final = 64 << 20
QUEUE_SECTIONS_MAX: Final = 65_536


class _Flow:
    """One tenant's sections, first come first served."""

    __slots__ = ("bytes", "in_heap", "items", "operations", "order", "tag", "weight")

    def __init__(self, tag: float) -> None:
        self.items: OrderedDict[Item, None] = OrderedDict()
        self.bytes = 0
        self.operations = 0
        self.weight = 1
        self.tag = tag
        """Start tag of the first that waits; while none does, the finish tag of the last that left."""
        self.order = 0
        """When the first got there, among those with the same tag."""
        self.in_heap = False


class FairQueue:
    """Not bounded by itself: ask :meth:`has_room` before :meth:`push`."""

    def __init__(self) -> None:
        self._flows: dict[int, _Flow] = {}
        """Of the tenants heard since the last rest."""
        self._heap: list[tuple[float, int, int]] = []
        """(start tag, order, tenant), once for each tenant with something waiting. When something of a tenant was taken
        out, it may stand here with nothing, or with an earlier tag than its own."""
        self._returned: OrderedDict[Item, None] = OrderedDict()
        """What left and came back: it has had its turn, and goes first."""
        self._virtual_time = 0.0
        self._order = 0
        self._weight = 0
        """Of all tenants with something waiting."""
        self.sections = 0
        self.bytes = 0
        self.operations = 0
        self.rested = True
        """Nothing was pushed since the last rest."""

    def __len__(self) -> int:
        return self.sections

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
        self.rested = False
        flow = self._flows.get(item.tenant)
        if flow is None:
            flow = self._flows[item.tenant] = _Flow(self._virtual_time)
        if not flow.items:
            if flow.tag < self._virtual_time:
                flow.tag = self._virtual_time
            flow.weight = item.weight
            self._weight += item.weight
            self._order += 1
            flow.order = self._order
            if not flow.in_heap:
                flow.in_heap = True
                heappush(self._heap, (flow.tag, flow.order, item.tenant))
        flow.items[item] = None
        size, operations = len(item.body), item.operations
        flow.bytes += size
        flow.operations += operations
        self.sections += 1
        self.bytes += size
        self.operations += operations

    def put_back(self, item: Item) -> None:
        """In front of everything: call in the reverse of the order in which they left."""
        self._returned[item] = None
        self._returned.move_to_end(item, last=False)
        self._count(item, 1)

    def head(self) -> Item | None:
        """The next to leave."""
        if self._returned:
            return next(iter(self._returned))
        flow = self._first()
        return next(iter(flow.items)) if flow is not None else None

    def pop(self) -> Item:
        """What :meth:`head` says; there is one."""
        if self._returned:
            item, _ = self._returned.popitem(last=False)
            self._count(item, -1)
            return item
        flow = self._first()
        assert flow is not None, "nothing waits"
        item = next(iter(flow.items))
        self._virtual_time = flow.tag
        flow.tag += item.operations / item.weight
        self._order += 1
        flow.order = self._order
        self._take(flow, item)
        if flow.items:
            heapreplace(self._heap, (flow.tag, flow.order, item.tenant))
        else:
            heappop(self._heap)
            flow.in_heap = False
        return item

    def _first(self) -> _Flow | None:
        """The tenant whose turn it is, whose place in the heap is right then."""
        while self._heap:
            tag, order, tenant = self._heap[0]
            flow = self._flows[tenant]
            if not flow.items:
                heappop(self._heap)
                flow.in_heap = False
            elif (tag, order) != (flow.tag, flow.order):
                heapreplace(self._heap, (flow.tag, flow.order, tenant))
            else:
                return flow
        return None

    def remove(self, item: Item) -> None:
        """Let go of it, free of charge, wherever it stands here; what is not here is under way."""
        if item in self._returned:
            del self._returned[item]
            self._count(item, -1)
            return
        flow = self._flows.get(item.tenant)
        if flow is not None and item in flow.items:
            self._take(flow, item)

    def _take(self, flow: _Flow, item: Item) -> None:
        del flow.items[item]
        size, operations = len(item.body), item.operations
        flow.bytes -= size
        flow.operations -= operations
        if not flow.items:
            self._weight -= flow.weight
        self.sections -= 1
        self.bytes -= size
        self.operations -= operations

    def rest(self) -> None:
        """Nothing waits and nothing is being served: who had how much before counts no more."""
        assert not self.sections
        self._flows.clear()
        self._heap.clear()
        self._virtual_time = 0.0
        self.rested = True

    def _count(self, item: Item, sign: int) -> None:
        self.sections += sign
        self.bytes += sign * len(item.body)
        self.operations += sign * item.operations
