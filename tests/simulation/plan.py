"""What a run is to do: steps of clients and faults, drawn from the seed before it begins, so that it can be shrunk."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

CLIENTS = (4, 6)
WORKERS = 2
OPERATIONS_MIN = 500
STEPS_PER_RUN = 300
"""Each is one to eight calls of the SDK: nearly all runs make :data:`OPERATIONS_MIN`."""
STEPS_UNDER_A_TOTAL = 390
"""Of a tenant that may hold few locks: many end with the first call, refused."""
FAULTS = (6, 14)
FAULTS_S = (4.0, 9.0)
"""How long faults go on."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that a worker of a client does. ``what`` names a method of ``workload.Worker``. Times are seconds."""

    what: str
    name: str
    ttl: float = 1.0
    wait: float | None = None
    hold: float = 0.0
    think: float = 0.0
    flag: bool = False
    number: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong. ``what`` names a method of ``faults.Nemesis``."""

    at: float
    what: str
    first: int = 0
    second: int = 0
    seconds: float = 0.0
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    groups: int
    routers: int
    clients: tuple[tuple[tuple[Step, ...], ...], ...]
    """Per client, per worker: steps."""
    faults: tuple[Fault, ...]
    total: int = 0
    """Locks that the tenant may hold over all groups; 0 for as many as it likes."""
    operations_min: int = 0
    """When all is done with fewer calls, the first client makes up for it."""

    @property
    def faults_end(self) -> float:
        return max((fault.at + fault.seconds for fault in self.faults), default=0.0)

    def without_fault(self, index: int) -> Plan:
        return replace(self, faults=self.faults[:index] + self.faults[index + 1 :])


STEPS = {
    "hold": 30, "hold_shared": 12, "permits": 12, "attempt": 10, "block": 6, "renew": 4, "abandon": 4, "cancel": 6,
    "overstay": 3, "session": 8, "steal": 3, "steal_now": 1, "force": 2, "end_session": 2, "look": 6, "absent": 5,
    "reentrant": 2, "delayed": 2, "release_elsewhere": 2,
}  # fmt: skip

FAULT_KINDS = {
    "kill_node": 8, "power_node": 8, "kill_leader": 8, "power_leader": 6, "power_all": 4, "power_two": 4,
    "kill_all": 2, "terminate_node": 5, "pause_node": 7, "pause_leader": 5, "stop_world": 2, "transfer": 6,
    "isolate_node": 7, "isolate_leader": 7, "cut_one_way": 8, "cut_pair": 6, "cut_all": 4, "cut_router": 6,
    "isolate_router": 4, "slow": 5, "noise": 6, "reset": 8, "fail_sync": 4, "fill_disk": 3, "power_in_write": 7,
    "power_in_election": 5, "rot": 3, "kill_router": 5, "pause_router": 3, "kill_client": 5, "pause_client": 8,
    "cut_client": 6, "wall_clock": 4,
}  # fmt: skip

TOTALS = (0, 0, 0, 0, 0, 3, 5)
"""Locks that the tenant may hold: in most runs as many as it likes, in some so few that shares have to move."""

FLAKY_SHARE = 0.8
"""Of the runs: connections of routers break all the time."""

LASTING = {"hold", "hold_shared", "permits", "session", "block", "reentrant"}
"""Steps some of which hold on for so long that their leases have to be renewed."""

LONG = {
    "power_two", "cut_all", "isolate_node", "isolate_leader", "cut_one_way", "cut_pair", "cut_router",
    "isolate_router", "cut_client",
}  # fmt: skip


def make_plan(seed: int) -> Plan:
    chance = random.Random(f"{seed}/plan")
    routers = chance.choice((1, 2, 2))
    groups = chance.choice((1, 2, 2))
    names = [f"name-{number}" for number in range(chance.choice((3, 5, 8)))]
    pools = [f"pool-{number}" for number in range(2)]
    lasts = chance.uniform(*FAULTS_S)
    count = chance.randint(*CLIENTS)
    total = chance.choice(TOTALS)
    per_worker = (STEPS_UNDER_A_TOTAL if total else STEPS_PER_RUN) // (count * WORKERS) + 1
    busy = chance.choice((0.3, 0.6, 1.0))
    pace = busy * lasts / per_worker
    clients = tuple(
        tuple(tuple(_step(chance, names, pools, pace) for _ in range(per_worker)) for _ in range(WORKERS))
        for _ in range(count)
    )
    drawn = [_fault(chance, lasts) for _ in range(chance.randint(*FAULTS))]
    if chance.random() < FLAKY_SHARE:
        drawn.append(Fault(1.0, "flaky", seconds=round(lasts, 3)))
    faults = tuple(sorted(drawn, key=lambda fault: fault.at))
    return Plan(seed, groups, routers, clients, faults, total, OPERATIONS_MIN)


def _step(chance: random.Random, names: list[str], pools: list[str], pace: float) -> Step:
    what = chance.choices(list(STEPS), list(STEPS.values()))[0]
    lasts = what in LASTING and chance.random() < 0.05
    return Step(
        what,
        chance.choice(pools if what == "permits" else names),
        ttl=chance.choice((0.3, 0.6, 1.0, 2.0)),
        wait=chance.choice((0.02, 0.2, 1.0, 3.0, None, None)),
        hold=chance.uniform(0.3, 1.5) if lasts else chance.choice((0.0, 0.0, 0.005, 0.05)) * chance.random(),
        think=chance.random() * pace,
        flag=chance.random() < 0.5,
        number=chance.randrange(4),
    )


def _fault(chance: random.Random, lasts: float) -> Fault:
    what = chance.choices(list(FAULT_KINDS), list(FAULT_KINDS.values()))[0]
    longest = 6.0 if what in LONG and chance.random() < 0.3 else 2.0
    return Fault(
        round(1.0 + chance.random() * lasts, 3),
        what,
        first=chance.randrange(12),
        second=chance.randrange(12),
        seconds=round(chance.uniform(0.05, longest), 3),
        amount=round(chance.random(), 3),
    )
