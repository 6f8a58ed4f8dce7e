"""The logs of all groups, laid beside each other: what one replica applied, every other has to have applied too.

The first replica to apply an entry, whichever it is, shows what has been decided: its rows are checked then against
what clients believe, against what they were told, and against the rows before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from holdfast.wire.errors import Code
from holdfast.wire.frames import EventKind, Mode, Reason, Status, decode_answer_list, decode_frame, decode_raw_list
from holdfast.wire.messages import Refusal
from holdfast.wire.names import slot_of
from holdfast_router.item import Item, Outcome
from holdfast_shard.consensus import Replica
from holdfast_shard.machine import EntryResult, LockMachine
from holdfast_shard.machine.entry import parse_entry
from holdfast_shard.machine.envelope import Envelope
from holdfast_shard.machine.rows import OF_HELD, STOLEN
from tests.simulation.processes import DRIFT
from tests.simulation.watch import TENANT, Watch
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from holdfast_shard.machine.rows import Lock
    from tests.simulation.processes import NodeMachine

ROUNDING_MS = 1.001
"""The group clock is whole milliseconds, rounded down."""

Place = tuple[int, int]
"""(client, seq) of an operation."""


@dataclass(slots=True)
class _Log:
    frontier: int = 0
    terms: dict[int, int] = field(default_factory=dict)
    digests: dict[int, bytes] = field(default_factory=dict)
    term: int = 0
    lead_ms: float = float("-inf")
    """Largest lead of real time, stretched by the drift, over the group clock: it may not shrink."""
    queues: dict[str, list[Place]] = field(default_factory=dict)
    answers: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict)
    """(status, token) of each operation when it was applied first."""
    tokens: dict[str, set[int]] = field(default_factory=dict)
    """Every token that a name ever had."""


class Logs:
    def __init__(self, watch: Watch, total: int) -> None:
        self._watch = watch
        self._total = total
        self._held: dict[int, int] = {}
        """By group, after the last entry that anybody has applied."""
        self._world = watch.world
        self._logs: dict[int, _Log] = {}
        self._proposed: dict[tuple[int, int, int], float] = {}
        """(group, term, index) -> when."""
        self._leaders: dict[tuple[int, int], int] = {}
        """(group, term) -> the node that led."""
        self._copies: Counter[bytes] = Counter()
        """Of each section: how often a router got it and has not said for certain that nothing came of that."""
        self._refused: dict[bytes, str] = {}
        """Sections of which nothing may come any more."""

    # What nodes and routers do.

    def watch_node(self, machine: NodeMachine) -> None:
        node = machine.node
        assert node is not None
        for group, service in node.engine.services.items():
            propose = service._propose

            def proposing(group: int, payload: bytes, now: float, propose: object = propose) -> object:
                proposal = propose(group, payload, now)  # type: ignore[operator]
                self._proposed.setdefault((group, proposal.term, proposal.index), self._world.now)
                return proposal

            service._propose = proposing  # type: ignore[assignment]
        journal = node.engine.journal
        if journal.torn is not None:
            self._world.count("state: torn tail cut")
        self._counted(journal, "append_truncate", "log truncated")
        for replica in node.engine.host.replicas.values():
            replica.took_office = partial(self._took_office, machine, replica, replica.took_office)  # type: ignore[method-assign]
        for group, state in node.engine.machines.items():
            assert isinstance(state, Envelope)
            self._counted(state, "restore", "snapshot installed")
            self._counted(state, "export", "snapshot written")
            state.apply = partial(self._apply, group, state, state.apply)  # type: ignore[method-assign]

    def _took_office(self, machine: NodeMachine, replica: Replica, took_office: Callable[[], None]) -> None:
        before = self._leaders.setdefault((replica.group, replica.term), machine.number)
        if before != machine.number:
            text = f"group {replica.group}, term {replica.term}: nodes {before} and {machine.number}"
            self._violate("one leader in a term", text)
        took_office()

    def _counted(self, owner: object, method: str, state: str) -> None:
        call = getattr(owner, method)

        def counting(*arguments: object) -> object:
            self._world.count(f"state: {state}")
            return call(*arguments)

        setattr(owner, method, counting)

    def node_refused(self, refusal: Refusal) -> None:
        if refusal.code == Code.NOT_LEADER:
            self._world.count("state: refused by a node that does not lead")

    def submitted(self, item: Item) -> None:
        self._copies[item.body] += 1
        self._refused.pop(item.body, None)

    def delivered(self, outcome: Outcome) -> None:
        refusal = outcome.refusal
        if refusal is not None and refusal.code != Code.OUTCOME_UNKNOWN:
            body = outcome.item.body
            self._copies[body] -= 1
            if not self._copies[body]:
                self._refused[body] = refusal.message
            self._world.count("state: section rejected")
        elif refusal is not None:
            self._world.count("state: section of unknown outcome")

    # Entries.

    def _apply(
        self, group: int, machine: Envelope, apply: object, index: int, term: int, payload: bytes | None
    ) -> EntryResult:
        result: EntryResult = apply(index, term, payload)  # type: ignore[operator]
        log = self._logs.setdefault(group, _Log())
        known = log.digests.get(index)
        if known is not None:
            if known != machine.digest:
                self._violate("replicas agree", f"group {group}, entry {index}: two replicas have different states")
        elif index <= log.frontier:
            self._violate("replicas agree", f"group {group}: entry {index} was skipped by all who applied later ones")
        else:
            log.frontier = index
            log.digests[index] = machine.digest
            self._first(group, log, machine, index, term, payload, result)
        return result

    def _violate(self, rule: str, text: str) -> None:
        self._world.violate(Violation(rule, text))

    def _first(
        self,
        group: int,
        log: _Log,
        machine: Envelope,
        index: int,
        term: int,
        payload: bytes | None,
        result: EntryResult,
    ) -> None:
        world = self._world
        if term < log.term:
            self._violate("terms rise", f"group {group}, entry {index} is of term {term}, after one of {log.term}")
        if term > log.term:
            if log.term:
                world.count("state: leader elected")
            log.term = term
        if payload is None or not isinstance(machine, LockMachine) or result.refused:
            return
        self._clock(group, log, machine, index, term)
        self._count(group, machine, index)
        parsed = parse_entry(payload)
        assert parsed is not None
        names = {event.name for event in result.events}
        steals: set[Place] = set()
        for frame in parsed[2]:
            for raw in decode_raw_list(frame):
                why = self._refused.get(bytes(raw))
                if why is not None:
                    self._violate("what is rejected never happens", f"group {group}, entry {index}, refused as: {why}")
            for stamped in decode_frame(frame):
                section = stamped.section
                names.update(section.names)
                if stamped.tenant == TENANT:
                    steals.update(
                        (section.client, section.seqs[at]) for at, more in section.options.items() if more.steal
                    )
        self._once(group, log, index, parsed[2], result)
        for event in result.events:
            if event.kind == EventKind.GRANTED:
                world.count("state: waiter granted")
            elif event.reason:
                world.count(f"state: {EventKind(event.kind).name.lower()}, {Reason(event.reason).name.lower()}")
                if event.reason == Reason.EXPIRED and world.network.cuts:
                    world.count("state: expired under a partition")
        for name in sorted(names - {""}):
            self._name(log, machine, name, steals)
        self._kept(group, machine, index)

    def _count(self, group: int, machine: LockMachine, index: int) -> None:
        """A tenant's total is kept over all groups at every moment, not in each of them only."""
        if not self._total:
            return
        tenant = machine._ledger.tenant(TENANT)
        self._held[group] = tenant.held
        if tenant.refused[OF_HELD]:
            self._world.count("state: share used up")
        if tenant.version > 1:
            self._world.count("state: share moved")
        held = sum(self._held.values())
        if held > self._total:
            self._violate("totals are kept", f"{held} of {self._total} are held since entry {index} of group {group}")

    def _once(self, group: int, log: _Log, index: int, frames: list[bytes], result: EntryResult) -> None:
        """Whoever sends an operation again gets the answer that it got first, unless it has taken it back meanwhile."""
        for frame, encoded in zip(frames, result.answers, strict=True):
            for stamped, answers in zip(decode_frame(frame), decode_answer_list(encoded), strict=True):
                section = stamped.section
                for at, seq in enumerate(section.seqs):
                    answer = (answers.statuses[at], answers.tokens[at])
                    if not seq or answer[0] == Status.CANCELLED or answer[0] >= Status.UNREGISTERED:
                        continue
                    first = log.answers.setdefault((stamped.tenant, section.client, seq), answer)
                    if first is not answer:
                        self._world.count("state: operation repeated")
                    if first != answer:
                        text = f"group {group}, entry {index}: client {section.client}, {seq}: {first}, then {answer}"
                        self._violate("an operation happens once", text)

    def _clock(self, group: int, log: _Log, machine: LockMachine, index: int, term: int) -> None:
        """No lease ends earlier than its TTL / (1 + drift): group time passes no faster than that."""
        lead_ms = self._proposed[group, term, index] * 1000 * (1 + DRIFT) - machine.clock_ms
        if lead_ms < log.lead_ms - ROUNDING_MS:
            self._violate(
                "no lease ends early", f"group {group}, entry {index}: its clock gained {log.lead_ms - lead_ms:.1f} ms"
            )
        log.lead_ms = max(lead_ms, log.lead_ms)

    def _name(self, log: _Log, machine: LockMachine, name: str, steals: set[Place]) -> None:
        lock = _row(machine, name)
        before = log.queues.get(name, [])
        queue = [] if lock is None or lock.queue is None else list(lock.queue)
        log.queues[name] = queue
        if lock is None:
            return
        known = log.tokens.setdefault(name, set())
        tokens = [hold.token for hold in lock.holders]
        for hold in lock.holders:
            if (name, hold.token) in self._watch.released:
                self._violate("what was released stays released", f"{name}: token {hold.token}")
            if (name, hold.metadata.decode()) in self._watch.never:
                self._violate("what is rejected never happens", f"{name} is held by {hold.metadata.decode()}")
            if hold.token in known:
                continue
            if known and hold.token < max(known):
                self._violate("tokens rise", f"{name}: {hold.token} after {max(known)}")
            place = (hold.lease.client.number, hold.seq)
            if hold.mode != Mode.CACHE and place not in steals and hold.why != STOLEN:
                # Whoever came first and still waits was not passed by.
                first = before[: before.index(place)] if place in before else before
                passed = [other for other in first if other in queue]
                if passed:
                    self._violate("first come, first served", f"{name}: {place} was granted before {passed}")
        known.update(tokens)
        modes = {hold.mode for hold in lock.holders}
        if len(modes) > 1 or (Mode.EXCLUSIVE in modes and len(tokens) > 1):
            self._violate("one holder", f"rows of {name}: {tokens}")
        if Mode.PERMITS in modes and sum(hold.permits for hold in lock.holders) > lock.capacity:
            self._violate("capacity", f"rows of {name}: {tokens}")

    def _kept(self, group: int, machine: LockMachine, index: int) -> None:
        for ask in self._watch.believers(group):
            name, token = ask.lock.name, ask.lock.token
            lock = _row(machine, name)
            if lock is None or all(hold.token != token for hold in lock.holders):
                self._watch.unless_excused(
                    name,
                    token,
                    "an acknowledged grant is kept",
                    f"{name} (token {token}) is gone with entry {index} of group {group}; {ask.who} believes for "
                    f"{ask.lock.remaining():.3f} s",
                )

    # At the end.

    def settled(self, nodes: list[NodeMachine]) -> str | None:
        """Why the replicas are not all alike; None when they are."""
        for group, log in self._logs.items():
            for machine in nodes:
                node = machine.node
                assert node is not None
                state = node.engine.machines.get(group)
                if state is not None and state.applied_index != log.frontier:
                    return f"group {group}: node {machine.number} applied {state.applied_index} of {log.frontier}"
        return None

    def compare_rows(self, nodes: list[NodeMachine]) -> None:
        """Row by row, and for what nobody may have left behind."""
        for group in self._logs:
            states = [machine.node.engine.machines[group] for machine in nodes if machine.node is not None]
            if len({state.digest for state in states}) > 1 or len({state.rows_digest() for state in states}) > 1:
                self._violate("replicas agree", f"group {group}: rows differ at the end")
            state = states[0]
            if isinstance(state, LockMachine):
                for table in state._ledger.tables:
                    for lock in table.get(TENANT, {}).values():
                        self._no_ghost(lock)

    def _no_ghost(self, lock: Lock) -> None:
        for item in (*lock.holders, *(lock.queue or {}).values()):
            if item.metadata.decode() in self._watch.void:
                self._violate("what is taken back stays away", f"{lock.name}: {item.metadata.decode()}")


def _row(machine: LockMachine, name: str) -> Lock | None:
    return machine._ledger.tables[slot_of(TENANT, name)].get(TENANT, {}).get(name)
