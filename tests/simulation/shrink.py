"""A failing plan made small: fewer faults, fewer clients, fewer steps, and still the same promise broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from tests.simulation.plan import Plan
from tests.simulation.run import run

T = TypeVar("T")
TRIALS_MAX = 300


def shrink(plan: Plan, rule: str, trials_max: int = TRIALS_MAX) -> Plan:
    """Smallest plan found within so many runs that breaks ``rule``."""
    left = trials_max
    shrunk = True
    while shrunk and left > 0:
        shrunk = False
        for smaller in _smaller(plan):
            if left <= 0:
                break
            left -= 1
            if run(smaller).rule == rule:
                plan, shrunk = smaller, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    if plan.operations_min:
        yield replace(plan, operations_min=0)
    for faults in _less(plan.faults):
        yield replace(plan, faults=faults)
    for clients in _less(plan.clients):
        if clients:
            yield replace(plan, clients=clients)
    for client, workers in enumerate(plan.clients):
        for worker, steps in enumerate(workers):
            for fewer in _less(steps):
                after = (*workers[:worker], fewer, *workers[worker + 1 :])
                yield replace(plan, clients=(*plan.clients[:client], after, *plan.clients[client + 1 :]))


def _less(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """Without the second half, without the first, …, without each single one."""
    size = len(items) // 2
    while size:
        for at in range(len(items) - size, -1, -size):
            yield items[:at] + items[at + size :]
        size //= 2
    if len(items) == 1:
        yield ()
