"""A simulated network: connections that deliver in order, late, in pieces, in part, or to a peer that has moved on.

A connection is two halves; what one writes arrives at the other after the link's delay. While a link is cut what is
written waits, as in a kernel's buffers, and arrives some time after the link is mended. A reset lets part of what is
under way arrive, perhaps up to the middle of a message, and each end hears of it at a time of its own: a connection
that was replaced may deliver for seconds beside the one that replaced it. Links between nodes may, beyond what TCP
does, lose or repeat single writes: the engine promises to bear that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

DELAY_S = (20e-6, 300e-6)
"""One way, most of the time."""
SPIKE_CHANCE = 0.002
SPIKE_S = 0.05
SYN_RETRY_S = 1.0
UNACKNOWLEDGED_S = 30.0
"""How long a kernel tries to send before it gives a connection up."""
HIGH_WATER_BYTES = 64 << 10
RESET_SPREAD_S = 2.0
"""How much later than the one end of a connection the other may hear of its end."""
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


class _Item:
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
        self._flying: deque[_Item] = deque()
        self._stalled: deque[_Item] = deque()
        self._unsent_bytes = 0
        self._held: deque[_Item] = deque()
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
            self._send(_Item(DATA, data))

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        while self._held and self._reading and not self._over:
            self._deliver(self._held.popleft())

    def close(self) -> None:
        if not self._ending and not self._over:
            self._ending = True
            self._send(_Item(END))
            if not self._stalled:
                self.process.call(self._lost, None)

    def abort(self) -> None:
        if not self._over:
            self._stalled.clear()
            self._unsent_bytes = 0
            if not self._ending:
                self._ending = True
                self._send(_Item(RESET))
            self.process.call(self._lost, None)

    # The way.

    def _send(self, item: _Item) -> None:
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
                self._fly(_Item(DATA, item.data))
        self._fly(item)

    def _fly(self, item: _Item) -> None:
        world = self._world
        self.last_arrival = max(self.last_arrival, world.now + self.path.delay_s())
        self._flying.append(item)
        world.at(self.last_arrival, self._arrive, item)
        if self._doomed_s is not None and item.kind == DATA:
            self._break_off(self._doomed_s)

    def _stall(self, item: _Item) -> None:
        if not self._stalled:
            self._world.at(self._world.now + UNACKNOWLEDGED_S, self._give_up, item)
        self._stalled.append(item)
        self._unsent_bytes += len(item.data)
        if self._unsent_bytes > HIGH_WATER_BYTES and not self._paused and self._protocol is not None:
            self._paused = True
            self._protocol.pause_writing()

    def _give_up(self, item: _Item) -> None:
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

    def _arrive(self, item: _Item) -> None:
        if not self._flying or self._flying[0] is not item:
            return  # what was under way was lost with the connection
        self._flying.popleft()
        peer = self.peer
        if peer.process.alive and not peer._over:
            chance = self.path.chance
            if item.kind == DATA and len(item.data) > 1 and chance.random() < SPLIT_CHANCE:
                at = chance.randrange(1, len(item.data))
                peer.process.call(peer._take, _Item(DATA, item.data[:at]))
                item = _Item(DATA, item.data[at:])
            peer.process.call(peer._take, item)
        elif item.kind == DATA:
            self._network.unheard(self)

    def _take(self, item: _Item) -> None:
        if self._over:
            return
        if self._reading and not self._held:
            self._deliver(item)
        else:
            self._held.append(item)

    def _deliver(self, item: _Item) -> None:
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
            self._fly(_Item(DATA, item.data[: chance.randrange(1, len(item.data))]))
        self._ending = True
        self._stalled.clear()
        error = ConnectionResetError("connection reset by the network")
        self._world.at(self._world.now + after_s, self.end, error)
        self._world.at(self.last_arrival + after_s, self.peer.end, error)


class Server:
    def __init__(self, network: Network, address: tuple[str, int]) -> None:
        self._network = network
        self._address = address
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return self._address

    def close(self) -> None:
        self._network.listeners.pop(self._address, None)


class Network:
    def __init__(self, world: World) -> None:
        self.world = world
        self.listeners: dict[tuple[str, int], tuple[Process, Callable[[], asyncio.Protocol]]] = {}
        self.down: set[str] = set()
        """Machines without power: nothing there answers, not even to say that nobody listens."""
        self._paths: dict[tuple[str, str], Path] = {}
        self._halves: dict[Half, None] = {}
        self._unheard: dict[Half, None] = {}
        self._port = 40_000

    def path(self, source: str, target: str) -> Path:
        path = self._paths.get((source, target))
        if path is None:
            path = self._paths[source, target] = Path(self.world, source, target)
        return path

    # Connecting.

    def listen(self, process: Process, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Server:
        if (host, port) in self.listeners:
            raise OSError(98, "address already in use")
        self.listeners[host, port] = (process, factory)
        return Server(self, (host, port))

    async def connect(
        self, process: Process, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[Half, asyncio.Protocol]:
        done: asyncio.Future[tuple[Half, asyncio.Protocol]] = process.loop.create_future()
        self._port += 1
        self._syn(process, factory, (process.host, self._port), (host, port), done)
        return await done

    def _syn(self, process: Process, factory: Any, mine: tuple[str, int], theirs: tuple[str, int], done: Any) -> None:
        if done.done() or not process.alive:
            return
        there, back = self.path(mine[0], theirs[0]), self.path(theirs[0], mine[0])
        if there.cut or back.cut or theirs[0] in self.down:
            self.world.at(self.world.now + SYN_RETRY_S, self._syn, process, factory, mine, theirs, done)
            return
        at = self.world.now + there.delay_s()
        self.world.at(at, self._syn_arrives, process, factory, mine, theirs, done)

    def _syn_arrives(
        self, process: Process, factory: Any, mine: tuple[str, int], theirs: tuple[str, int], done: Any
    ) -> None:
        back = self.world.now + self.path(theirs[0], mine[0]).delay_s()
        listener = self.listeners.get(theirs)
        if listener is None or not listener[0].alive:
            self.world.at(back, process.call, _refuse, done)
            return
        server, accept = listener
        noisy = mine[0].startswith("node") and theirs[0].startswith("node")
        near = Half(self, process, mine, theirs, noisy=noisy)
        far = Half(self, server, theirs, mine, noisy=noisy)
        near.peer, far.peer = far, near
        self._halves[near] = self._halves[far] = None
        far.last_arrival = back
        server.call(lambda: far.open(accept()))
        self.world.at(back, process.call, _established, near, factory, done)

    # Faults.

    def halves(self, source: str, target: str) -> list[Half]:
        return [half for half in self._halves if half.mine[0] == source and half.theirs[0] == target]

    def reset(self, source: str, target: str) -> None:
        """End every connection between two machines, by what one of them writes."""
        chance = self.path(source, target).chance
        for half in self.halves(source, target):
            half.reset(chance.random() * (RESET_SPREAD_S if chance.random() < 0.3 else 0.01))

    @property
    def cuts(self) -> bool:
        return any(path.cut for path in self._paths.values())

    def cut(self, source: str, target: str) -> None:
        self.path(source, target).cut = True

    def mend(self, source: str, target: str) -> None:
        path = self.path(source, target)
        if path.cut:
            path.cut = False
            for half in list(self._halves):
                if half.path is path:
                    half.mended()

    def calm(self) -> None:
        """Everything arrives again, soon and once."""
        for (source, target), path in self._paths.items():
            self.mend(source, target)
            path.slow_s = path.loss = path.repeats = 0.0

    def died(self, process: Process, *, power: bool) -> None:
        """A process is gone. Its kernel says so to its peers, unless it went with it."""
        for address in [address for address, (owner, _) in self.listeners.items() if owner is process]:
            del self.listeners[address]
        for half in [half for half in self._halves if half.process is process]:
            self.forget(half)
            if power:
                self._unheard[half.peer] = None
            else:
                self._tell(half)
        if power:
            self.down.add(process.host)

    def boot(self, host: str) -> None:
        """The machine has power again, and resets whatever it is sent on connections of before."""
        self.down.discard(host)
        unheard, self._unheard = self._unheard, {}
        for half in unheard:
            if half.theirs[0] in self.down:
                self._unheard[half] = None
            else:
                self._tell(half.peer)

    def unheard(self, half: Half) -> None:
        """Something arrived where nobody listens any more."""
        if half.theirs[0] in self.down:
            self._unheard[half] = None
        else:
            self._tell(half.peer)

    def _tell(self, half: Half) -> None:
        half._stalled.clear()
        half._ending = False
        half._send(_Item(RESET))
        half._ending = True

    def forget(self, half: Half) -> None:
        if not half._stalled:
            self._halves.pop(half, None)


def _refuse(done: asyncio.Future[Any]) -> None:
    if not done.done():
        done.set_exception(ConnectionRefusedError(111, "connection refused"))


def _established(half: Half, factory: Callable[[], asyncio.Protocol], done: asyncio.Future[Any]) -> None:
    if done.done():
        half.abort()
        return
    protocol = factory()
    half.open(protocol)
    done.set_result((half, protocol))
