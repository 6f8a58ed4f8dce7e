"""The floor's router: ``python -m loadtests.floor.router PORT LEADER``."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import uvloop

from . import GROUPS, WINDOW
from .wire import Link, Operations, Outcomes, decode_operations, decode_outcomes, dial, encode, serve


@dataclass(slots=True)
class Request:
    """A client's frame, answered when the last of its operations is."""

    client: Link
    number: int
    outcomes: Outcomes
    left: int


@dataclass(slots=True)
class Share:
    """Of a request, what goes to one group, and where it stands in the request."""

    request: Request
    places: list[int]
    operations: Operations


class Router:
    def __init__(self) -> None:
        self._queued: list[list[Share]] = [[] for _ in range(GROUPS)]
        self._under_way = [0] * GROUPS
        self._sent: dict[int, list[Share]] = {}
        self._last = 0

    async def dial(self, port: int) -> None:
        self._leader = await dial(port, self._on_answers)

    def on_frame(self, client: Link, number: int, group: int, body: bytes) -> None:
        operations = decode_operations(body)
        count = len(operations.names)
        request = Request(client, number, Outcomes(bytearray(count), [0] * count), count)
        places: list[list[int]] = [[] for _ in range(GROUPS)]
        for place, name in enumerate(operations.names):
            places[hash(name) % GROUPS].append(place)
        for to, found in enumerate(places):
            if found:
                self._queued[to].append(Share(request, found, _taken(operations, found)))
                self._pass_on(to)

    def _pass_on(self, group: int) -> None:
        shares = self._queued[group]
        if not shares or self._under_way[group] >= WINDOW:
            return
        self._queued[group] = []
        self._under_way[group] += 1
        self._last += 1
        self._sent[self._last] = shares
        self._leader.send(self._last, group, encode(_joined([share.operations for share in shares])))

    def _on_answers(self, leader: Link, number: int, group: int, body: bytes) -> None:
        self._under_way[group] -= 1
        answered = decode_outcomes(body)
        start = 0
        for share in self._sent.pop(number):
            request = share.request
            statuses, tokens = request.outcomes.statuses, request.outcomes.tokens
            for at, place in enumerate(share.places, start):
                statuses[place] = answered.statuses[at]
                tokens[place] = answered.tokens[at]
            start += len(share.places)
            request.left -= len(share.places)
            if not request.left:
                request.client.send(request.number, 0, encode(request.outcomes))
        self._pass_on(group)


def _taken(operations: Operations, places: list[int]) -> Operations:
    kinds, names, owners = operations.kinds, operations.names, operations.owners
    ttls_ms, waits_ms = operations.ttls_ms, operations.waits_ms
    return Operations(
        bytearray([kinds[place] for place in places]),
        [names[place] for place in places],
        [owners[place] for place in places],
        [ttls_ms[place] for place in places],
        [waits_ms[place] for place in places],
    )


def _joined(sections: list[Operations]) -> Operations:
    if len(sections) == 1:
        return sections[0]
    joined = Operations.empty()
    for section in sections:
        joined.kinds += section.kinds
        joined.names += section.names
        joined.owners += section.owners
        joined.ttls_ms += section.ttls_ms
        joined.waits_ms += section.waits_ms
    return joined


async def run(port: int, leader: int) -> None:
    router = Router()
    await router.dial(leader)
    await serve(port, router.on_frame)


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2])))
