"""What faults are done to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.cluster import ServerProcess
from holdfast.errors import HoldfastError

from .cluster import ChaosCluster
from .network import Links
from .workers import Workers

READY_S: Final = 60.0


class FaultFailed(Exception):
    """A fault did not do what it must, such as a node that starts from a damaged journal."""


@dataclass(slots=True)
class Scene:
    """``chance`` decides everything that a fault may choose; ``say`` is told what it chose."""

    cluster: ChaosCluster
    workers: Workers
    chance: random.Random
    say: Callable[[str], None]

    @property
    def links(self) -> Links:
        assert self.cluster.links is not None, "this fault needs links"
        return self.cluster.links

    async def node(self) -> int:
        """A node at random, or the leader of a group."""
        number = self.chance.choice(list(self.cluster.nodes))
        group = self.chance.randint(0, self.cluster.shape.groups)
        if self.chance.random() < 0.7:
            try:
                number = (await asyncio.to_thread(self.cluster.status)).leaders().get(group, number)
            except HoldfastError:
                pass  # the router has a fault of its own
        self.say(f"node {number}")
        return number

    def peers(self, node: int) -> list[int]:
        return [number for number in self.cluster.nodes if number != node]

    def router(self) -> ServerProcess:
        router = self.chance.choice(self.cluster.routers)
        self.say(router.name)
        return router

    def slot(self) -> int:
        """Of a client process."""
        slot = self.chance.randrange(len(self.workers.running))
        self.say(self.workers.running[slot].name)
        return slot

    async def pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self.chance.uniform(least_s, most_s))

    async def ready(self, *, all_nodes: bool = True) -> None:
        await asyncio.to_thread(self.cluster.ready, READY_S, all_nodes=all_nodes)

    async def end(self, node: int, number: int) -> None:
        """Signal a node and wait until it has ended."""
        self.cluster.kill(node, number)
        await self.ended(node)

    async def ended(self, node: int) -> int:
        """Its exit code; minus the signal that killed it."""
        async with asyncio.timeout(READY_S):
            while (code := self.cluster.nodes[node].exit_code()) is None:
                await asyncio.sleep(0.01)
        return code

    async def restart(self, *nodes: int) -> None:
        """Start nodes that have ended, and wait until all is well again."""
        for node in nodes:
            await asyncio.to_thread(self.cluster.restart, node)
        await self.ready()
