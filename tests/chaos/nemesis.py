"""Faults one after the other, chosen by a seed, until the time is over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec

from .cluster import ChaosCluster
from .events import now
from .faults import Fault, Lane
from .scene import Scene
from .workers import Workers

PAUSES_S = {Lane.NODES: (0.5, 4.0), Lane.ROUTERS: (2.0, 8.0), Lane.CLIENTS: (1.0, 6.0)}


class Span(msgspec.Struct):
    """A fault, from its beginning until all was well again; 0 while it is not."""

    lane: str
    fault: str
    began: float
    ended: float = 0.0
    chose: str = ""
    trouble: str = ""


class Nemesis:
    """The same seed makes the same choices in each lane, as far as the cluster gives it the same to choose from."""

    def __init__(self, cluster: ChaosCluster, workers: Workers, faults: Sequence[Fault], seed: str) -> None:
        self._cluster = cluster
        self._workers = workers
        self._faults = faults
        self._seed = seed
        self.spans: list[Span] = []

    async def run(self, until: float) -> None:
        """Ends when every fault is over that began before ``until``, and everything is mended."""
        async with asyncio.TaskGroup() as lanes:
            for lane in Lane:
                if any(fault.lane == lane for fault in self._faults):
                    lanes.create_task(self._run_lane(lane, until))

    async def _run_lane(self, lane: Lane, until: float) -> None:
        chance = random.Random(f"{self._seed}/{lane.value}")
        faults = [fault for fault in self._faults if fault.lane == lane]
        while True:
            await asyncio.sleep(chance.uniform(*PAUSES_S[lane]))
            if now() >= until:
                return
            (fault,) = chance.choices(faults, [fault.weight for fault in faults])
            await self._do(fault, chance)

    async def _do(self, fault: Fault, chance: random.Random) -> None:
        span = Span(fault.lane.value, fault.name, now())
        self.spans.append(span)

        def say(what: str) -> None:
            span.chose = f"{span.chose}, {what}" if span.chose else what

        # Its own chance, so that what one fault uses up does not change what the next one is.
        scene = Scene(self._cluster, self._workers, random.Random(chance.random()), say)
        try:
            await fault.act(scene)
        except Exception as error:
            span.trouble = f"{type(error).__name__}: {error}"
            raise
        span.ended = now()
