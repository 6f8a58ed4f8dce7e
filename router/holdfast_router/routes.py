"""Where events go: to the connection that the answers of the same client last went to."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from holdfast.wire.frames import Answers, Event, Status, decode_answers, decode_events, encode
from holdfast.wire.messages import Msg

from .downstream import Downstream
from .item import Item

ROUTES_MAX = 1_000_000

Route = tuple[int, int, int]
"""(group, tenant, client number): nobody hears another tenant's events by claiming its clients' numbers."""

_UNREGISTERED = bytes([Status.UNREGISTERED])


class _StatusesOf(msgspec.Struct, array_like=True, gc=False):
    statuses: bytes


_decode_statuses = msgspec.msgpack.Decoder(_StatusesOf).decode


class Routes:
    def __init__(self) -> None:
        self._routes: OrderedDict[Route, Downstream] = OrderedDict()
        """The connection that a client's answers last went to; longest unheard first, bounded."""
        self._routes_of: dict[Downstream, set[Route]] = {}

    def learn(self, group: int, item: Item, caller: Downstream, answers: bytes) -> None:
        """Events of a client go where its answers go."""
        number = item.client
        if number == 0:
            return
        if number < 0:
            number = _registered(decode_answers(answers))
        elif _decode_statuses(answers).statuses[:1] == _UNREGISTERED:
            return
        if number and not caller.connection.closed:
            assert caller.principal is not None
            self._route((group, caller.principal.tenant, number), caller)

    def _route(self, route: Route, caller: Downstream) -> None:
        routes = self._routes
        before = routes.get(route)
        if before is not caller:
            if before is not None:
                self._routes_of[before].discard(route)
            routes[route] = caller
            self._routes_of.setdefault(caller, set()).add(route)
        routes.move_to_end(route)
        if len(routes) > ROUTES_MAX:
            oldest, its = routes.popitem(last=False)
            self._routes_of[its].discard(oldest)

    def tell(self, group: int, body: bytes) -> None:
        """Pass events of a group on."""
        by_caller: dict[Downstream, list[Event]] = {}
        for event in decode_events(body):
            caller = self._routes.get((group, event.tenant, event.client))
            if caller is not None and not caller.connection.paused:
                by_caller.setdefault(caller, []).append(event)
        for caller, mine in by_caller.items():
            caller.connection.send(Msg.EVENTS, group, 0, encode(mine))

    def gone(self, caller: Downstream) -> None:
        for route in self._routes_of.pop(caller, ()):
            del self._routes[route]


def _registered(answers: Answers) -> int:
    return answers.tokens[0] if answers.statuses == bytes([Status.OK]) else 0
