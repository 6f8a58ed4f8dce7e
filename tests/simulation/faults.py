"""What goes wrong, each kind in words of ``plan.Fault``; and who puts it right again, as operators and systemd do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast_shard.consensus import Host, NotLeader
from holdfast_shard.formation import fill_directory, renew_formation, replaced_formation
from tests.simulation.disk import SimDisk
from tests.simulation.plan import Fault
from tests.simulation.processes import DAMAGE, SECTOR_BYTES, Machine, NodeMachine, RouterMachine
from tests.simulation.workload import Application
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World

RESTART_S = 0.4
"""How soon a process that ended is started again."""
LOOK_S = 0.1
FLAKY_PER_S = 4.0


class PowerLoss(BaseException):
    """The plug is pulled while a process is in the middle of a change to its disk."""


class Nemesis:
    def __init__(
        self, world: World, nodes: list[NodeMachine], routers: list[RouterMachine], applications: list[Application]
    ) -> None:
        self._world = world
        self._nodes = nodes
        self._routers = routers
        self._applications = applications
        self._rotted: NodeMachine | None = None
        """At most one disk of a run is damaged: more is beyond what replicas can mend."""
        world.at(LOOK_S, self._supervise)

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        for fault in faults:
            self._world.at(fault.at, self._do, fault)

    def _do(self, fault: Fault) -> None:
        self._world.note(f"fault {fault}")
        self._world.count(f"fault: {fault.what}")
        self._world.count("faults")
        getattr(self, fault.what)(fault)

    def _after(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        self._world.at(self._world.now + seconds, call, *arguments)

    # Who puts it right.

    def _supervise(self) -> None:
        """Whatever ended by itself is started again; a disk that cannot be read is replaced."""
        self._after(LOOK_S, self._supervise)
        for node in self._nodes:
            if node.failure is not None and not node.running:
                failure, node.failure = node.failure, None
                if isinstance(failure, DAMAGE) and node is not self._rotted:
                    self._world.violate(Violation("only what was harmed is refused", f"{node.host}: {failure!r}"))
                elif isinstance(failure, DAMAGE):
                    self._replace(node)
                else:
                    node.disk.capacity_bytes = None
                    self._after(RESTART_S, self._start, node)

    def _start(self, machine: NodeMachine | RouterMachine | Application) -> None:
        running = machine.machine.running if isinstance(machine, Application) else machine.running
        if not running:
            machine.start()

    def _replace(self, lost: NodeMachine) -> None:
        """``holdfast node replace``: all nodes stopped, a new identity, an empty disk."""
        self._world.count("state: disk replaced")
        self._rotted = lost
        for node in self._nodes:
            node.kill()
            node.disk.repair()
        survivors = [node.disk for node in self._nodes if node is not lost]
        after = replaced_formation(lost.number, survivors, f"identity-{lost.number}-again")
        lost.disk = SimDisk(seed=self._world.seed, sector_bytes=SECTOR_BYTES)
        fill_directory(lost.disk, after, lost.number, fresh=True)
        for disk in survivors:
            renew_formation(disk, after)
        for node in self._nodes:
            self._after(RESTART_S, self._start, node)

    def end(self) -> None:
        """No more faults: everything that is down is started, every link mended."""
        self._world.network.calm()
        for node in self._nodes:
            node.disk.repair()
            self._after(RESTART_S, self._start, node)
        for machine in (*self._routers, *self._applications):
            self._after(RESTART_S, self._start, machine)

    # Whom it hits.

    def _node(self, fault: Fault) -> NodeMachine:
        return self._nodes[fault.first % len(self._nodes)]

    def _leader(self, fault: Fault) -> NodeMachine:
        """Of one of the lock groups, if it has any."""
        leaders = [node for node in self._nodes for host in _hosts(node) if _leads(host, fault.second)]
        return leaders[0] if leaders else self._node(fault)

    def _application(self, fault: Fault) -> Application:
        return self._applications[fault.first % len(self._applications)]

    def _router(self, fault: Fault) -> RouterMachine:
        return self._routers[fault.first % len(self._routers)]

    # Processes.

    def _kill(self, nodes: list[NodeMachine], fault: Fault, *, power: bool) -> None:
        for node in nodes:
            node.kill(power=power)
            self._after(RESTART_S + fault.seconds, self._start, node)

    def kill_node(self, fault: Fault) -> None:
        self._kill([self._node(fault)], fault, power=False)

    def power_node(self, fault: Fault) -> None:
        self._kill([self._node(fault)], fault, power=True)

    def kill_leader(self, fault: Fault) -> None:
        self._kill([self._leader(fault)], fault, power=False)

    def power_leader(self, fault: Fault) -> None:
        self._kill([self._leader(fault)], fault, power=True)

    def power_two(self, fault: Fault) -> None:
        """A majority at once: whatever was acknowledged has to be on their disks."""
        spared = self._node(fault)
        self._kill([node for node in self._nodes if node is not spared], fault, power=True)

    def power_all(self, fault: Fault) -> None:
        self._kill(self._nodes, fault, power=True)

    def kill_all(self, fault: Fault) -> None:
        self._kill(self._nodes, fault, power=False)

    def power_in_write(self, fault: Fault) -> None:
        self._interrupt(self._leader(fault) if fault.amount < 0.5 else self._node(fault), fault.second, fault)

    def _interrupt(self, node: NodeMachine, changes: int, fault: Fault) -> None:
        """After so many more changes to its disk, in the midst of one, the power goes."""

        def lose_power() -> None:
            self._kill([node], fault, power=True)

        self._at_change(node, changes, lose_power)

    def _at_change(self, node: NodeMachine, changes: int, then: Callable[[], None]) -> None:
        left = changes

        def change(part: Callable[[], None]) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                node.disk.on_change = None
                self._world.count("state: power lost in the midst of a write")
                part()
                then()
                raise PowerLoss

        node.disk.on_change = change

    def power_in_election(self, fault: Fault) -> None:
        """The leader is cut off. Whoever then writes down a term or a vote first loses its power in that, and when it
        is back, it is another that it hears: one that may ask for the same term's vote again."""
        leader = self._leader(fault)
        others = [node for node in self._nodes if node is not leader]
        voter, other = others[fault.second % 2], others[1 - fault.second % 2]
        self._cut_off(leader.host, 3.0)

        def lose_power() -> None:
            voter.kill(power=True)
            self._after(0.05, self._start, voter)
            self._cut_off(other.host, 1.0 + fault.amount)
            for pair in ((leader.host, voter.host), (voter.host, leader.host)):
                self._after(0.02, self._world.network.mend, *pair)

        self._after(0.05 + 0.15 * fault.amount, self._at_change, voter, fault.first % 3, lose_power)

    def terminate_node(self, fault: Fault) -> None:
        node = self._leader(fault) if fault.amount < 0.7 else self._node(fault)
        node.terminate()
        self._after(1.5 + fault.seconds, self._start, node)

    def pause_node(self, fault: Fault) -> None:
        self._pause(self._node(fault), fault)

    def pause_leader(self, fault: Fault) -> None:
        self._pause(self._leader(fault), fault)

    def _pause(self, machine: Machine, fault: Fault) -> None:
        if machine.running and machine.process is not None:
            machine.process.pause(fault.seconds)

    def stop_world(self, fault: Fault) -> None:
        for machine in (*self._nodes, *self._routers, *(application.machine for application in self._applications)):
            self._pause(machine, fault)

    def kill_router(self, fault: Fault) -> None:
        router = self._router(fault)
        router.kill(power=fault.amount < 0.3)
        self._after(RESTART_S + fault.seconds, self._start, router)

    def pause_router(self, fault: Fault) -> None:
        self._pause(self._router(fault), fault)

    def kill_client(self, fault: Fault) -> None:
        application = self._application(fault)
        application.machine.kill(power=fault.amount < 0.5)
        self._after(fault.seconds, self._start, application)

    def pause_client(self, fault: Fault) -> None:
        """Often for longer than its leases last."""
        self._pause(self._application(fault).machine, fault)

    def wall_clock(self, fault: Fault) -> None:
        self._world.wall_offset_s += (fault.amount - 0.5) * 1e7

    def transfer(self, fault: Fault) -> None:
        """The leader of a group hands it over."""
        node = self._leader(fault)
        for host in _hosts(node):
            for group, replica in host.replicas.items():
                if replica.ready and not host.halted and node.process is not None:
                    target = replica.peers[fault.second % len(replica.peers)] if replica.peers else node.number
                    node.process.call(self._transfer, host, group, target, node.process.clock_s())
                    return

    def _transfer(self, host: Host, group: int, target: int, now: float) -> None:
        with contextlib.suppress(NotLeader):  # it may have been deposed since
            host.transfer(group, target, now)
            self._world.count("state: leader transfer")

    # Links.

    def _cut(self, pairs: list[tuple[str, str]], fault: Fault) -> None:
        self._cut_for(fault.seconds, pairs)

    def _cut_for(self, seconds: float, pairs: list[tuple[str, str]]) -> None:
        for source, target in pairs:
            self._world.network.cut(source, target)
            self._after(seconds, self._world.network.mend, source, target)

    def _others(self, host: str) -> list[str]:
        return [machine.host for machine in (*self._nodes, *self._routers) if machine.host != host]

    def isolate_node(self, fault: Fault) -> None:
        self._isolate(self._node(fault).host, fault)

    def isolate_leader(self, fault: Fault) -> None:
        """From its peers, at times also from routers."""
        self._isolate(self._leader(fault).host, fault)

    def _cut_off(self, host: str, seconds: float) -> None:
        """From all other nodes."""
        others = [node.host for node in self._nodes if node.host != host]
        self._cut_for(seconds, [pair for other in others for pair in ((host, other), (other, host))])

    def _isolate(self, host: str, fault: Fault) -> None:
        others = [other for other in self._others(host) if fault.amount < 0.5 or other.startswith("node")]
        self._cut([pair for other in others for pair in ((host, other), (other, host))], fault)

    def cut_one_way(self, fault: Fault) -> None:
        host = (self._leader(fault) if fault.amount < 0.7 else self._node(fault)).host
        others = [other for other in self._others(host) if other.startswith("node")]
        self._cut([(host, other) if fault.first % 2 else (other, host) for other in others], fault)

    def cut_pair(self, fault: Fault) -> None:
        """Two nodes that do not hear each other, and a third that hears both."""
        one = self._node(fault).host
        others = [other for other in self._others(one) if other.startswith("node")]
        two = others[fault.second % len(others)]
        self._cut([(one, two), (two, one)][: 1 if fault.amount < 0.4 else 2], fault)

    def cut_all(self, fault: Fault) -> None:
        """No node hears another; routers hear them all, and what they have sent stays without an answer."""
        hosts = [node.host for node in self._nodes]
        self._cut([(one, two) for one in hosts for two in hosts if one != two], fault)

    def cut_router(self, fault: Fault) -> None:
        router, node = self._router(fault).host, self._node(fault).host
        self._cut([(router, node), (node, router)][: 1 if fault.amount < 0.4 else 2], fault)

    def isolate_router(self, fault: Fault) -> None:
        """It reaches no node, while its clients reach it."""
        router = self._router(fault).host
        hosts = [node.host for node in self._nodes]
        self._cut([pair for host in hosts for pair in ((router, host), (host, router))], fault)

    def cut_client(self, fault: Fault) -> None:
        client = self._application(fault).machine.host
        pairs = [pair for router in self._routers for pair in ((client, router.host), (router.host, client))]
        self._cut(pairs[:: 2 if fault.amount < 0.3 else 1], fault)

    def slow(self, fault: Fault) -> None:
        for pair in self._some_pair(fault):
            path = self._world.network.path(*pair)
            path.slow_s = 0.4 * fault.amount
            self._after(fault.seconds, setattr, path, "slow_s", 0.0)

    def noise(self, fault: Fault) -> None:
        """Writes between two nodes are lost and repeated."""
        one = self._node(fault).host
        two = self._nodes[(fault.first + 1) % len(self._nodes)].host
        for pair in ((one, two), (two, one)):
            path = self._world.network.path(*pair)
            path.loss, path.repeats = 0.2 * fault.amount, 0.2 * (1 - fault.amount)
            self._after(fault.seconds, setattr, path, "loss", 0.0)
            self._after(fault.seconds, setattr, path, "repeats", 0.0)

    def reset(self, fault: Fault) -> None:
        for source, target in self._some_pair(fault)[:1]:
            self._world.network.reset(source, target)

    def flaky(self, fault: Fault) -> None:
        """All the time some connection of a router breaks, mostly to one of its clients."""
        chance = self._world.stream(f"flaky {fault.at}")
        at = chance.expovariate(FLAKY_PER_S)
        while at < fault.seconds:
            router = chance.choice(self._routers).host
            clients = [application.machine.host for application in self._applications]
            other = chance.choice(clients if chance.random() < 0.6 else [node.host for node in self._nodes])
            pair = (router, other) if chance.random() < 0.6 else (other, router)
            self._after(at, self._world.network.reset, *pair)
            at += chance.expovariate(FLAKY_PER_S)

    def _some_pair(self, fault: Fault) -> list[tuple[str, str]]:
        hosts = [machine.host for machine in (*self._nodes, *self._routers)]
        clients = [application.machine.host for application in self._applications]
        one = hosts[fault.first % len(hosts)]
        others = [host for host in hosts if host != one]
        if one.startswith("router") and fault.amount < 0.5:
            others = clients
        two = others[fault.second % len(others)]
        return [(one, two), (two, one)]

    # Disks.

    def fail_sync(self, fault: Fault) -> None:
        self._node(fault).disk.failing_syncs = 1

    def fill_disk(self, fault: Fault) -> None:
        disk = self._node(fault).disk
        disk.capacity_bytes = disk.used_bytes() + int(4000 * fault.amount)
        self._after(fault.seconds, setattr, disk, "capacity_bytes", None)

    def rot(self, fault: Fault) -> None:
        """A byte of a stopped node's journal changes: it refuses to start, and its disk is replaced."""
        node = self._node(fault)
        if self._rotted is not None or any(other.failure or not other.running for other in self._nodes):
            return
        self._rotted = node
        node.terminate()
        self._after(1.6, self._rot, node, fault)

    def _rot(self, node: NodeMachine, fault: Fault) -> None:
        names = [name for name in node.disk.names() if name.startswith("journal")]
        if node.running or not names:
            return
        # Not in the last record: nothing behind it says that it was synced.
        name = names[-1] if len(names) == 1 else names[fault.first % (len(names) - 1)]
        size = len(node.disk.read(name))
        at = int(fault.amount * (size - 200))
        if at > 0:
            node.disk.rot(name, at)
            self._world.count("state: journal rotted")
        self._start(node)


def _hosts(node: NodeMachine) -> list[Host]:
    return [node.node.engine.host] if node.running and node.node is not None else []


def _leads(host: Host, choice: int) -> bool:
    groups = [group for group in host.replicas if group] or [0]
    return host.replicas[groups[choice % len(groups)]].ready
