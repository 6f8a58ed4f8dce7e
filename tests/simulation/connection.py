"""One end of a simulated connection, and the way that what it writes takes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.network import Network
    from tests.simulation.world import World

DELAY_S = (20e-6, 300e-6)
"""One way, most of the time."""
SPIKE_CHANCE = 0.002
SPIKE_S = 0.05
UNACKNOWLEDGED_S = 30.0
"""How long a kernel tries to send before it gives a connection up."""
HIGH_WATER_BYTES = 64 << 10
SPLIT_CHANCE = 0.01

DATA, END, RESET = "data", "end", "reset"


class Path:
    """One direction between two machines."""

    def __init__(self, world: World, source: str, target: str) -> None:
        self.chance = world.stream(f"path {source} {target}")
        self.cut = False
        self.slow_s = 0.0
        self.loss = 0.0
        self.repeats = 0.0

    def delay_s(self) -> float:
        chance = self.chance
        delay_s = chance.uniform(*DELAY_S)
        if chance.random() < SPIKE_CHANCE:
            delay_s += chance.random() * SPIKE_S
        if self.slow_s:
            delay_s += chance.random() * self.slow_s
        return delay_s


class Item:
    __slots__ = ("data", "kind")

    def __init__(self, kind: str, data: bytes = b"") -> None:
        self.kind = kind
        self.data = data


class Half(asyncio.Transport):
    """One end of a connection."""

    def __init__(
        self, network: Network, process: Process, mine: tuple[str, int], theirs: tuple[str, int], *, noisy: bool
    ) -> None:
        super().__init__()
        self._network = network
        self._world = network.world
        self.process = process
        self.mine = mine
        self.theirs = theirs
        self._noisy = noisy
        """What is written may be lost or repeated singly: peers expect no more of a connection."""
        self.peer: Half
        self.path = network.path(mine[0], theirs[0])
        self._protocol: asyncio.Protocol | None = None
        self.last_arrival = 0.0
        self._flying: deque[Item] = deque()
        self._stalled: deque[Item] = deque()
        self._unsent_bytes = 0
        self._held: deque[Item] = deque()
        """Arrived while reading is paused."""
        self._reading = True
        self._over = False
        """Nothing is delivered to the protocol any more."""
        self._ending = False
        """Nothing more is written."""
        self._paused = False
        self._doomed_s: float | None = None
        """A reset waits for the next write, to come in its midst; this much later the writer hears of it."""

    # What protocols use.

    def open(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.theirs if name == "peername" else default

    def is_closing(self) -> bool:
        return self._ending or self._over

    def get_write_buffer_size(self) -> int:
        return self._unsent_bytes

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if not self._ending and not self._over:
            self._send(Item(DATA, data))

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        while self._held and self._reading and not self._over:
            self._deliver(self._held.popleft())

    def close(self) -> None:
        if not self._ending and not self._over:
            self._ending = True
            self._send(Item(END))
            if not self._stalled:
                self.process.call(self._lost, None)

    def abort(self) -> None:
        if not self._over:
            self._stalled.clear()
            self._unsent_bytes = 0
            if not self._ending:
                self._ending = True
                self._send(Item(RESET))
            self.process.call(self._lost, None)

    @property
    def stalled(self) -> bool:
        return bool(self._stalled)

    # The way.

    def _send(self, item: Item) -> None:
        path = self.path
        if path.cut or self._stalled:
            self._stall(item)
            return
        if item.kind == DATA and self._noisy:
            if path.loss and path.chance.random() < path.loss:
                self._world.count("fault: write lost")
                return
            if path.repeats and path.chance.random() < path.repeats:
                self._world.count("fault: write repeated")
                self._fly(Item(DATA, item.data))
        self._fly(item)

    def _fly(self, item: Item) -> None:
        world = self._world
        self.last_arrival = max(self.last_arrival, world.now + self.path.delay_s())
        self._flying.append(item)
        world.at(self.last_arrival, self._arrive, item)
        if self._doomed_s is not None and item.kind == DATA:
            self._break_off(self._doomed_s)

    def _stall(self, item: Item) -> None:
        if not self._stalled:
            self._world.at(self._world.now + UNACKNOWLEDGED_S, self._give_up, item)
        self._stalled.append(item)
        self._unsent_bytes += len(item.data)
        if self._unsent_bytes > HIGH_WATER_BYTES and not self._paused and self._protocol is not None:
            self._paused = True
            self._protocol.pause_writing()

    def _give_up(self, item: Item) -> None:
        if item in self._stalled:
            self._stalled.clear()
            self._unsent_bytes = 0
            self.end(TimeoutError("nothing was acknowledged"))

    def mended(self) -> None:
        if self._stalled:
            self._world.at(self._world.now + self.path.chance.random() * 0.3, self._resend)

    def _resend(self) -> None:
        if self.path.cut:
            return
        while self._stalled:
            item = self._stalled.popleft()
            self._fly(item)
            if item.kind == END:
                self.process.call(self._lost, None)
        self._unsent_bytes = 0
        if self._paused and self._protocol is not None:
            self._paused = False
            self.process.call(self._protocol.resume_writing)

    def _arrive(self, item: Item) -> None:
        if not self._flying or self._flying[0] is not item:
            return  # what was under way was lost with the connection
        self._flying.popleft()
        peer = self.peer
        if peer.process.alive and not peer._over:
            chance = self.path.chance
            if item.kind == DATA and len(item.data) > 1 and chance.random() < SPLIT_CHANCE:
                at = chance.randrange(1, len(item.data))
                peer.process.call(peer._take, Item(DATA, item.data[:at]))
                item = Item(DATA, item.data[at:])
            peer.process.call(peer._take, item)
        elif item.kind == DATA:
            self._network.unheard(self)

    def _take(self, item: Item) -> None:
        if self._over:
            return
        if self._reading and not self._held:
            self._deliver(item)
        else:
            self._held.append(item)

    def _deliver(self, item: Item) -> None:
        if self._protocol is None:
            self._lost(None)  # given up before it was opened
        elif item.kind == DATA:
            self._protocol.data_received(item.data)
        elif item.kind == END:
            self._lost(None)
        else:
            self._lost(ConnectionResetError("connection reset by peer"))

    def _lost(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = self._ending = True
        self._held.clear()
        self._network.forget(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    # Faults.

    def end(self, error: Exception) -> None:
        """The kernel has found that the connection is over."""
        if not self._over and self.process.alive:
            self.process.call(self._lost, error)

    def tell(self) -> None:
        """What was here is gone: the peer hears of that, and of nothing that still waited."""
        self._stalled.clear()
        self._ending = False
        self._send(Item(RESET))
        self._ending = True

    def reset(self, after_s: float) -> None:
        """Part of what is under way from here, or of what is written next, arrives, and nothing after it."""
        if self._flying:
            self._break_off(after_s)
        else:
            self._doomed_s = after_s

    def _break_off(self, after_s: float) -> None:
        self._doomed_s = None
        chance = self.path.chance
        keep = chance.randrange(len(self._flying))
        while len(self._flying) > keep:
            item = self._flying.pop()
        if item.kind == DATA and len(item.data) > 1 and chance.random() < 0.7:
            self._world.count("fault: reset in mid frame")
            self._fly(Item(DATA, item.data[: chance.randrange(1, len(item.data))]))
        self._ending = True
        self._stalled.clear()
        error = ConnectionResetError("connection reset by the network")
        self._world.at(self._world.now + after_s, self.end, error)
        self._world.at(self.last_arrival + after_s, self.peer.end, error)
