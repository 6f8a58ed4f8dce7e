"""Clients for load tests: connections that share nothing, each with numbers of its own, speaking the frame stream.

They do what an SDK does and no more, so that as little as possible of the machine is spent on asking: a *cycle* is a
section that acquires several locks of its own, without waiting, and the section that releases what it got.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from holdfast.wire.errors import Code
from holdfast.wire.frames import Kind, Section, Status, decode_answers, encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Request, Role, decode_refusal, decode_table
from holdfast.wire.names import slot_of
from holdfast.wire.stream import Connection

TTL_MS = 10_000
JITTER = 0.25
"""Who obeys comes back after Retry-After and up to this part of it."""


@dataclass
class Tally:
    """What came of the cycles of one phase."""

    begun: int = 0
    done: int = 0
    late: int = 0
    """Done, but after the caller's patience."""
    refused: dict[str, int] = field(default_factory=dict)
    """Acquires, by code."""
    releases_refused: dict[str, int] = field(default_factory=dict)
    retry_after_ms: list[int] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    """Of acquires that were answered, from the moment in which they were due."""
    finished_at: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Cycle:
    group: int
    names: list[str]
    due: float
    first_seq: int = 0
    releases: bool = False


class Line:
    """One connection. ``on_end(line)`` is called after each cycle, whatever came of it."""

    def __init__(self, number: int, size: int, patience_s: float, on_end: Callable[[Line], None]) -> None:
        self.tally = Tally()
        self.obeys = True
        self.blocked_until: dict[int, float] = {}
        """By group: until then the router asked it not to come again."""
        self._number = number
        self._size = size
        self._patience_s = patience_s
        self._on_end = on_end
        self._requests: dict[int, _Cycle] = {}
        self._last_request = 0
        self._clients: dict[int, int] = {}
        self._seqs: dict[int, int] = {}
        self._tags: dict[int, str] = {}
        self._owners: list[int] = []
        """Group of each slot."""
        self._begun = 0
        self._ready = asyncio.Event()
        self._connection: Connection | None = None

    async def open(self, address: tuple[str, int], key: str) -> None:
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(
            lambda: Connection(self._on_message, self._on_closed), *address
        )
        hello = Hello(PROTOCOL_VERSION, Role.CLIENT, key=key, agent="loadtest")
        self._connection.send(Msg.HELLO, 0, 1, encode(hello))
        await asyncio.wait_for(self._ready.wait(), 20)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def groups(self) -> list[int]:
        return list(self._clients)

    def begin(self, due: float) -> None:
        """A cycle, in one group after the other; held back when that group asked not to be asked yet."""
        group = self.groups[self._begun % len(self._clients)]
        self._begun += 1
        if time.perf_counter() < self.blocked_until.get(group, 0.0):
            return
        self.tally.begun += 1
        first = self._begun * self._size
        names = [f"{self._tags[group]}{first + at}" for at in range(self._size)]
        self._send(_Cycle(group, names, due), Kind.ACQUIRE, [0] * self._size)

    def _send(self, cycle: _Cycle, kind: Kind, tokens: list[int]) -> None:
        group, count = cycle.group, len(tokens)
        first = self._seqs[group]
        self._seqs[group] = first + count
        cycle.first_seq = first
        floor = min((each.first_seq for each in self._requests.values() if each.group == group), default=first)
        zeros = [0] * count
        ttls = [TTL_MS if kind == Kind.ACQUIRE else 0] * count
        seqs = list(range(first, first + count))
        section = Section(
            self._clients[group],
            floor,
            bytes([kind]) * count,
            seqs,
            cycle.names[:count],
            zeros,
            tokens,
            ttls,
            zeros,
            {},
        )
        self._ask(group, cycle, section)

    def _ask(self, group: int, cycle: _Cycle, section: Section) -> None:
        assert self._connection is not None
        self._last_request += 1
        self._requests[self._last_request] = cycle
        body = encode(Request(int(1000 * self._patience_s), msgspec.Raw(encode(section))))
        self._connection.send(Msg.OPS, group, self._last_request, body)

    def _on_message(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        assert body is not None
        if kind == Msg.TABLE and not self._clients:
            self._register(decode_table(body).groups)
        elif kind == Msg.ANSWERS:
            self._answered(self._requests.pop(request), body)
        elif kind == Msg.REFUSED:
            refusal = decode_refusal(body)
            if request == 0 or request not in self._requests:
                raise refusal.error()
            self._refused(self._requests.pop(request), refusal.code, refusal.retry_after_ms)

    def _register(self, table: bytes) -> None:
        self._owners = [int.from_bytes(table[at : at + 2], "little") for at in range(0, len(table), 2)]
        for group in sorted(set(self._owners)):
            self._clients[group] = 0
            self._seqs[group] = 1
            section = Section(0, 0, bytes([Kind.REGISTER]), [0], [""], [0], [0], [0], [0], {})
            self._ask(group, _Cycle(group, [], 0.0), section)

    def place(self, tenant: int) -> None:
        """Find names for each group: the tenant's number is part of the slot."""
        for group in self.groups:
            at = 0
            while self._owners[slot_of(tenant, f"{self._number}.{at}")] != group:
                at += 1
            self._tags[group] = "{" + f"{self._number}.{at}" + "}" + secrets.token_hex(4)

    def _answered(self, cycle: _Cycle, body: bytes) -> None:
        answers = decode_answers(body)
        if not cycle.names:
            self._clients[cycle.group] = answers.tokens[0]
            if all(self._clients.values()):
                self._ready.set()
            return
        now = time.perf_counter()
        if cycle.releases:
            tally = self.tally
            tally.done += 1
            tally.late += now - cycle.due > 2 * self._patience_s
            tally.finished_at.append(now)
            self._on_end(self)
            return
        self.tally.took_s.append(now - cycle.due)
        if answers.statuses != bytes([Status.OK]) * self._size:
            raise AssertionError(f"a lock of its own was not granted: {answers.statuses!r}")
        cycle.releases = True
        self._send(cycle, Kind.RELEASE, answers.tokens)

    def _refused(self, cycle: _Cycle, code: int, retry_after_ms: int) -> None:
        books = self.tally.releases_refused if cycle.releases else self.tally.refused
        name = Code(code).name
        books[name] = books.get(name, 0) + 1
        if not cycle.releases:
            self.tally.retry_after_ms.append(retry_after_ms)
        if self.obeys:
            wait_s = retry_after_ms / 1000 * (1 + random.random() * JITTER)
            before = self.blocked_until.get(cycle.group, 0.0)
            self.blocked_until[cycle.group] = max(before, time.perf_counter() + wait_s)
        self._on_end(self)

    def _on_closed(self, connection: Connection, error: Exception | None) -> None:
        if error is not None:
            raise error
