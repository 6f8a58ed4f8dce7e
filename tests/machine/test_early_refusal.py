"""How much is refused early: by a group whose share is used up while the total is not (``docs/design.md``, 6.10).

Time is simulated: a report or an allotment takes 10 ms, as two entries of a log do here, groups report as nodes do, and
whoever is refused asks again as the SDK does. Demand sits in one group at a time and moves on every two seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

import pytest

from holdfast.core.refusals import SHARE_PAUSES_MS
from holdfast.wire.frames import Allotment
from holdfast.wire.tenants import PLANS
from holdfast_shard.machine.allotments import Allotments, Amounts, Report, Use
from holdfast_shard.node.use_reporter import PROMPT_S, SCAN_S, WANTED_S

TENANT = 1
GROUPS = (1, 2, 3, 4)
WAY_S = 0.01
HOLD_S = 0.2
PHASE_S = 2.0
RUN_S = 60.0


@dataclass(slots=True)
class Group:
    number: int
    allotment: Allotment
    used: int = 0
    refused: int = 0
    wish: int = 0
    wish_until: float = 0.0
    prompt_at: float = 0.0
    told: Use | None = None


@dataclass(slots=True)
class Run:
    """``total`` is what the tenant may hold, ``load`` the share of it that is held on average."""

    total: int
    load: float
    rng: Random = field(default_factory=lambda: Random(5))
    now: float = 0.0
    asked: int = 0
    first_early: int = 0
    """Refused at the first asking though the total was not used up."""
    last_early: int = 0
    """Refused for good, likewise."""
    moves: int = 0
    meta: Allotments = field(init=False)
    groups: dict[int, Group] = field(init=False)
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        quotas = PLANS["standard"].quotas
        self.meta = Allotments(GROUPS, {TENANT: type(quotas)(0, 0, 0, self.total, 0, 0, 0, 0, 0)})
        self.groups = {number: Group(number, self.meta.allotment(TENANT, number)) for number in GROUPS}

    def run(self) -> Run:
        self._after(0.0, self._arrive)
        for group in self.groups.values():
            self._after(self.rng.uniform(0, SCAN_S), partial(self._scan, group))
        while self.now < RUN_S:
            self.now, _, event = heapq.heappop(self._events)
            event()
            assert self.used <= self.total
        return self

    @property
    def used(self) -> int:
        return sum(group.used for group in self.groups.values())

    def _after(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    # Demand.

    def _arrive(self) -> None:
        favourite = GROUPS[int(self.now / PHASE_S) % len(GROUPS)]
        number = favourite if self.rng.random() < 0.9 else self.rng.choice(GROUPS)
        self.asked += 1
        self._ask(self.groups[number], 0)
        self._after(self.rng.expovariate(self.total * self.load / HOLD_S), self._arrive)

    def _ask(self, group: Group, asked: int) -> None:
        early = self.used < self.total
        if group.used < group.allotment.held:
            group.used += 1
            self._after(self.rng.expovariate(1 / HOLD_S), lambda: self._release(group))
            return
        group.refused += 1
        self.first_early += early and not asked
        if asked < len(SHARE_PAUSES_MS):
            self._after(SHARE_PAUSES_MS[asked] / 1000, lambda: self._ask(group, asked + 1))
        else:
            self.last_early += early
        if self.now >= group.prompt_at:
            self._report(group)

    def _release(self, group: Group) -> None:
        group.used -= 1

    # Shares.

    def _scan(self, group: Group) -> None:
        self._report(group)
        self._after(SCAN_S, lambda: self._scan(group))

    def _report(self, group: Group) -> None:
        group.prompt_at = self.now + PROMPT_S
        if group.refused:
            group.wish, group.wish_until, group.refused = group.refused, self.now + WANTED_S, 0
        elif self.now >= group.wish_until:
            group.wish = 0
        wanted: Amounts = (group.wish, 0, 0)
        use = Use(TENANT, group.allotment.version, (group.used, 0, 0), wanted)
        if use != group.told:
            group.told = use
            self._after(WAY_S, lambda: self._note(group, use))

    def _note(self, group: Group, use: Use) -> None:
        self.meta.report(Report(group.number, [use]))
        for other in self.groups.values():
            for allotment in self.meta.unreported(other.number):
                self._after(WAY_S, partial(self._allot, other, allotment))

    def _allot(self, group: Group, allotment: Allotment) -> None:
        if allotment.version > group.allotment.version:
            self.moves += 1
            group.allotment = allotment
            self._report(group)


@pytest.mark.parametrize(
    ("total", "load", "first_max", "last_max"), [(10, 0.5, 0.3, 0.03), (100, 0.8, 0.2, 0.02), (1000, 0.8, 0.08, 0.01)]
)
def test_little_is_refused_while_the_total_is_not_used_up(
    total: int, load: float, first_max: float, last_max: float
) -> None:
    run = Run(total, load).run()
    first, last = run.first_early / run.asked, run.last_early / run.asked
    figures = f"of {run.asked}: {first:.2%} at first, {last:.2%} for good, {run.moves / RUN_S:.1f} moves/s"
    assert first <= first_max, figures
    assert last <= last_max, figures
