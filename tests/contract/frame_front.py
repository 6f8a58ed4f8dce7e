"""The frame stream itself as a way in which a case is played: messages by hand, no SDK."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from holdfast.wire.errors import Code
from holdfast.wire.frames import (
    Event,
    EventKind,
    Kind,
    LockPage,
    LockView,
    Mode,
    Options,
    SessionPage,
    Status,
    decode_answers,
    decode_events,
    encode,
)
from holdfast.wire.messages import Msg, Request, Role, Welcome, decode_refusal, decode_table
from holdfast.wire.names import slot_of
from tests.machine.driver import Op, section
from tests.node.processes import Caller

from .cases import Step
from .fronts import TTL_MS, Failed

_CODES = {
    Status.BUSY: "lock-timeout", Status.NOT_HELD: "not-held", Status.ALREADY_HELD: "already-held",
    Status.CAPACITY_MISMATCH: "capacity-mismatch", Status.INVALID: "invalid-argument",
    Status.LEASE_ENDED: "session-lost", Status.CHANGED: "lock-lost",
    # An acquire without a name has no slot, so no group has it.
    Status.MOVED: "invalid-argument",
}  # fmt: skip
_FIRST_LEASE = 1 << 32
"""Of sessions: plain leases are numbered as their acquires are."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    token: int
    deadline_ms: int
    detail: Any


