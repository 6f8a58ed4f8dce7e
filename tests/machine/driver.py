"""Drives a lock machine the way a leader does, with a clock that tests turn by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.wire.frames import (
    Allotment,
    Answers,
    Event,
    EventKind,
    Kind,
    Mode,
    Options,
    Section,
    Stamped,
    Status,
    decode_answer_list,
    encode,
)
from holdfast.wire.limits import SLOTS
from holdfast.wire.names import slot_of
from holdfast_shard.machine import EntryResult, Genesis, LockMachine, build_entry

ALL_SLOTS = tuple(range(SLOTS))
PLENTY = 1_000_000
GENESIS = Genesis("cluster", 1, ALL_SLOTS, tuple(Allotment(tenant, 1, PLENTY, PLENTY, PLENTY) for tenant in (1, 2, 3)))


@dataclass(slots=True)
class Op:
    kind: int
    seq: int = 0
    name: str = ""
    lease: int = 0
    token: int = 0
    ttl: int = 10_000
    wait: int = 0
    options: Options | None = None


def section(client: int, floor: int, ops: list[Op]) -> Section:
    return Section(
        client,
        floor,
        bytes(op.kind for op in ops),
        [op.seq for op in ops],
        [op.name for op in ops],
        [op.lease for op in ops],
        [op.token for op in ops],
        [op.ttl for op in ops],
        [op.wait for op in ops],
        {at: op.options for at, op in enumerate(ops) if op.options is not None},
    )


def stamped(tenant: int, sec: Section) -> Stamped:
    """As a router stamps it."""
    slots = (slot_of(tenant, name) if name else 0xFFFF for name in sec.names)
    return Stamped(tenant, b"".join(slot.to_bytes(2, "little") for slot in slots), sec)


def frame(tenant: int, *sections: Section) -> bytes:
    return encode([stamped(tenant, sec) for sec in sections])


@dataclass(slots=True)
class Answer:
    status: Status
    token: int
    deadline: int
    detail: Any


class Cluster:
    """One machine and the log that made it; ``replay`` makes another from the same log."""

    def __init__(self, machine: LockMachine | None = None, term: int = 1) -> None:
        self.machine = machine or LockMachine(GENESIS)
        self.log: list[tuple[int, int, bytes | None]] = []
        self.index = self.machine.applied_index
        self.term = term - 1
        self.elapsed = 0
        self.events: list[Event] = []
        self.elect()

    def append(self, payload: bytes | None) -> EntryResult:
        self.index += 1
        self.log.append((self.index, self.term, payload))
        result = self.machine.apply(self.index, self.term, payload)
        self.events += result.events
        return result

    def elect(self) -> None:
        """A new leader takes office; its stopwatch starts at zero."""
        self.term += 1
        self.elapsed = 0
        self.append(None)

    def entry(self, *frames: bytes) -> EntryResult:
        return self.append(build_entry(self.term, self.elapsed, frames))

    def pass_time(self, ms: int) -> None:
        """Time passes, and the leader proposes empty entries until nothing is left to do."""
        self.elapsed += ms
        self.entry()
        while self.machine.backlog:
            self.entry()

    def client(self, tenant: int = 1) -> Client:
        result = self.entry(frame(tenant, section(0, 0, [Op(Kind.REGISTER)])))
        return Client(self, tenant, decode_answer_list(result.answers[0])[0].tokens[0])

    def take_events(self, kind: EventKind | None = None) -> list[Event]:
        taken, self.events = self.events, []
        return [event for event in taken if kind is None or event.kind == kind]


class Client:
    def __init__(self, cluster: Cluster, tenant: int, number: int) -> None:
        self.cluster = cluster
        self.tenant = tenant
        self.number = number
        self.seq = 0
        self.floor = 1

    def run(self, ops: list[Op], *, read: bool = False, floor: int | None = None) -> list[Answer]:
        body = frame(self.tenant, section(self.number, self.floor if floor is None else floor, ops))
        if read:
            answers = decode_answer_list(self.cluster.machine.read(body))[0]
        else:
            answers = decode_answer_list(self.cluster.entry(body).answers[0])[0]
        return unpack(answers)

    def op(self, kind: Kind, name: str = "", **fields: Any) -> Answer:
        """One operation under a new seq; the floor follows, as with an SDK that has got every answer."""
        self.seq += 1
        answer = self.run([Op(kind, self.seq, name, **fields)])[0]
        self.floor = self.seq + 1
        return answer

    def look(self, kind: Kind, name: str = "", **fields: Any) -> Answer:
        return self.run([Op(kind, 0, name, **fields)], read=True)[0]

    # The vocabulary of the tests.

    def acquire(self, name: str, *, ttl: int = 10_000, wait: int = 0, lease: int = 0, **options: Any) -> Answer:
        return self.op(
            Kind.ACQUIRE, name, ttl=ttl, wait=wait, lease=lease, options=Options(**options) if options else None
        )

    def shared(self, name: str, **fields: Any) -> Answer:
        return self.acquire(name, mode=int(Mode.SHARED), **fields)

    def permits(self, name: str, permits: int, capacity: int, **fields: Any) -> Answer:
        return self.acquire(name, mode=int(Mode.PERMITS), permits=permits, capacity=capacity, **fields)

    def cache(self, name: str, ttl: int = 1000) -> Answer:
        return self.acquire(name, mode=int(Mode.CACHE), ttl=ttl)

    def release(self, name: str, token: int) -> Answer:
        return self.op(Kind.RELEASE, name, token=token)

    def keepalive(self, lease: int, *, ttl: int = 10_000, change: int = 0) -> Answer:
        return self.op(Kind.KEEPALIVE, lease=lease, ttl=ttl, token=change)

    def open(self, session: bytes, ttl: int = 10_000, **options: Any) -> int:
        answer = self.op(Kind.OPEN, ttl=ttl, options=Options(session=session, **options))
        assert answer.status == Status.OK, answer
        return self.seq

    def holds(self, lease: int) -> Any:
        return self.look(Kind.HOLDS, lease=lease).detail

    def check(self, name: str, token: int) -> bool:
        return self.look(Kind.CHECK, name, token=token).status == Status.OK


def unpack(answers: Answers) -> list[Answer]:
    return [
        Answer(Status(status), token, deadline, answers.details.get(at))
        for at, (status, token, deadline) in enumerate(
            zip(answers.statuses, answers.tokens, answers.deadlines, strict=True)
        )
    ]
