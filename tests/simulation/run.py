"""One run from its plan to its verdict."""

from __future__ import annotations

import gc
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn
from unittest import mock

import msgspec

from holdfast.wire.keys import SALT_BYTES, SECRET_CHARS, key_record
from holdfast.wire.messages import NodeRecord
from holdfast.wire.tenants import OPERATOR, KeyRole
from holdfast_router.dispatch import GroupDispatch
from holdfast_router.formation import FormationFile
from holdfast_router.item import Item, Outcome
from holdfast_shard.formation import BUILT_IN_TENANT, Formation, new_formation
from tests.simulation.faults import Nemesis
from tests.simulation.logs import Logs
from tests.simulation.plan import Plan, Step
from tests.simulation.processes import NODE_PORT, ClientMachine, NodeMachine, RouterMachine
from tests.simulation.watch import Watch
from tests.simulation.workload import Application
from tests.simulation.world import Violation, World

NODES = 3
KEY = f"hf_simulatedaaa_{'s' * SECRET_CHARS}"
OPERATOR_KEY = f"hf_operatorsaaa_{'o' * SECRET_CHARS}"
ANSWERED_S = 25.0
"""After the last fault, everything that was asked is answered within this time."""
SETTLED_S = 20.0
"""After the last operation, all replicas are alike within this time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    seed: int
    violation: str
    """Empty when every promise was kept."""
    rule: str
    seconds: float
    """Simulated."""
    counts: Counter[str]
    trace: list[str]


class _ReadsTheMachine(AssertionError):
    pass


@contextmanager
def _only_simulated_clocks(world: World) -> Iterator[None]:
    """Whoever reads a clock of this machine in a run ends it; the wall clock jumps, for nothing may depend on it."""

    def forbidden(*_: Any) -> NoReturn:
        raise _ReadsTheMachine("the code under simulation reads a clock of this machine")

    def wall() -> float:
        return world.wall_offset_s + world.now

    with (
        mock.patch.object(time, "monotonic", forbidden),
        mock.patch.object(time, "perf_counter", forbidden),
        mock.patch.object(time, "clock_gettime", forbidden),
        mock.patch.object(time, "time", wall),
    ):
        yield


@cache
def formation_of(groups: int, total: int) -> Formation:
    """The same at every run: what is drawn when a real one is formed, its identities and its key, is set."""
    formation, *_ = new_formation([f"node{number}:{NODE_PORT}" for number in range(1, NODES + 1)], groups, NODES, 0)
    nodes = tuple(NodeRecord(node.node, node.address, f"identity-{node.node}") for node in formation.nodes)
    keys = {
        number: (key_record(text, "first", KeyRole.ADMIN, "", 0, bytes(SALT_BYTES)),)
        for number, text in ((OPERATOR, OPERATOR_KEY), (BUILT_IN_TENANT, KEY))
    }
    replace = msgspec.structs.replace
    tenants = tuple(
        replace(tenant, keys=keys[tenant.number], quotas=replace(tenant.quotas, held=total or tenant.quotas.held))
        for tenant in formation.tenants
    )
    return replace(formation, cluster="simulated", secret="secret", nodes=nodes, tenants=tenants)


class Run:
    def __init__(self, plan: Plan, *, trace: bool = False) -> None:
        self.plan = plan
        world = self.world = World(plan.seed)
        world.trace = [] if trace else None
        formation = formation_of(plan.groups, plan.total)
        self.watch = Watch(world, formation)
        self.logs = Logs(self.watch, plan.total)
        self.nodes = [NodeMachine(world, number, formation, self.logs.watch_node) for number in range(1, NODES + 1)]
        file = FormationFile(formation.cluster, formation.secret, formation.nodes, formation.groups)
        self.routers = [RouterMachine(world, number, file) for number in range(1, plan.routers + 1)]
        self.applications = [
            Application(ClientMachine(world, number, self.routers, KEY), steps, self.watch)
            for number, steps in enumerate(plan.clients, start=1)
        ]

    def judge(self) -> Verdict:
        violation: Violation | None = None
        try:
            with self.simulated():
                self._go()
        except Violation as error:
            violation = error
        world = self.world
        world.note(f"ends with {dict(sorted(world.counts.items()))}, {violation}")
        return Verdict(
            self.plan.seed,
            "" if violation is None else str(violation),
            "" if violation is None else violation.rule,
            world.now,
            world.counts,
            world.trace or [],
        )

    @contextmanager
    def simulated(self) -> Iterator[None]:
        """Within it nothing is read of this machine, and what routers are given is watched."""
        dispatch = mock.patch("holdfast_router.groups.GroupDispatch", self._dispatch)
        with _only_simulated_clocks(self.world), dispatch:
            random.seed(f"{self.plan.seed}/global")
            yield

    def _dispatch(self, group: int) -> GroupDispatch:
        logs = self.logs

        class Watched(GroupDispatch):
            def submit(self, item: Item, *, looked: bool = False) -> None:
                logs.submitted(item)
                super().submit(item, looked=looked)

            def refused(self, request: int, refusal: Any, now: float) -> None:
                logs.node_refused(refusal)
                super().refused(request, refusal, now)

            def _finish(self, item: Item, answers: bytes | None, refusal: Any = None) -> None:
                if not item.done:
                    logs.delivered(Outcome(item, answers, refusal))
                super()._finish(item, answers, refusal)

        return Watched(group)

    def _go(self) -> None:
        world = self.world
        nemesis = Nemesis(world, self.nodes, self.routers, self.applications)
        for node in self.nodes:
            node.start()
        for router in self.routers:
            router.start()
        for application in self.applications:
            application.start()
        nemesis.schedule(self.plan.faults)
        world.run(self.plan.faults_end)
        nemesis.end()
        world.note("no more faults")
        for application in self.applications:
            application.hurry = True
        self._await_clients()
        if (missing := self.plan.operations_min - world.counts["operations"]) > 0:
            # Each makes two calls at least.
            self.applications[0].make_up((Step("hold", "name-0"),) * (missing // 2 + 1))
            self._await_clients()
        deadline = world.now + SETTLED_S
        world.run(world.now + 1.0)
        while (why := self.logs.settled(self.nodes)) is not None:
            if world.now >= deadline:
                world.violate(Violation("replicas agree", f"{SETTLED_S:g} s after the last operation: {why}"))
            world.run(world.now + 0.5)
        self.logs.compare_rows(self.nodes)
        for failed in world.unretrieved():
            world.violate(Violation("nothing goes unhandled", failed))
        if world.violation is not None:
            raise world.violation

    def _await_clients(self) -> None:
        world = self.world
        if not world.run(world.now + ANSWERED_S, lambda: all(each.over for each in self.applications)):
            waiting = "; ".join(each.where() for each in self.applications if not each.over)
            world.violate(Violation("everything is answered", f"still waiting after {ANSWERED_S:g} s: {waiting}"))


def run(plan: Plan, *, trace: bool = False) -> Verdict:
    """Never raises for what the run finds."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    collects = gc.isenabled()
    gc.disable()
    this = Run(plan, trace=trace)
    try:
        return this.judge()
    finally:
        this.world.dispose()
        logging.disable(disabled)
        if collects:
            gc.enable()
