"""Every fault that a run may do, and how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from . import damage, disk_faults, link_faults, network, process_faults
from .cluster import libfaketime
from .scene import Scene


class Lane(Enum):
    """Faults of one lane follow each other; lanes run beside each other. Every fault that makes a node forget or fail
    is in one lane, so that no two of them meet and more than a minority is lost."""

    NODES = "nodes"
    ROUTERS = "routers"
    CLIENTS = "clients"


class Need(Enum):
    """What a machine must have for a fault. Without a network, links are cut and slow in a proxy."""

    NETWORK = "network"
    MOUNT = "mount"
    CLOCKS = "clocks"


def missing_needs() -> dict[Need, str]:
    """What this machine does not have, and why."""
    found = {
        Need.NETWORK: network.missing(),
        Need.MOUNT: damage.missing(),
        Need.CLOCKS: "" if libfaketime() is not None else "libfaketime is not installed",
    }
    return {need: why for need, why in found.items() if why}


@dataclass(frozen=True, slots=True)
class Fault:
    act: Callable[[Scene], Awaitable[None]]
    lane: Lane
    weight: int
    need: Need | None = None

    @property
    def name(self) -> str:
        return self.act.__name__


FAULTS = (
    Fault(process_faults.kill_node, Lane.NODES, 6),
    Fault(process_faults.kill_majority, Lane.NODES, 1),
    Fault(process_faults.kill_all_nodes, Lane.NODES, 2),
    Fault(process_faults.term_node, Lane.NODES, 2),
    Fault(process_faults.stop_node, Lane.NODES, 5),
    Fault(process_faults.stop_all_nodes, Lane.NODES, 1),
    Fault(process_faults.turn_wall_clock, Lane.NODES, 2, Need.CLOCKS),
    Fault(link_faults.cut_node, Lane.NODES, 3),
    Fault(link_faults.mute_node, Lane.NODES, 2),
    Fault(link_faults.deafen_node, Lane.NODES, 2),
    Fault(link_faults.cut_pair, Lane.NODES, 2),
    Fault(link_faults.cut_every_node, Lane.NODES, 1),
    Fault(link_faults.slow_node, Lane.NODES, 2),
    Fault(link_faults.lossy_node, Lane.NODES, 2),
    Fault(disk_faults.fill_disk, Lane.NODES, 1, Need.MOUNT),
    Fault(disk_faults.tear_journal, Lane.NODES, 2),
    Fault(disk_faults.flip_and_restore, Lane.NODES, 1),
    Fault(disk_faults.flip_and_replace, Lane.NODES, 1),
    Fault(process_faults.kill_router, Lane.ROUTERS, 3),
    Fault(process_faults.term_router, Lane.ROUTERS, 1),
    Fault(process_faults.stop_router, Lane.ROUTERS, 2),
    Fault(link_faults.cut_router_from_nodes, Lane.ROUTERS, 2),
    Fault(link_faults.cut_clients_from_router, Lane.ROUTERS, 2),
    Fault(process_faults.kill_client, Lane.CLIENTS, 2),
    Fault(process_faults.stop_client, Lane.CLIENTS, 3),
)
