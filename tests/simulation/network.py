"""A simulated network: connections that deliver in order, late, in pieces, in part, or to a peer that has moved on.

A connection is two halves; what one writes arrives at the other after the link's delay. While a link is cut what is
written waits, as in a kernel's buffers, and arrives some time after the link is mended. A reset lets part of what is
under way arrive, perhaps up to the middle of a message, and each end hears of it at a time of its own: a connection
that was replaced may deliver for seconds beside the one that replaced it. Links between nodes may, beyond what TCP
does, lose or repeat single writes: the engine promises to bear that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.connection import Half, Path
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

SYN_RETRY_S = 1.0
RESET_SPREAD_S = 2.0
"""How much later than the one end of a connection the other may hear of its end."""


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
                half.tell()
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
                half.peer.tell()

    def unheard(self, half: Half) -> None:
        """Something arrived where nobody listens any more."""
        if half.theirs[0] in self.down:
            self._unheard[half] = None
        else:
            half.peer.tell()

    def forget(self, half: Half) -> None:
        if not half.stalled:
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
