"""A router that reaches no node, while its clients reach it: they have to find the other one."""

from __future__ import annotations

import contextlib

import pytest

import holdfast
from holdfast_router.process import ALONE_S
from tests.simulation.plan import Plan
from tests.simulation.processes import ClientMachine
from tests.simulation.run import KEY, Run

NOTICED_S = 4.0
"""In which a silent link is given up."""
SERVED_S = 4.0
"""A client dials another router, and its application asks again."""


class Scene:
    """Three nodes, two routers, one client; no faults but what the test makes."""

    def __init__(self, seed: int) -> None:
        self.run = Run(Plan(seed, groups=1, routers=2, clients=(), faults=()))
        self.world = self.run.world
        for node in self.run.nodes:
            node.start()
        for router in self.run.routers:
            router.start()
        self.machine = ClientMachine(self.world, 1, self.run.routers, KEY)
        self.process = self.machine.boot()
        self.taken: list[float] = []
        self.client: holdfast.Client | None = None

    async def connect(self) -> None:
        self.client = await self.machine.connect(self.process)

    async def take(self) -> None:
        assert self.client is not None
        while not self.taken:
            with contextlib.suppress(holdfast.Unavailable):
                async with self.client.lock("a", wait=10):
                    self.taken.append(self.world.now)

    def isolate(self, router: str) -> None:
        for node in self.run.nodes:
            self.world.network.cut(router, node.host)
            self.world.network.cut(node.host, router)

    def routers_of_client(self) -> list[str]:
        return [router.host for router in self.run.routers if self.world.network.halves("client1", router.host)]


@pytest.mark.parametrize("seed", range(4))
def test_clients_of_a_router_that_reaches_no_node_are_served_by_another(seed: int) -> None:
    scene = Scene(seed)
    with scene.run.simulated():
        scene.process.spawn(scene.connect(), "connect")
        scene.world.run(3.0)
        (router,) = scene.routers_of_client()
        scene.isolate(router)
        began = scene.world.now
        scene.world.run(began + 1.0)
        scene.process.spawn(scene.take(), "take")
        scene.world.run(began + NOTICED_S + ALONE_S + SERVED_S, lambda: bool(scene.taken))
        assert scene.taken, "the client stayed with a router that could do nothing for it"
        assert scene.routers_of_client() != [router]
    scene.world.dispose()
