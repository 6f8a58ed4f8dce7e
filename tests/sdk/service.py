"""A whole service in the test's own process: the real lock machines behind real sockets, without consensus.

It stands in for router and leaders, so that tests can lose answers and events, hold messages back, change leaders and
let the group clock run at will.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from holdfast.wire.errors import Code
from holdfast.wire.frames import (
    Allotment,
    Event,
    Kind,
    Options,
    Section,
    Stamped,
    StampedRaw,
    Status,
    decode_answers,
    decode_raw_list,
    decode_section,
    encode,
)
from holdfast.wire.limits import PROTOCOL_VERSION, SLOTS
from holdfast.wire.messages import (
    GroupRole,
    Msg,
    Refusal,
    SlotTable,
    WatchRequest,
    Welcome,
    decode_hello,
    decode_request,
    decode_watch,
)
from holdfast.wire.names import slot_of
from holdfast.wire.stream import Connection
from holdfast_shard.machine import EntryResult, Genesis, LockMachine, build_entry
from holdfast_shard.node.watches import Watches

KEY = "hf_test"
TENANT = 1
PLENTY = 1_000_000
GROUPS = (1, 2)
TABLE = SlotTable(1, b"".join(GROUPS[slot % len(GROUPS)].to_bytes(2, "little") for slot in range(SLOTS)))


def monotonic_ms() -> float:
    return time.monotonic() * 1000


class Leader:
    """One group with one replica and no log: entries are applied as they come."""

    def __init__(self, group: int, clock_ms: Callable[[], float]) -> None:
        slots = tuple(slot for slot in range(SLOTS) if GROUPS[slot % len(GROUPS)] == group)
        self.group = group
        self.machine = LockMachine(Genesis("test", group, slots, (Allotment(TENANT, 1, PLENTY, PLENTY, PLENTY),)))
        self.watches = Watches(group, self.machine)
        self.asked: dict[tuple[Connection, int], WatchRequest] = {}
        self.term = 0
        self._clock_ms = clock_ms
        self._office_ms = 0.0
        self.elect()

    def elect(self) -> None:
        """A new leader takes office, with a stopwatch of its own."""
        self.term += 1
        self._office_ms = self._clock_ms()
        self.machine.apply(self.machine.applied_index + 1, self.term, None)
        for (connection, request), asked in self.asked.items():
            self.watches.ask(connection, request, asked, self.term)

    def watch(self, connection: Connection, request: int, asked: WatchRequest) -> None:
        """As the router asks, anew after every election."""
        self.asked.pop((connection, request), None)
        if asked.on:
            self.asked[connection, request] = asked
        self.watches.ask(connection, request, asked, self.term)

    def forget(self, connection: Connection) -> None:
        self.asked = {key: asked for key, asked in self.asked.items() if key[0] is not connection}
        self.watches.drop_caller(connection)

    @property
    def elapsed_ms(self) -> int:
        return int(self._clock_ms() - self._office_ms)

    def apply(self, *frames: bytes) -> EntryResult:
        entry = build_entry(self.term, self.elapsed_ms, frames)
        return self.machine.apply(self.machine.applied_index + 1, self.term, entry)

    def allot(self, allotment: Allotment) -> None:
        columns = Section(0, 0, bytes([Kind.ALLOT]), [0], [""], [0], [0], [0], [0], {0: Options(allotment=allotment)})
        self.apply(encode([Stamped(0, b"\xff\xff", columns)]))

    def due_in_s(self) -> float | None:
        due = self.machine.due_ms()
        if self.machine.backlog:
            return 0.0
        return None if due is None else max(due - self.machine.reading_ms(self.elapsed_ms), 0) / 1000


class Service:
    """``hold`` keeps what clients send; ``deaf`` drops it; ``mute`` drops what would be sent to them."""

    def __init__(self) -> None:
        self.skipped_ms = 0.0
        """Added to the groups' clocks: time that passes for the service alone."""
        self.leaders = {group: Leader(group, lambda: monotonic_ms() + self.skipped_ms) for group in GROUPS}
        self.table = TABLE
        self.connections: list[Connection] = []
        self.welcomed: list[Connection] = []
        self.heard: dict[tuple[int, int], Connection] = {}
        """(group, client) -> the connection from which it was last heard."""
        self.ports: list[int] = []
        self.deaf = False
        self.mute = False
        self.lose_events = False
        self.lose_answers = 0
        """Answers to the next so many requests are lost, after they were applied."""
        self.refuse: Callable[[int, list[int]], Refusal | None] = lambda group, kinds: None
        self.operations: list[tuple[int, int, str]] = []
        """(group, kind, name) of everything that was applied or read, in order."""
        self.sections = 0
        self._held: list[Callable[[], None]] | None = None
        self._servers: list[asyncio.Server] = []
        self._timers: dict[int, asyncio.TimerHandle] = {}

    # Life.

    async def start(self, routers: int = 1) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(routers):
            server = await loop.create_server(
                lambda: Connection(self._message, self._closed, on_open=self.connections.append), "127.0.0.1", 0
            )
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for timer in self._timers.values():
            timer.cancel()
        self.cut()
        for server in self._servers:
            await server.wait_closed()

    async def stop_router(self, number: int) -> None:
        """Its listener and all connections go; the other routers take over."""
        self._servers[number].close()
        self.cut()
        await self._servers[number].wait_closed()

    @property
    def url(self) -> str:
        return "holdfast://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def cut(self) -> None:
        """Every connection breaks."""
        for connection in list(self.connections):
            connection.abort()

    def elect(self, group: int) -> None:
        leader = self.leaders[group]
        leader.elect()
        for connection in self.welcomed:
            connection.send(Msg.ROLES, 0, 0, encode([GroupRole(group, leader.term, leader.term % 3 + 1, True)]))
        self._tell_watchers(leader)

    def hold(self) -> None:
        """Keep what clients send, until :meth:`deliver`."""
        self._held = []

    def deliver(self) -> None:
        held, self._held = self._held or [], None
        for delivery in held:
            delivery()

    @property
    def holding(self) -> int:
        return len(self._held or ())

    def counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for leader in self.leaders.values():
            self.run(leader)
            for key, value in leader.machine.counts().items():
                total[key] = total.get(key, 0) + value
        return total

    def kinds(self) -> list[Kind]:
        return [Kind(kind) for _, kind, _ in self.operations]

    # Messages.

    def _closed(self, connection: Connection, error: Exception | None) -> None:
        for known in (self.connections, self.welcomed):
            if connection in known:
                known.remove(connection)
        for leader in self.leaders.values():
            leader.forget(connection)

    def _message(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        assert body is not None
        if self.deaf:
            return
        if kind == Msg.HELLO:
            self._hello(connection, request, body)
        elif kind == Msg.PING:
            self._send(connection, Msg.PONG, group, request, b"")
        elif kind == Msg.WATCH:
            asked = decode_watch(body)
            asked.tenant = TENANT
            self.leaders[group].watch(connection, request, asked)
            self._tell_watchers(self.leaders[group])
        elif kind == Msg.STATUS:
            self._send(connection, Msg.STATUS, 0, request, encode({"router": {}, "nodes": []}))
        elif self._held is not None:
            self._held.append(lambda: self._operations(connection, kind, group, request, body))
        else:
            self._operations(connection, kind, group, request, body)

    def _hello(self, connection: Connection, request: int, body: bytes) -> None:
        hello = decode_hello(body)
        if hello.key != KEY:
            refusal = Refusal(Code.UNAUTHENTICATED, "unknown API key")
            self._send(connection, Msg.REFUSED, 0, request, encode(refusal))
            connection.close()
            return
        self.welcomed.append(connection)
        self._send(connection, Msg.WELCOME, 0, request, encode(Welcome(PROTOCOL_VERSION, "test", TENANT)))
        self._send(connection, Msg.TABLE, 0, 0, encode(self.table))
        roles = [GroupRole(group, leader.term, leader.term % 3 + 1, True) for group, leader in self.leaders.items()]
        self._send(connection, Msg.ROLES, 0, 0, encode(roles))

    def _operations(self, connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
        asked = decode_request(body)
        shape = decode_section(asked.section)
        refusal = self.refuse(group, list(shape.kinds))
        if refusal is not None:
            self._send(connection, Msg.REFUSED, group, request, encode(refusal))
            return
        self.sections += 1
        self.operations += [(group, operation, name) for operation, name in zip(shape.kinds, shape.names, strict=True)]
        slots = b"".join((slot_of(TENANT, n) if n else 0xFFFF).to_bytes(2, "little") for n in shape.names)
        frame = encode([StampedRaw(TENANT, slots, asked.section)])
        leader = self.leaders[group]
        if shape.client:
            self.heard[group, shape.client] = connection
        if kind == Msg.READ:
            self.run(leader)
            answers = decode_raw_list(leader.machine.read(frame))[0]
            self._send(connection, Msg.ANSWERS, group, request, bytes(answers))
            return
        result = leader.apply(frame)
        answers = decode_raw_list(result.answers[0])[0]
        if not shape.client:
            registered = decode_answers(answers)
            if registered.statuses[0] == Status.OK:
                self.heard[group, registered.tokens[0]] = connection
        if self.lose_answers:
            self.lose_answers -= 1
        else:
            self._send(connection, Msg.ANSWERS, group, request, bytes(answers))
        self._settle(leader, result.events)

    def _send(self, connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
        if not self.mute:
            connection.send(kind, group, request, body)

    # Time.

    def run(self, leader: Leader) -> None:
        """The empty entries of a leader: whatever is due happens."""
        while True:
            self._settle(leader, leader.apply().events)
            if not leader.machine.backlog:
                return

    def _settle(self, leader: Leader, events: list[Event]) -> None:
        if not self.lose_events:
            for event in events:
                connection = self.heard.get((leader.group, event.client))
                if connection is not None:
                    self._send(connection, Msg.EVENTS, leader.group, 0, encode([event]))
        self._tell_watchers(leader)
        timer = self._timers.pop(leader.group, None)
        if timer is not None:
            timer.cancel()
        due_s = leader.due_in_s()
        if due_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[leader.group] = loop.call_later(max(due_s, 0.002), self.run, leader)

    def _tell_watchers(self, leader: Leader) -> None:
        for notice in leader.watches.take(leader.term, lambda caller: not self.mute):
            assert isinstance(notice.caller, Connection)
            self._send(notice.caller, Msg.WATCHED, leader.group, notice.request, encode(notice.watched))


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Wait for a condition that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def name_in(group: int, stem: str = "name") -> str:
    """A name whose slot belongs to ``group``."""
    return next(
        name for name in (f"{stem}-{n}" for n in range(1000)) if GROUPS[slot_of(TENANT, name) % len(GROUPS)] == group
    )
