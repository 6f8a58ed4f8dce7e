"""What runs in the world: nodes on disks of their own, routers, clients. Each starts, stops, dies and starts again."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import holdfast
from holdfast.address import Address
from holdfast.client import Connecting
from holdfast.link import Link
from holdfast_router.formation import FormationFile
from holdfast_router.process import Router
from holdfast_shard.consensus import LogDamaged, ReplicaConfig
from holdfast_shard.consensus.disk import DiskError
from holdfast_shard.consensus.journal import JournalDamaged, JournalFailed
from holdfast_shard.consensus.snapshots import SnapshotDamaged
from holdfast_shard.formation import Formation, FormationError, fill_directory
from holdfast_shard.node.process import Node
from holdfast_shard.node.surroundings import Surroundings
from tests.simulation.disk import SimDisk
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

DRIFT = 0.004
"""What is stated of clocks: their rates differ from true by no more (``docs/design.md``, 5)."""
NODE_PORT = 7000
ROUTER_PORT = 8420

SECTOR_BYTES = 512
"""The smallest that any disk writes whole: most records cross some."""
TIMEOUT_S = 3.0
"""Of a client: shorter than some outages, so that some outcomes stay unknown."""

DAMAGE = (JournalDamaged, SnapshotDamaged, LogDamaged, FormationError)
DISK_TROUBLE = (DiskError, JournalFailed)

CONFIG = ReplicaConfig(
    kept_tail_bytes=8 << 10, snapshot_log_bytes=24 << 10, segment_bytes=32 << 10, append_bytes=2 << 10,
    snapshot_chunk_bytes=1 << 10, snapshot_window_bytes=4 << 10, apply_bytes=4 << 10,
)  # fmt: skip
"""Small, so that logs are compacted, segments deleted and laggards sent snapshots within a run of seconds."""


def clock_of(chance: random.Random) -> tuple[float, float]:
    """(rate, offset in seconds) of a machine's clock."""
    return 1 + chance.choice((-DRIFT, 0.0, DRIFT, chance.uniform(-DRIFT, DRIFT))), chance.uniform(0, 1e6)


class Machine:
    """A computer with a clock, on which one process runs at a time."""

    def __init__(self, world: World, host: str) -> None:
        self.world = world
        self.host = host
        self.chance = world.stream(f"machine {host}")
        self.rate, self.offset_s = clock_of(self.chance)
        self.process: Process | None = None
        self.starts = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.alive

    def boot(self) -> Process:
        assert not self.running
        self.world.network.boot(self.host)
        self.starts += 1
        name = f"{self.host}#{self.starts}"
        self.process = Process(self.world, name, self.host, rate=self.rate, offset_s=self.offset_s)
        return self.process

    def kill(self, *, power: bool = False) -> None:
        """kill -9, or with ``power`` the machine's plug."""
        if self.process is not None and self.process.alive:
            self.process.die()
            self.world.network.died(self.process, power=power)

    def terminate(self) -> None:
        """TERM: the process ends when it sees fit."""
        process = self.process
        if process is not None and process.alive and signal.SIGTERM in process.loop.signals:
            process.call(process.loop.signals[signal.SIGTERM])


class NodeMachine(Machine):
    """A node and its disk. ``on_start`` is called when a process is put together, before it listens."""

    def __init__(
        self, world: World, number: int, formation: Formation, on_start: Callable[[NodeMachine], None]
    ) -> None:
        super().__init__(world, f"node{number}")
        self.number = number
        self.disk = SimDisk(seed=self.chance.getrandbits(32), sector_bytes=SECTOR_BYTES)
        fill_directory(self.disk, formation, number)
        self.node: Node | None = None
        self.failure: BaseException | None = None
        """Why the last process ended by itself."""
        self._on_start = on_start

    def start(self) -> None:
        self.failure = None
        process = self.boot()
        process.spawn(self._main(process), "main")

    async def _main(self, process: Process) -> None:
        surroundings = Surroundings(
            self.disk, process.clock_s, process.clock_s, self.world.stream(f"engine of {process.name}")
        )
        try:
            self.node = Node(surroundings, config=CONFIG)
            self._on_start(self)
            await self.node.run()
            self.node.heed_signals()
            await self.node.serve()
        except (*DAMAGE, *DISK_TROUBLE) as error:
            self.failure = error
            self.world.count(f"state: node stopped by {type(error).__name__}")
        self.world.note(f"{process.name} exits: {self.failure!r}")
        if process.alive:
            process.die()
            self.world.network.died(process, power=False)
            self.disk.kill()

    def kill(self, *, power: bool = False) -> None:
        if self.running:
            super().kill(power=power)
            if power:
                self.disk.crash(self.chance)
            else:
                self.disk.kill()


class RouterMachine(Machine):
    def __init__(self, world: World, number: int, formation: FormationFile) -> None:
        super().__init__(world, f"router{number}")
        self._formation = formation

    def start(self) -> None:
        process = self.boot()
        process.spawn(self._main(process), "main")

    async def _main(self, process: Process) -> None:
        router = Router(self._formation, draw=self.world.stream(f"draws of {process.name}").randbytes)
        await router.listen(self.host, ROUTER_PORT, None)
        router.heed_signals()
        await router.serve()
        if process.alive:
            process.die()
            self.world.network.died(process, power=False)


class ClientMachine(Machine):
    """An application with the SDK in it."""

    def __init__(self, world: World, number: int, routers: list[RouterMachine], key: str) -> None:
        super().__init__(world, f"client{number}")
        self._routers = routers
        self._key = key

    def connect(self, process: Process) -> Connecting:
        address = Address(tuple((router.host, ROUTER_PORT) for router in self._routers), tls=False)
        rng = self.world.stream(f"sdk of {process.name}")
        return Connecting(Link(address, self._key, TIMEOUT_S, None, clock_ms=process.clock_ms, rng=rng))


async def forever_connect(machine: ClientMachine, process: Process) -> holdfast.Client:
    """An application that waits for the service."""
    while True:
        try:
            return await machine.connect(process)
        except holdfast.HoldfastError:
            await asyncio.sleep(0.2)