class Frames:
    def __init__(self, caller: Caller, tenant: int, owners: bytes) -> None:
        self._caller = caller
        self._tenant = tenant
        self._owners = [int.from_bytes(owners[at : at + 2], "little") for at in range(0, len(owners), 2)]
        self._clients: dict[int, int] = {}
        self._seq = self._request = 0
        self._lease = _FIRST_LEASE
        self._events: list[Event] = []

    @classmethod
    async def open(cls, address: str, key: str) -> Self:
        caller = Caller()
        await caller.dial(address)
        kind, body = await caller.hello({"secret": key, "cluster": ""}, role=Role.CLIENT)
        assert kind == Msg.WELCOME
        tenant = msgspec.msgpack.decode(body, type=Welcome).tenant
        while kind != Msg.TABLE:
            kind, _, _, body = await caller.next()
        found = cls(caller, tenant, decode_table(body).groups)
        for group in sorted(set(found._owners)):
            (registered,) = await found._ask(group, [Op(Kind.REGISTER, ttl=0)])
            found._clients[group] = registered.token
        return found

    async def close(self) -> None:
        self._caller.connection.close()
        await self._caller.closed.wait()
        await asyncio.sleep(0)  # in which the transport closes

    async def _ask(self, group: int, ops: Sequence[Op], kind: int = Msg.OPS) -> list[_Answer]:
        client = self._clients.get(group, 0)
        for op in ops:
            if client:
                self._seq += 1
                op.seq = self._seq
        self._request += 1
        body = encode(section(client, ops[0].seq, list(ops)))
        self._caller.connection.send(kind, group, self._request, encode(Request(5_000, msgspec.Raw(body))))
        while True:
            found, _, request, body = await self._caller.next()
            if found == Msg.EVENTS:
                self._events += decode_events(body)
            elif found == Msg.REFUSED and request == self._request:
                raise Failed(Code(decode_refusal(body).code).name.lower().replace("_", "-"))
            elif found == Msg.ANSWERS and request == self._request:
                answers = decode_answers(body)
                columns = zip(answers.statuses, answers.tokens, answers.deadlines, strict=True)
                return [_Answer(*row, answers.details.get(at)) for at, row in enumerate(columns)]

    async def _one(self, op: Op, kind: int = Msg.OPS, fine: Sequence[int] = (Status.OK,)) -> _Answer:
        group = self._owners[slot_of(self._tenant, op.name)]
        (answer,) = await self._ask(group, [op], kind)
        if answer.status not in fine:
            raise Failed(_CODES.get(Status(answer.status), Status(answer.status).name))
        return answer

    async def _everywhere(self, kind: Kind, lease: int, fine: Sequence[int], options: Options | None = None) -> None:
        for group in self._clients:
            (answer,) = await self._ask(group, [Op(kind, lease=lease, ttl=TTL_MS, options=options)])
            assert answer.status in fine

    async def _pages(self, kind: Kind, name: str, shape: type[Any]) -> list[Any]:
        found = []
        for group in self._clients:
            (answer,) = await self._ask(group, [Op(kind, name=name, options=Options(limit=500))], Msg.READ)
            found.append(msgspec.convert(answer.detail, shape))
            assert not found[-1].cursor
        return found

    async def play(self, step: Step, prefix: str, of: Any, under: Any) -> tuple[Any, dict[str, Any]]:
        name = prefix + step.name if step.name else ""
        match step.do:
            case "acquire":
                return (name, await self._acquire(step, name, under)), {}
            case "release":
                await self._one(Op(Kind.RELEASE, name=of[0], token=of[1]))
            case "renew":
                renewed = await self._one(Op(Kind.RENEW, name=of[0], token=of[1], ttl=400))
                return None, {"expires_in_ms": renewed.deadline_ms}
            case "check":
                fine = Status.OK, Status.NOT_HELD
                answer = await self._one(Op(Kind.CHECK, name=of[0], token=of[1]), Msg.READ, fine)
                return None, {"held": answer.status == Status.OK}
            case "get":
                view = msgspec.convert((await self._one(Op(Kind.GET, name=name), Msg.READ)).detail, LockView)
                return None, {"held": view.held > 0, "waiters": view.waiters, "holders": view.held}
            case "list":
                return None, {"names": sum(len(page.locks) for page in await self._pages(Kind.LIST, name, LockPage))}
            case "break":
                await self._one(Op(Kind.FORCE, name=name, options=Options(reason="test")))
            case "batch":
                group = self._owners[slot_of(self._tenant, name)]
                acquire = Op(Kind.ACQUIRE, name=name, ttl=TTL_MS)
                answers = await self._ask(group, [acquire, Op(Kind.RELEASE, name=of[0], token=of[1])])
                return None, {"codes": [_CODES.get(Status(answer.status), "") for answer in answers]}
            case _:
                return await self._session(step, of)
        return None, {}

    async def _session(self, step: Step, of: Any) -> tuple[Any, dict[str, Any]]:
        match step.do:
            case "session":
                self._lease += 1
                number = secrets.token_bytes(16)
                await self._everywhere(Kind.OPEN, self._lease, (Status.OK,), Options(session=number))
                return (self._lease, number), {}
            case "keep":
                await self._everywhere(Kind.KEEPALIVE, of[0], (Status.OK, Status.CHANGED))
            case "listed":
                pages = await self._pages(Kind.SESSIONS, "", SessionPage)
                return None, {"held": sum(one.held for page in pages for one in page.sessions if one.session == of[1])}
            case "end":
                await self._everywhere(Kind.END, of[0], (Status.OK,))
            case _:
                raise AssertionError(step.do)
        return None, {}

    async def _acquire(self, step: Step, name: str, under: Any) -> int:
        given = step.given
        mode = Mode.PERMITS if "capacity" in given else Mode.SHARED if given.get("shared") else Mode.EXCLUSIVE
        options = Options(int(mode), given.get("permits", 1), given.get("capacity", 1), steal=given.get("steal", False))
        lease, ttl_ms = (under[0], 0) if under is not None else (0, given.get("ttl_ms", TTL_MS))
        op = Op(Kind.ACQUIRE, 0, name, lease, 0, ttl_ms, given.get("wait_ms", 0), options)
        answer = await self._one(op, fine=(Status.OK, Status.QUEUED))
        if answer.status == Status.OK:
            return answer.token
        event = await self._event_of(op.seq)
        if event.kind != EventKind.GRANTED:
            raise Failed("lock-timeout")
        return event.token

    async def _event_of(self, seq: int) -> Event:
        """What becomes of the acquire of that number."""
        while True:
            for event in self._events:
                if event.seq == seq and event.kind in (EventKind.GRANTED, EventKind.ENDED):
                    return event
            kind, _, _, body = await self._caller.next()
            if kind == Msg.EVENTS:
                self._events += decode_events(body)
