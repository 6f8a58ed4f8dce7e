"""Holders for load tests: a lock each, renewed all the time, and how often the renewal was refused.

They use no SDK: what it does about a refusal would hide it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from fronts import Refused
from lines import TTL_MS

from holdfast.wire.errors import Code
from holdfast.wire.frames import Answers, Kind, Section, Status, decode_answers, encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Request, Role, decode_refusal, decode_table
from holdfast.wire.names import slot_of
from holdfast.wire.stream import Connection

RENEW_EVERY_S = 0.5
PATIENCE_MS = 5_000


class Holds(Protocol):
    """A way in which a lock is held. All raise :class:`Refused`."""

    async def open(self, address: tuple[str, int], key: str) -> None: ...
    async def acquire(self, name: str) -> Any: ...
    async def renew(self, grant: Any) -> None: ...


class FrameHolder:
    """By the frame stream; one request at a time."""

    def __init__(self, tenant: int) -> None:
        self._tenant = tenant
        self._connection: Connection | None = None
        self._groups: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._group = self._client = self._asked = 0

    async def open(self, address: tuple[str, int], key: str) -> None:
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(
            lambda: Connection(self._on_message, self._on_closed), *address
        )
        self._connection.send(Msg.HELLO, 0, 0, encode(Hello(PROTOCOL_VERSION, Role.CLIENT, key=key, agent="loadtest")))
        await asyncio.wait_for(asyncio.shield(self._groups), PATIENCE_MS / 1000)

    async def acquire(self, name: str) -> tuple[str, int]:
        slot = slot_of(self._tenant, name)
        self._group = int.from_bytes(self._groups.result()[2 * slot : 2 * slot + 2], "little")
        self._client = (await self._ask(Kind.REGISTER, "")).tokens[0]
        return name, (await self._ask(Kind.ACQUIRE, name)).tokens[0]

    async def renew(self, grant: tuple[str, int]) -> None:
        await self._ask(Kind.RENEW, *grant)

    async def _ask(self, kind: Kind, name: str, token: int = 0) -> Answers:
        assert self._connection is not None
        self._answer = asyncio.get_running_loop().create_future()
        seq = self._asked if self._client else 0
        ttl_ms = TTL_MS if name else 0
        section = Section(self._client, seq, bytes([kind]), [seq], [name], [0], [token], [ttl_ms], [0], {})
        self._asked += 1
        body = encode(Request(PATIENCE_MS, msgspec.Raw(encode(section))))
        self._connection.send(Msg.OPS, self._group, self._asked, body)
        answers = decode_answers(await self._answer)
        if answers.statuses != bytes([Status.OK]):
            raise Refused(Status(answers.statuses[0]).name, 0)
        return answers

    def _on_message(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        assert body is not None
        if kind == Msg.TABLE and not self._groups.done():
            self._groups.set_result(decode_table(body).groups)
        elif kind == Msg.ANSWERS:
            self._answer.set_result(body)
        elif kind == Msg.REFUSED:
            refusal = decode_refusal(body)
            self._answer.set_exception(Refused(Code(refusal.code).name, refusal.retry_after_ms))
        elif kind == Msg.PING:
            connection.send(Msg.PONG, 0, request, b"")

    def _on_closed(self, connection: Connection, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the router hung up"))


@dataclass
class Renewals:
    done: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By code; a lock that was lost, too."""
    slowest_ms: float = 0.0


class Holder:
    """Holds a lock of its own from :meth:`begin` to :meth:`end`."""

    def __init__(self, way: Holds) -> None:
        self._way = way
        self._renewals = Renewals()
        self._task: asyncio.Task[None] | None = None

    async def begin(self, address: tuple[str, int], key: str) -> None:
        await self._way.open(address, key)
        grant = await self._way.acquire(f"held/{secrets.token_hex(6)}")
        self._task = asyncio.create_task(self._renew(grant))

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def taken(self) -> Renewals:
        """Those since this was last asked. Raises what renewing failed of, other than a refusal."""
        if self._task is not None and self._task.done():
            self._task.result()
        taken, self._renewals = self._renewals, Renewals()
        return taken

    async def _renew(self, grant: Any) -> None:
        while True:
            begun = time.perf_counter()
            try:
                await self._way.renew(grant)
                self._renewals.done += 1
            except Refused as refused:
                self._renewals.refused[refused.code] = self._renewals.refused.get(refused.code, 0) + 1
            took_ms = round(1000 * (time.perf_counter() - begun), 2)
            self._renewals.slowest_ms = max(self._renewals.slowest_ms, took_ms)
            await asyncio.sleep(RENEW_EVERY_S)
