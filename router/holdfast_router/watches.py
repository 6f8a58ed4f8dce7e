"""Watches of this router's callers, shared by all who watch the same, and kept up from leader to leader.

A watch says how a name looks now, never every step. Whenever something may have been missed (a new leader, a caller
that did not read) the watcher is told that it is *fresh*: it reads what it watches again, as at the beginning.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.wire.errors import Code, Overloaded
from holdfast.wire.frames import encode
from holdfast.wire.limits import WATCHES_PER_TENANT_MAX
from holdfast.wire.messages import Refusal, Watched, WatchRequest, decode_watched

FRESH = encode(Watched(True, []))
CROWDED_RETRY_MS = 1000
CATCH_UP_EVERY_S = 0.1
"""How often it is tried again to tell watchers that did not read."""

Send = Callable[[int, int, int, bytes], bool]
"""(node, group, request id, body of WATCH): False when there is no connection."""
Told = Callable[[int, int], None]
"""(tenant, watchers): so many of its watchers were told of a change."""
Later = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""A loop's ``call_later``."""


class Watcher(Protocol):
    """Whoever a watch is told to."""

    def watched(self, group: int, request: int, body: bytes) -> bool:
        """Take a WATCHED; False when it cannot be taken now."""

    def unwatched(self, group: int, request: int, refusal: Refusal) -> None:
        """The watch does not stand and will not."""


Seat = tuple[Watcher, int]
"""(watcher, its request id)."""


@dataclass(eq=False, slots=True)
class _Watch:
    group: int
    tenant: int
    target: str
    prefix: bool
    request: int
    node: int = 0
    """Where it was asked for last; 0 while nobody is known to lead."""
    stands: bool = False
    seats: dict[Seat, None] = field(default_factory=dict)


class Watches:
    def __init__(self, send: Send, told: Told, later: Later) -> None:
        self._send = send
        self._told = told
        self._later = later
        self._timer: asyncio.TimerHandle | None = None
        self._watches: dict[tuple[int, int, str, bool], _Watch] = {}
        self._by_request: dict[int, _Watch] = {}
        self._by_seat: dict[Seat, _Watch] = {}
        self._requests_of: dict[Watcher, set[int]] = {}
        """Of each watcher that has any: whoever leaves must not cost a look at all that others watch."""
        self._leaders: dict[int, int] = {}
        self._lapsed: dict[Seat, None] = {}
        """Those who did not take what they were to be told."""
        self._of_tenant: Counter[int] = Counter()
        self._next_request = 0

    # Callers.

    def begin(self, watcher: Watcher, group: int, request: int, tenant: int, asked: WatchRequest) -> None:
        """Raises :class:`Overloaded` when the tenant has as many as it may."""
        self.end(watcher, request)
        if self._of_tenant[tenant] >= WATCHES_PER_TENANT_MAX:
            text = f"a tenant has at most {WATCHES_PER_TENANT_MAX} watches at a router: watch a prefix instead"
            raise Overloaded(text, CROWDED_RETRY_MS)
        key = (group, tenant, asked.name, asked.prefix)
        watch = self._watches.get(key)
        if watch is None:
            self._next_request = self._next_request % 0xFFFFFFFF + 1
            watch = _Watch(group, tenant, asked.name, asked.prefix, self._next_request)
            self._watches[key] = self._by_request[watch.request] = watch
            self._place(watch)
        seat = (watcher, request)
        watch.seats[seat] = None
        self._by_seat[seat] = watch
        self._requests_of.setdefault(watcher, set()).add(request)
        self._of_tenant[tenant] += 1
        if watch.stands:
            self._tell(watch, seat, FRESH)

    def end(self, watcher: Watcher, request: int) -> None:
        """Nothing happens when there is no such watch."""
        watch = self._by_seat.pop((watcher, request), None)
        if watch is None:
            return
        del watch.seats[watcher, request]
        self._requests_of[watcher].discard(request)
        if not self._requests_of[watcher]:
            del self._requests_of[watcher]
        self._lapsed.pop((watcher, request), None)
        self._of_tenant[watch.tenant] -= 1
        if not self._of_tenant[watch.tenant]:
            del self._of_tenant[watch.tenant]
        if not watch.seats:
            del self._watches[watch.group, watch.tenant, watch.target, watch.prefix]
            del self._by_request[watch.request]
            if watch.node:
                self._ask(watch, watch.node, on=False)

    def gone(self, watcher: Watcher) -> None:
        for request in list(self._requests_of.get(watcher, ())):
            self.end(watcher, request)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _catch_up(self) -> None:
        self._timer = None
        lapsed, self._lapsed = self._lapsed, {}
        for seat in lapsed:
            watch = self._by_seat[seat]
            if watch.stands:
                self._tell(watch, seat, FRESH)

    def _tell(self, watch: _Watch, seat: Seat, body: bytes) -> None:
        watcher, request = seat
        if seat in self._lapsed or not watcher.watched(watch.group, request, body):
            self._lapsed[seat] = None
            if self._timer is None:
                self._timer = self._later(CATCH_UP_EVERY_S, self._catch_up)

    # Leaders.

    def led(self, group: int, node: int) -> None:
        """``node`` leads the group from now on; 0: nobody that is known."""
        self._leaders[group] = node
        for watch in self._watches.values():
            if watch.group == group:
                self._place(watch)

    def disconnected(self, node: int) -> None:
        for group, leader in self._leaders.items():
            if leader == node:
                self.led(group, 0)

    def _place(self, watch: _Watch) -> None:
        """Ask the leader for it; that it stands is its answer."""
        node = self._leaders.get(watch.group, 0)
        if watch.node not in (0, node):
            self._ask(watch, watch.node, on=False)
        watch.stands = False
        watch.node = node if node and self._ask(watch, node, on=True) else 0

    def _ask(self, watch: _Watch, node: int, *, on: bool) -> bool:
        body = encode(WatchRequest(watch.target, watch.prefix, on, watch.tenant))
        return self._send(node, watch.group, watch.request, body)

    def heard(self, node: int, request: int, body: bytes) -> None:
        """A WATCHED came. Raises ``msgspec.DecodeError``."""
        watch = self._by_request.get(request)
        if watch is None or watch.node != node:
            return
        said = decode_watched(body)
        if said.refusal is not None:
            self._refused(watch, said.refusal)
            return
        watch.stands = watch.stands or said.fresh
        if watch.stands:
            for seat in list(watch.seats):
                self._tell(watch, seat, body)
            if not said.fresh:
                self._told(watch.tenant, len(watch.seats))

    def _refused(self, watch: _Watch, refusal: Refusal) -> None:
        watch.node, watch.stands = 0, False
        if refusal.code == Code.NOT_LEADER:
            return  # who leads will say so, and is asked then
        for seat in list(watch.seats):
            self.end(*seat)
            seat[0].unwatched(watch.group, seat[1], refusal)
