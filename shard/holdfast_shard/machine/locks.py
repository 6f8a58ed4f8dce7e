"""The lock machine: sections of operations in, columns of answers and events out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from holdfast.wire.frames import Allotment, Answers, Event, Kind, LockView, Options, Section, Stamped, Status, encode
from holdfast.wire.limits import ANSWERS_PER_CLIENT_MAX, OPERATIONS_PER_SECTION_MAX, SLOTS

from . import restore
from .allotments import Amounts, Use
from .answering import PLAIN_OPTIONS, invalid, refused
from .envelope import Envelope, ReadBudget, all_answered, whole
from .expiry import Expiry
from .export import Export, canonical
from .inspection import Inspection
from .ledger import Ledger, Observer
from .operations import NAMED, Operations
from .rows import Answer, Client, Tenant

SNAPSHOT_VERSION = 3


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a group is born with; the same on every replica. ``slots`` are the numbers of the slots it owns."""

    cluster: str
    group: int
    slots: tuple[int, ...]
    allotments: tuple[Allotment, ...] = ()


class Head(msgspec.Struct, array_like=True):
    """What a snapshot says of the machine besides its rows; the version comes first for good."""

    version: int
    index: int
    term: int
    base_ms: int
    clock_ms: int
    digest: bytes
    digest_index: int
    owned: bytes


