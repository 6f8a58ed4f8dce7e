"""Bugs of the lock machine's rows: those that are seeded beside its model, each with the promise that it breaks."""

from __future__ import annotations

from tests.machine.mutants import MUTANTS as SEEDED

from .mutant import Mutant, Promise, Selection, Simulation

_MODEL = Selection(("tests/machine/test_model.py",))
_CASES = Selection(
    (
        "tests/machine/test_locks.py", "tests/machine/test_exactly_once.py", "tests/machine/test_replicas.py",
        "tests/machine/test_deleted_tenants.py",
    )
)  # fmt: skip

_BREAKS = {
    "acquired_beside_a_cacher": Promise.SHARING,
    "another_capacity_taken": Promise.SHARING,
    "answers_not_remembered": Promise.ONCE,
    "base_counted_twice": Promise.FULL_TIME,
    "cache_extended": Promise.SHARING,
    "cache_not_invalidated": Promise.FRESH_READS,
    "cancel_before_acquire_forgotten": Promise.ONCE,
    "cancelled_ticket_stays": Promise.NOTHING_LEFT,
    "clients_counted_for_all_tenants_together": Promise.APART,
    "clock_moves_back": Promise.FULL_TIME,
    "count_not_decremented": Promise.COUNTED,
    "deadline_slept_through": Promise.ANSWERED,
    "deleted_tenant_leaves_its_row": Promise.NOTHING_LEFT,
    "deleted_tenant_registers": Promise.REJECTED,
    "ended_session_frees_at_once": Promise.ONE_HOLDER,
    "ended_session_gets_its_ticket": Promise.NOTHING_LEFT,
    "epoch_check_off": Promise.REJECTED,
    "expired_waiter_counted_out_twice": Promise.COUNTED,
    "expiry_on_the_leaders_stopwatch": Promise.FULL_TIME,
    "freed_without_bound": Promise.COUNTED,
    "generous_to_strangers": Promise.COUNTED,
    "heavy_waiter_overtaken": Promise.IN_ORDER,
    "keepalive_shortens_a_lease": Promise.FULL_TIME,
    "late_acquire_after_release": Promise.ONCE,
    "late_release_takes_a_later_hold": Promise.ONCE,
    "limits_lost_by_a_snapshot": Promise.COUNTED,
    "lock_delay_ignored": Promise.ONE_HOLDER,
    "lost_steal_event": Promise.TOLD,
    "lowered_ttl_ends_leases": Promise.KEPT,
    "missed_grant_not_found": Promise.TOLD,
    "older_allotment_counts": Promise.COUNTED,
    "one_release_undoes_every_reentry": Promise.KEPT,
    "passed_on_before_all_is_marked": Promise.NOTHING_LEFT,
    "permits_overdrawn": Promise.SHARING,
    "piece_written_after_its_change": Promise.ALIKE,
    "queue_lifo": Promise.IN_ORDER,
    "readers_beside_a_writer": Promise.SHARING,
    "reason_of_an_end_forgotten": Promise.TOLD,
    "restored_waiters_never_time_out": Promise.ANSWERED,
    "snapshot_without_answers": Promise.ALIKE,
    "snapshot_without_what_is_over": Promise.ALIKE,
    "steal_does_not_wait_for_the_victim": Promise.ONE_HOLDER,
    "steal_leaves_the_change_number": Promise.TOLD,
    "stolen_hold_is_extended": Promise.ONE_HOLDER,
    "token_from_a_per_lock_counter": Promise.TOKENS_RISE,
    "tokens_counted_for_all_tenants_together": Promise.APART,
    "wait_deadline_ignored": Promise.ANSWERED,
    "waiter_granted_after_its_lease_ended": Promise.NOTHING_LEFT,
    "writer_starved": Promise.IN_ORDER,
}

MUTANTS = tuple(
    Mutant(f"lock machine: {name.replace('_', ' ')}", _BREAKS[name], apply, (_MODEL, _CASES, Simulation()))
    for name, apply in SEEDED.items()
)
