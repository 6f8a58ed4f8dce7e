"""Bugs of the state machine's clock and envelope. Those of its rows are beside its model, in ``tests/machine``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast.wire.frames import Answers, Section
from holdfast_shard.machine import EntryResult, LockMachine
from holdfast_shard.machine.answering import QUEUED
from holdfast_shard.machine.envelope import Envelope
from holdfast_shard.machine.rows import Client

from .mutant import Mutant, Promise, Selection, Simulation, patch

_MACHINE = Selection(
    ("tests/machine/test_exactly_once.py", "tests/machine/test_locks.py", "tests/machine/test_replicas.py")
)


def _takes_base_with_every_entry(self: Envelope, term: int, payload: bytes) -> EntryResult:
    self.base_ms = self.clock_ms
    return _APPLY(self, term, payload)


def _takes_base_at_a_restore(self: LockMachine, chunks: Iterable[bytes]) -> None:
    _RESTORE(self, chunks)
    self.base_ms = self.clock_ms


def _counts_on_from_what_is_held(self: LockMachine, chunks: Iterable[bytes]) -> None:
    """Tokens that were released before the snapshot are given again after it."""
    _RESTORE(self, chunks)
    ledger = self._ledger
    for tenant in ledger.tenants.values():
        locks = [lock for table in ledger.tables for lock in table.get(tenant.number, {}).values()]
        tenant.last_token = max([hold.token for lock in locks for hold in lock.holders], default=0)


def _forgets_permits_taken(self: LockMachine, chunks: Iterable[bytes]) -> None:
    _RESTORE(self, chunks)
    for table in self._ledger.tables:
        for names in table.values():
            for lock in names.values():
                lock.used = 0


def _counts_from_nothing(self: LockMachine, chunks: Iterable[bytes]) -> None:
    _RESTORE(self, chunks)
    for tenant in self._ledger.tenants.values():
        tenant.held = tenant.waiters = 0


def _clock_moves_back(self: Envelope, elapsed_ms: int) -> int:
    return self.base_ms + elapsed_ms


def _repeats_what_waits(self: LockMachine, client: Client, section: Section, slots: memoryview) -> Answers:
    """The answer of an acquire that waits is not kept: a second copy is carried out again."""
    answers = _OPERATE(self, client, section, slots)
    for seq in [seq for seq, answer in client.answers.items() if answer[0] == QUEUED]:
        del client.answers[seq]
    return answers


def _digest_of_the_index(self: Envelope, index: int, term: int, payload: bytes | None) -> Any:
    """The digest says where a replica is, and not what it has."""
    result = _OUTER_APPLY(self, index, term, payload)
    self.digest = index.to_bytes(16, "little")
    return result


_APPLY, _OUTER_APPLY, _RESTORE, _OPERATE = Envelope._apply, Envelope.apply, LockMachine.restore, LockMachine._operate

MUTANTS = (
    Mutant(
        "base taken twice", Promise.FULL_TIME, patch(Envelope, "_apply", _takes_base_with_every_entry),
        (_MACHINE, Simulation()),
    ),
    Mutant(
        "base taken again when a snapshot is loaded", Promise.ALIKE,
        patch(LockMachine, "restore", _takes_base_at_a_restore),
        (_MACHINE, Simulation()),
    ),
    Mutant(
        "the counter of tokens not in the snapshot", Promise.TOKENS_RISE,
        patch(LockMachine, "restore", _counts_on_from_what_is_held), (_MACHINE, Simulation()),
    ),
    Mutant(
        "permits taken before a snapshot is loaded count no more", Promise.SHARING,
        patch(LockMachine, "restore", _forgets_permits_taken), (_MACHINE, Simulation()),
    ),
    Mutant(
        "what was held before a snapshot is loaded not counted", Promise.COUNTED,
        patch(LockMachine, "restore", _counts_from_nothing), (_MACHINE, Simulation()),
    ),
    Mutant(
        "a clock that moves back", Promise.ALIKE,
        patch(Envelope, "reading_ms", _clock_moves_back), (_MACHINE, Simulation()),
    ),
    Mutant(
        "pending acquire answered by a retry", Promise.ONCE, patch(LockMachine, "_operate", _repeats_what_waits),
        (_MACHINE, Simulation()),
    ),
    Mutant(
        "a digest that says nothing", Promise.ALIKE, patch(Envelope, "apply", _digest_of_the_index), (_MACHINE,),
    ),
)  # fmt: skip
