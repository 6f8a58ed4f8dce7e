"""Seeded bugs of the lock machine: of time, of exactly-once and of snapshots."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.wire.frames import Options
from holdfast_shard.machine import envelope, export, locks, restore
from holdfast_shard.machine.entry import parse_entry
from holdfast_shard.machine.envelope import Envelope
from holdfast_shard.machine.expiry import Expiry
from holdfast_shard.machine.export import Export
from holdfast_shard.machine.ledger import Ledger
from holdfast_shard.machine.operations import Operations
from holdfast_shard.machine.rows import (
    Answer,
    Client,
    Hold,
    Lock,
    Waiter,
)
from holdfast_shard.machine.timers import Timed, Timers
from tests.machine.seeding import Mutants

MUTANTS = Mutants()


# Time and epochs.


@MUTANTS.add
def epoch_check_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class AnyTerm(int):
        def __ne__(self, other: object) -> bool:
            return False

    real = parse_entry

    def parse_any(payload: bytes) -> tuple[int, int, list[bytes]] | None:
        parsed = real(payload)
        return parsed and (AnyTerm(parsed[0]), parsed[1], parsed[2])

    monkeypatch.setattr(envelope, "parse_entry", parse_any)


@MUTANTS.add
def expiry_on_the_leaders_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Envelope, "reading_ms", lambda self, elapsed_ms: max(self.clock_ms, elapsed_ms))


@MUTANTS.add
def clock_moves_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Envelope, "reading_ms", lambda self, elapsed_ms: elapsed_ms)


@MUTANTS.add
def base_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def reading_ms(self: Envelope, elapsed_ms: int) -> int:
        return max(self.clock_ms, 2 * self.base_ms + elapsed_ms)

    monkeypatch.setattr(Envelope, "reading_ms", reading_ms)


@MUTANTS.add
def passed_on_before_all_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Expiry._mark

    def mark(self: Expiry, due: list[Timed]) -> None:
        for item in due:
            real(self, [item])
            self.settle()

    monkeypatch.setattr(Expiry, "_mark", mark)


@MUTANTS.add
def deadline_slept_through(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Timers.next_due

    def next_due(self: Timers) -> int | None:
        due = real(self)
        return due and due + 1000

    monkeypatch.setattr(Timers, "next_due", next_due)


@MUTANTS.add
def wait_deadline_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.enqueue

    def enqueue(self: Ledger, lock: Lock, waiter: Waiter) -> None:
        waiter.until += 1 << 40
        real(self, lock, waiter)

    monkeypatch.setattr(Ledger, "enqueue", enqueue)


@MUTANTS.add
def lock_delay_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "_close", lambda self, lock, delay: None)


@MUTANTS.add
def freed_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Expiry.settle

    def settle(self: Expiry) -> None:
        self._ledger.budget = 1 << 20
        real(self)

    monkeypatch.setattr(Expiry, "settle", settle)


# Exactly once.


@MUTANTS.add
def answers_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(dict[int, Answer]):
        def __setitem__(self, seq: int, answer: Answer) -> None:
            pass

    real = Client.__init__

    def init(self: Client, *given: Any) -> None:
        real(self, *given)
        self.answers = Forgetful()

    monkeypatch.setattr(Client, "__init__", init)


@MUTANTS.add
def late_acquire_after_release(monkeypatch: pytest.MonkeyPatch) -> None:
    real = locks._raise_floor

    def raise_floor(client: Client, floor: int) -> None:
        real(client, floor)
        client.floor = 1

    monkeypatch.setattr(locks, "_raise_floor", raise_floor)


@MUTANTS.add
def late_release_takes_a_later_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ledger.hold_of

    def hold_of(self: Ledger, lock: Lock, token: int) -> Hold | None:
        return real(self, lock, token) or next(iter(lock.holders), None)

    monkeypatch.setattr(Ledger, "hold_of", hold_of)


@MUTANTS.add
def cancel_before_acquire_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Operations._cancel

    def cancel(self: Operations, client: Client, seq: int, slot: int, name: str, number: int, token: int,
               ttl: int, wait: int, options: Options) -> Answer:  # fmt: skip
        came_first = token not in client.answers
        answer = real(self, client, seq, slot, name, number, token, ttl, wait, options)
        if came_first:
            client.answers.pop(token, None)
        return answer

    monkeypatch.setattr(Operations, "_cancel", cancel)


@MUTANTS.add
def cancelled_ticket_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Operations._find

    def find(self: Operations, *given: Any) -> Hold | Waiter | None:
        found = real(self, *given)
        return None if isinstance(found, Waiter) else found

    monkeypatch.setattr(Operations, "_find", find)


# Snapshots.


@MUTANTS.add
def piece_written_after_its_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Export, "slot", lambda self, number: None)


@MUTANTS.add
def snapshot_without_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    real = export._client_row

    def client_row(client: Client) -> Any:
        row = real(client)
        row.answers = []
        return row

    monkeypatch.setattr(export, "_client_row", client_row)


@MUTANTS.add
def snapshot_without_what_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_dying_rows", lambda ledger: [])


@MUTANTS.add
def restored_waiters_never_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = restore._Import._waiter

    def waiter(self: restore._Import, lock: Lock, row: Any) -> None:
        real(self, lock, row)
        assert lock.queue is not None
        self._ledger.timers.discard(next(reversed(lock.queue.values())))

    monkeypatch.setattr(restore._Import, "_waiter", waiter)
