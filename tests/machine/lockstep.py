"""The machine and the naive reference under one log, compared after every entry in all that can be seen of them.

A trace is a list of steps that say little (who, which name, how far back); the world makes operations of them that are
near what is held, awaited, about to run out or long over, for there the mistakes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from holdfast.wire.frames import GONE, Allotment, HoldsView, Kind, Options, Stamped, Status, decode_answer_list, encode
from holdfast.wire.limits import FREED_PER_ENTRY_MAX, SLOTS
from holdfast_shard.machine import EntryResult, Genesis, LockMachine, build_entry
from tests.machine.beliefs import Belief, Beliefs
from tests.machine.driver import GENESIS, Op, section, stamped
from tests.machine.reference import Answer, Reference
from tests.machine.reference_reads import Reads
from tests.machine.steps import (
    NAMES,
    SESSIONS,
    TENANTS,
    Again,
    Allot,
    Delete,
    Do,
    Elect,
    Export,
    Join,
    Look,
    Pass,
    Step,
    Stray,
    Swap,
)


@dataclass(slots=True)
class Caller:
    number: int
    tenant: int
    seq: int = 0
    floor: int = 1
    leases: list[int] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Copy:
    """A snapshot under way: what it must show, and what was applied since."""

    chunks: list[bytes]
    rest: Iterator[bytes]
    pace: int
    digest: bytes
    rows: bytes
    log: list[tuple[int, int, bytes | None]] = field(default_factory=list)


class World:
    def __init__(self, freed_max: int = FREED_PER_ENTRY_MAX, *, compared: bool = True) -> None:
        self.compared = compared
        """Without it the beliefs of clients alone are looked at."""
        stamps = [stamped(tenant, section(0, 0, [Op(Kind.ACQUIRE, 0, "elsewhere")])) for tenant in set(TENANTS)]
        foreign = {int.from_bytes(stamp.slots, "little") for stamp in stamps}
        owned = tuple(slot for slot in range(SLOTS) if slot not in foreign)
        self.genesis = Genesis("cluster", 1, owned, GENESIS.allotments[:2])
        self.machine = LockMachine(self.genesis)
        self.reference = Reference(freed_max, self.genesis)
        self.index = self.term = self.elapsed = self.real_ms = 0
        self.version = GENESIS.allotments[0].version
        self.callers: list[Caller] = []
        self.sent: list[Stamped] = []
        self.pending: list[Stamped] = []
        self.tokens: dict[tuple[int, str], list[int]] = {}
        self.copy: Copy | None = None
        self.beliefs = Beliefs(self._holds_of)
        self.seen: dict[str, int] = {}
        self._elect(Elect())
        for tenant in TENANTS:
            self._join(Join(tenant))

    def run(self, steps: list[Step]) -> None:
        for step in steps:
            self.take(step)
        self.end()

    def take(self, step: Step) -> None:
        match step:
            case Do():
                self._do(step)
            case Pass():
                self.elapsed += step.ms
                self.real_ms += step.ms
                if step.noticed:
                    self._close()
            case Again() if self.sent:
                self.pending.append(self.sent[-1 - step.back % len(self.sent)])
                self._close()
            case Elect():
                self._elect(step)
            case Allot():
                self._allot(step)
            case Delete():
                self._tell(Allotment(step.tenant, GONE, 0, 0, 0, 0, 0, 0))
            case Join():
                self._join(step)
            case Stray():
                number = self.callers[step.who % len(self.callers)].number if step.who is not None else 0
                op = Op(step.kind, 1, "a", options=Options(allotment=step.allotment))
                self.pending.append(stamped(step.tenant, section(number, 1, [op])))
                self._close()
            case Look():
                self._look(step)
            case Swap():
                machine = LockMachine(self.genesis)
                machine.restore(list(self.machine.export()))
                self.machine, self.copy = machine, None
            case Export() if self.copy is None:
                digest, rows = self.machine.digest, self.machine.rows_digest()
                export = self.machine.export()
                self.copy = Copy([next(export)], export, step.pace, digest, rows)

    def end(self) -> None:
        """What is left over is freed, everything is looked at, and a snapshot under way is compared."""
        self._close()
        while self.machine.backlog:
            self._close()
        for who, caller in enumerate(self.callers):
            for name in range(3):
                self._look(Look(Kind.GET, who, name))
            for back in range(len(caller.leases)):
                self._look(Look(Kind.HOLDS, who, back=back))
            for back in range(min(caller.seq, 8)):
                self._look(Look(Kind.TICKETS, who, back=back))
            self._look(Look(Kind.LIST, who, 3))
            self._look(Look(Kind.SESSIONS, who))
        if self.copy is not None:
            self._compare_copy(self.copy)

    # Operations.

    def _do(self, step: Do) -> None:
        caller = self.callers[step.who % len(self.callers)]
        if self.reference.client(caller.tenant, caller.number) is None and not step.unanswered:
            caller = self._join(Join(caller.tenant), step.who % len(self.callers))
        caller.seq += 1
        op = self._operation(caller, step)
        caller.floor = max(caller.floor, caller.seq - step.unanswered)
        stamp = stamped(caller.tenant, section(caller.number, caller.floor, [op]))
        self.sent.append(stamp)
        if not step.late:
            self.pending.append(stamp)
        if step.closes:
            self._close()

    def _operation(self, caller: Caller, step: Do) -> Op:
        name = NAMES[step.name]
        op = Op(step.kind, caller.seq, name, 0, 0, step.ttl, step.wait, step.options)
        tokens = self.tokens.get((caller.tenant, name), [])
        match step.kind:
            case Kind.OPEN:
                op.options = op.options or Options(session=SESSIONS[step.back % len(SESSIONS)])
                caller.leases.append(op.seq)
                caller.sessions.append(op.seq)
            case Kind.ACQUIRE:
                op.lease = back_in(caller.sessions, step.lease - 1) if step.lease else 0
                if not op.lease:
                    caller.leases.append(op.seq)
            case Kind.RELEASE:
                holders = [hold.token for hold in self.reference.holders((caller.tenant, name))]
                op.token = back_in(holders or tokens if step.back < 2 else tokens, step.back)
            case Kind.RENEW:
                op.token = back_in(tokens, step.back)
            case Kind.FORCE:
                op.token = back_in(tokens, step.back - 1) if step.back else 0
            case Kind.KEEPALIVE:
                op.lease = back_in(caller.leases, step.back)
                op.token = self.beliefs.known((caller.tenant, caller.number, op.lease)) if step.lease else step.back
            case Kind.CANCEL:
                op.token = op.seq - 1 - step.back
                op.lease = back_in(caller.sessions, step.lease - 1) if step.lease else 0
            case Kind.END if op.options is None or not op.options.session:
                op.lease = back_in(caller.leases, step.back)
        return op

    def _elect(self, step: Elect) -> None:
        self._close()
        self.term, old, self.elapsed = self.term + 1, (self.term, self.elapsed), 0
        self._apply(None, [])
        if step.straggler:
            late = self.sent[-1:]
            self._apply(old[0], [late], old[1] + 5000)

    def _allot(self, step: Allot) -> None:
        self.version += step.newer
        self._tell(Allotment(step.tenant, self.version, step.held, step.waiters, step.sessions, *step.limits))

    def _tell(self, allotment: Allotment) -> None:
        op = Op(Kind.ALLOT, options=Options(allotment=allotment))
        self.pending.append(stamped(0, section(0, 0, [op])))
        self._close()

    def _join(self, step: Join, instead: int | None = None) -> Caller:
        """Register a new client, or one that was forgotten anew."""
        self._close()
        answers = self._apply(self.term, [[stamped(step.tenant, section(0, 0, [Op(Kind.REGISTER)]))]])
        caller = Caller(answers[0][0][0][1], step.tenant)
        if instead is None:
            self.callers.append(caller)
        else:
            self.callers[instead] = caller
        return caller

    # Entries.

    def _close(self) -> None:
        """One entry of what is pending: two sections to a frame."""
        frames = [self.pending[at : at + 2] for at in range(0, len(self.pending), 2)]
        self.pending = []
        self._apply(self.term, frames)

    def _apply(
        self, stamp: int | None, frames: list[list[Stamped]], elapsed_ms: int | None = None
    ) -> list[list[list[Answer]]]:
        self.index += 1
        elapsed_ms = self.elapsed if elapsed_ms is None else elapsed_ms
        payload = None if stamp is None else build_entry(stamp, elapsed_ms, [encode(frame) for frame in frames])
        result = self.machine.apply(self.index, self.term, payload)
        expected = self.reference.apply(self.term, stamp, elapsed_ms, frames)
        if self.copy is not None:
            self._take_chunks(self.copy, payload)
        answers = [[plain(answers) for answers in decode_answer_list(data)] for data in result.answers]
        if self.compared:
            self._agree(answers, result, expected)
        if result.refused:
            return []
        self._learn(frames, answers)
        # By real time: the group clock may stand, but never run faster.
        self.beliefs.told(self.real_ms, frames, answers, result.events)
        for belief in self.beliefs.living(self.real_ms):
            assert self._is_held(belief), f"somebody still counts on {belief}"
        return answers

    def _agree(
        self,
        answers: list[list[list[Answer]]],
        result: EntryResult,
        expected: tuple[list[list[list[Answer]]], list[object]] | None,
    ) -> None:
        assert result.refused == (expected is None), "an entry is refused by its stamp alone"
        if expected is not None:
            assert answers == expected[0], "answers"
            assert [msgspec.structs.astuple(event) for event in result.events] == expected[1], "events"
            self._compare()

    def _is_held(self, belief: Belief) -> bool:
        body = section(0, 0, [Op(Kind.CHECK, 0, belief.name, token=belief.token)])
        answers = decode_answer_list(self.machine.read(encode([stamped(belief.tenant, body)])))[0]
        return answers.statuses == bytes([Status.OK])

    def _holds_of(self, tenant: int, client: int, lease: int) -> HoldsView:
        body = section(client, 0, [Op(Kind.HOLDS, lease=lease)])
        answers = decode_answer_list(self.machine.read(encode([stamped(tenant, body)])))[0]
        return msgspec.convert(answers.details[0], HoldsView)

    def _learn(self, frames: list[list[Stamped]], answers: list[list[list[Answer]]]) -> None:
        for stamps, parts in zip(frames, answers, strict=True):
            for stamp, part in zip(stamps, parts, strict=True):
                for name, kind, (status, token, *_) in zip(stamp.section.names, stamp.section.kinds, part, strict=True):
                    self._count(f"{Kind(kind).name} {Status(status).name}")
                    if token and kind == Kind.ACQUIRE:
                        self._token(stamp.tenant, name, token)
        for hold in self.reference.holds:
            self._token(*hold.name, hold.token)

    def _token(self, tenant: int, name: str, token: int) -> None:
        tokens = self.tokens.setdefault((tenant, name), [])
        if token not in tokens:
            tokens.append(token)

    def _count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    # What can be seen besides.

    def _compare(self) -> None:
        machine, reference = self.machine, self.reference
        assert machine.clock_ms == reference.clock
        assert machine.backlog or not reference.backlog(), "a leader goes on until nothing is left"
        counted = {tenant: counts for tenant, counts in machine._inspection.tenants() if tenant in TENANTS}
        for tenant, counts in counted.items():
            assert counts == {
                "held": reference.held(tenant),
                "waiters": reference.waiting(tenant),
                "sessions": len(reference.sessions(tenant)),
            }, f"counts of tenant {tenant}"
        assert machine.counts()["clients"] == len(reference.clients)
        for caller in self.callers:
            for tenant in (1, 2):
                assert machine.knows(tenant, caller.number) == (reference.client(tenant, caller.number) is not None)
        known = {*reference.allotted, *reference.client_numbers}
        assert set(machine.tenant_numbers()) == known, "a tenant that is gone leaves no row"
        due, true = machine.due_ms(), reference.due()
        assert (due is None) == (true is None)
        assert due is None or true is None or reference.clock < due <= true, "the next deadline is never slept through"

    def _look(self, step: Look) -> None:
        caller = self.callers[step.who % len(self.callers)]
        name = "" if step.kind == Kind.LIST and step.name == 3 else NAMES[step.name]
        tokens = self.tokens.get((caller.tenant, name), [])
        op = Op(step.kind, 0, name, options=Options(limit=step.limit))
        if step.kind == Kind.CHECK:
            op.token = back_in(tokens, step.back)
        elif step.kind == Kind.HOLDS:
            op.lease = back_in(caller.leases, step.back)
            op.options = Options(session=SESSIONS[step.name % 3] if step.limit else b"")
        elif step.kind == Kind.TICKETS:
            op.token = max(caller.seq - step.back, 0)
            op.lease = 0 if step.limit else back_in(caller.sessions, 0)
        for _ in range(4):
            answer = self._read(caller, op)
            cursor = answer[3][1] if step.kind in (Kind.LIST, Kind.SESSIONS) and isinstance(answer[3], list) else ""
            if not cursor:
                return
            op.options = Options(limit=step.limit, cursor=cursor)

    def _read(self, caller: Caller, op: Op) -> Answer:
        body = section(caller.number, 1, [op])
        answer = plain(decode_answer_list(self.machine.read(encode([stamped(caller.tenant, body)])))[0])[0]
        expected = encoded(Reads(self.reference).read(caller.tenant, body)[0])
        assert answer == expected or not self.compared, f"{Kind(op.kind).name} {op}"
        return answer

    # Snapshots.

    def _take_chunks(self, copy: Copy, payload: bytes | None) -> None:
        copy.log.append((self.index, self.term, payload))
        for _ in range(copy.pace):
            chunk = next(copy.rest, None)
            if chunk is None:
                return
            copy.chunks.append(chunk)

    def _compare_copy(self, copy: Copy) -> None:
        copy.chunks += copy.rest
        restored = LockMachine(self.genesis)
        restored.restore(copy.chunks)
        assert (restored.digest, restored.rows_digest()) == (copy.digest, copy.rows), "a snapshot shows one index"
        for entry in copy.log:
            restored.apply(*entry)
        assert restored.digest == self.machine.digest
        assert restored.rows_digest() == self.machine.rows_digest()
        assert restored.counts() == self.machine.counts()


def back_in(numbers: list[int], back: int) -> int:
    return numbers[-1 - back % len(numbers)] if numbers else 0


def plain(answers: Any) -> list[Answer]:
    """The columns as rows, without the words of a refusal."""
    rows = zip(answers.statuses, answers.tokens, answers.deadlines, strict=True)
    return [
        (status, token, deadline, None if status == Status.INVALID else answers.details.get(at))
        for at, (status, token, deadline) in enumerate(rows)
    ]


def encoded(answer: Answer) -> Answer:
    """As it arrives: enums are integers then."""
    status, token, deadline, detail = msgspec.msgpack.decode(encode(answer))
    return (status, token, deadline, detail)


def failure(steps: list[Step], freed_max: int) -> Exception | None:
    try:
        World(freed_max).run(steps)
    except Exception as error:  # noqa: BLE001 - whatever the machine raises is what is looked for
        return error
    return None


def shortened(steps: list[Step], freed_max: int) -> tuple[list[Step], Exception]:
    """The trace without the steps that its failure does not need, and that failure; it must fail."""
    error = failure(steps, freed_max)
    assert error is not None, "the trace fails"
    size = len(steps) // 2
    while size:
        before, at = len(steps), 0
        while at < len(steps):
            without = steps[:at] + steps[at + size :]
            found = failure(without, freed_max)
            if found is None:
                at += size
            else:
                steps, error = without, found
        # What was left out last may have been all that an earlier step was there for.
        if len(steps) == before or size > 1:
            size //= 2
    return steps, error