class LockMachine(Envelope):
    def __init__(self, genesis: Genesis) -> None:
        super().__init__(encode([genesis.cluster, genesis.group, list(genesis.slots), list(genesis.allotments)]))
        self._owned = bytearray(SLOTS)
        for slot in genesis.slots:
            self._owned[slot] = 1
        self._observer: Observer | None = None
        self._use(Ledger())
        for allotment in genesis.allotments:
            self._ledger.tenant(allotment.tenant).allot(allotment)

    def _use(self, ledger: Ledger) -> None:
        self._ledger = ledger
        ledger.observer = self._observer
        self._expiry = Expiry(ledger)
        self._operations = Operations(ledger)
        self._inspection = Inspection(ledger)

    # Envelope.

    def _advance(self, clock_ms: int) -> None:
        self._expiry.advance(clock_ms)

    def _finish(self) -> list[Event]:
        self._expiry.settle()
        events, self._ledger.events = self._ledger.events, []
        return events

    def due_ms(self) -> int | None:
        return self._ledger.timers.next_due()

    @property
    def backlog(self) -> bool:
        return bool(self._ledger.dying)

    # Sections.

    def _section(self, stamped: Stamped) -> Answers:
        section = stamped.section
        kinds = section.kinds
        count = len(kinds)
        if not whole(stamped) or count > OPERATIONS_PER_SECTION_MAX or stamped.tenant < 0:
            return all_answered(count, Status.INVALID)
        if stamped.tenant == 0:
            return self._system(section)
        if section.client == 0:
            return self._newcomer(stamped.tenant, section)
        client = self._ledger.client(stamped.tenant, section.client)
        if client is None:
            return all_answered(count, Status.UNREGISTERED)
        self._ledger.touch_client(client)
        client.seen = self.clock_ms
        if section.floor > client.floor:
            _raise_floor(client, section.floor)
        return self._operate(client, section, memoryview(stamped.slots).cast("H"))

    def _operate(self, client: Client, section: Section, slots: memoryview) -> Answers:
        """The inner loop: one turn for each operation."""
        handlers = self._operations.handlers
        owned, answered, floor = self._owned, client.answers, client.floor
        ceiling = floor + ANSWERS_PER_CLIENT_MAX
        options = section.options
        statuses = bytearray()
        tokens: list[int] = []
        deadlines: list[int] = []
        details: dict[int, Any] = {}
        columns = zip(
            section.kinds, section.seqs, section.names, section.leases, section.tokens, section.ttls, section.waits,
            strict=True,
        )  # fmt: skip
        for position, (kind, seq, name, lease, token, ttl, wait) in enumerate(columns):
            answer: Answer
            if seq in answered:
                answer = answered[seq]
            elif not floor <= seq < ceiling:
                answer = refused(Status.STALE if seq < floor else Status.TOO_FAR)
            else:
                slot = slots[position]
                handler = handlers.get(kind)
                if handler is None:
                    answer = invalid(f"kind {kind} is no operation of a client")
                elif kind in NAMED and (slot >= SLOTS or not owned[slot]):
                    answer = refused(Status.MOVED)
                else:
                    given = options.get(position, PLAIN_OPTIONS) if options else PLAIN_OPTIONS
                    answer = answered[seq] = handler(client, seq, slot, name, lease, token, ttl, wait, given)
            statuses.append(answer[0])
            tokens.append(answer[1])
            deadlines.append(answer[2])
            if answer[3] is not None:
                details[position] = answer[3]
        return Answers(bytes(statuses), tokens, deadlines, details)

    def _newcomer(self, tenant: int, section: Section) -> Answers:
        """Sections without a client number register, nothing else; a repeated one is an idle row that runs out."""
        if section.kinds == bytes([Kind.REGISTER]):
            row = self._ledger.tenant(tenant)
            if not row.is_gone:
                return Answers(bytes([Status.OK]), [self._ledger.register(row).number], [0], {})
        return all_answered(len(section.kinds), Status.UNREGISTERED)

    def _system(self, section: Section) -> Answers:
        """Tenant 0 is the service itself."""
        statuses = bytearray()
        for position, kind in enumerate(section.kinds):
            allotment = section.options.get(position, PLAIN_OPTIONS).allotment
            if kind == Kind.ALLOT and allotment is not None and allotment.tenant > 0:
                self._ledger.allot(allotment)
                statuses.append(Status.OK)
            else:
                statuses.append(Status.INVALID)
        return Answers(bytes(statuses), [0] * len(statuses), [0] * len(statuses), {})

    # Use, for whoever leads; what is counted for it is no part of the state.

    @property
    def has_noteworthy(self) -> bool:
        """Whether :meth:`take_noteworthy` would give anything."""
        return bool(self._ledger.noteworthy)

    def take_noteworthy(self) -> set[int]:
        """Tenants that found a share used up, or were given another one, since this was asked last."""
        taken, self._ledger.noteworthy = self._ledger.noteworthy, set()
        return taken

    def tenant_numbers(self) -> list[int]:
        return list(self._ledger.tenants)

    def take_use(self, number: int) -> Use:
        """What the tenant uses here as of the last entry, and what was refused since this was asked last."""
        tenant = self._ledger.tenants.get(number) or Tenant(number)
        held, waiters, sessions = tenant.refused
        tenant.refused = [0, 0, 0]
        return Use(number, tenant.version, (tenant.held, tenant.waiters, tenant.sessions), (held, waiters, sessions))

    def share_of(self, number: int) -> Amounts:
        """What the tenant may use here."""
        tenant = self._ledger.tenants.get(number) or Tenant(number)
        return (tenant.held_max, tenant.waiters_max, tenant.sessions_max)

    # Watching.

    def observe(self, observer: Observer | None) -> None:
        """Tell ``observer`` of every lock that changes from now on. What it does changes nothing here."""
        self._observer = self._ledger.observer = observer

    def view(self, tenant: int, slot: int, name: str, budget: ReadBudget) -> LockView:
        """A name as an inspector sees it now."""
        budget.rows_left -= 1
        found = self._ledger.tenants.get(tenant)  # a look leaves no row
        return self._inspection.look(found, slot, name, budget) if found is not None else LockView(name, 0, 0, [])

    # Reads.

    def knows(self, tenant: int, client: int) -> bool:
        return self._ledger.client(tenant, client) is not None

    def _read(self, stamped: Stamped, budget: ReadBudget) -> Answers:
        section = stamped.section
        count = len(section.kinds)
        if not whole(stamped) or count > OPERATIONS_PER_SECTION_MAX or stamped.tenant <= 0:
            return all_answered(count, Status.INVALID)
        tenant = self._ledger.tenants.get(stamped.tenant) or Tenant(stamped.tenant)
        client = self._ledger.client(stamped.tenant, section.client)
        slots = memoryview(stamped.slots).cast("H")
        answers = [self._look(tenant, client, section, slots[at], at, budget) for at in range(count)]
        return Answers(
            bytes([answer[0] for answer in answers]),
            [answer[1] for answer in answers],
            [answer[2] for answer in answers],
            {at: answer[3] for at, answer in enumerate(answers) if answer[3] is not None},
        )

    def _look(
        self, tenant: Tenant, client: Client | None, section: Section, slot: int, at: int, budget: ReadBudget
    ) -> Answer:
        if budget.spent:
            return refused(Status.AGAIN)
        kind = section.kinds[at]
        if kind in (Kind.GET, Kind.CHECK) and (slot >= SLOTS or not self._owned[slot]):
            return refused(Status.MOVED)
        given: Options = section.options.get(at, PLAIN_OPTIONS)
        return self._inspection.answer(
            tenant, client, kind, slot, section.names[at], section.leases[at], section.tokens[at], given,
            budget,
        )  # fmt: skip

    # Snapshots.

    def export(self) -> Iterator[bytes]:
        """Chunks of the state as of now; apply may go on between them. One export at a time."""
        head = Head(
            SNAPSHOT_VERSION, self.applied_index, self.term, self.base_ms, self.clock_ms, self.digest,
            self.digest_index, bytes(self._owned),
        )  # fmt: skip
        return iter(Export(self._ledger, head))

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state. Raises ``ValueError`` on anything that :meth:`export` did not write; the state stays."""
        ledger, head = restore.read(chunks, Head)
        if head.version != SNAPSHOT_VERSION:
            raise ValueError(f"snapshots of version {head.version} are not known here")
        if len(head.owned) != SLOTS:
            raise ValueError("the head of this snapshot is damaged")
        self.applied_index, self.term, self.base_ms, self.clock_ms = head.index, head.term, head.base_ms, head.clock_ms
        self.digest, self.digest_index = head.digest, head.digest_index
        self._owned = bytearray(head.owned)
        self._use(ledger)

    def rows_digest(self) -> bytes:
        """A digest of every row, equal on replicas of equal state however they came to it. As dear as a snapshot."""
        digest = blake2b(digest_size=16)
        for chunk in canonical(self._ledger):
            digest.update(chunk)
        return digest.digest()

    def counts(self) -> dict[str, int]:
        ledger = self._ledger
        return {
            "held": sum(tenant.held for tenant in ledger.tenants.values()),
            "waiters": sum(tenant.waiters for tenant in ledger.tenants.values()),
            "sessions": sum(tenant.sessions for tenant in ledger.tenants.values()),
            "clients": sum(len(bucket) for bucket in ledger.clients),
            "slots": sum(self._owned),
        }


def _raise_floor(client: Client, floor: int) -> None:
    answers = client.answers
    if floor - client.floor <= len(answers):
        for seq in range(client.floor, floor):
            answers.pop(seq, None)
    else:
        client.answers = {seq: answer for seq, answer in answers.items() if seq >= floor}
    client.floor = floor
