"""What router and nodes did for the cycles of a window, by their own counts and the operating system's."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from holdfast.cluster import ClusterStatus

from . import processes

OPERATIONS_PER_CYCLE: Final = 2


class Work(msgspec.Struct, frozen=True):
    """Of router and nodes together, per cycle but for the first. Calls and bytes are ``None`` for other machines'."""

    operations_per_entry: float | None
    """How many are committed at once, with one entry of a group's log; ``None`` without any entry."""
    syncs: float
    """Times that a node waited for its disk."""
    messages: float
    """Received from clients, router and nodes, by the stream."""
    calls: float | None
    """Reads and writes, of sockets and files; no other system calls."""
    written_bytes: float | None
    """To sockets and files."""


class Counts(msgspec.Struct, frozen=True):
    """Since the servers' start."""

    at: float
    """When they were asked, in seconds of CLOCK_MONOTONIC."""
    servers: list[int]
    """Process ids; another one counts from nothing."""
    entries: int
    """Committed by the groups that hold locks."""
    syncs: int
    messages: int
    moved: processes.Moved | None

    @classmethod
    def of(cls, status: ClusterStatus, pids: list[int] | None) -> Counts | None:
        """``pids``: of the servers, when they are this machine's. ``None`` when a node did not answer."""
        if not all(node.up for node in status.nodes):
            return None
        commits: dict[int, int] = {}
        for group in (group for node in status.nodes for group in node.groups):
            commits[group.group] = max(commits.get(group.group, 0), group.commit)
        return cls(
            time.monotonic(),
            [status.router.pid, *(node.pid for node in status.nodes)],
            sum(commit for group, commit in commits.items() if group),
            sum(node.syncs for node in status.nodes),
            status.router.received + sum(node.received for node in status.nodes),
            None if pids is None else processes.moved_by(pids),
        )

    def until(self, later: Counts, cycles_per_s: float) -> Work | None:
        """What was done from here to there; ``None`` when no cycle was, or when not all of it was counted: a server was
        started again, or a connection ended."""
        if not cycles_per_s or later.servers != self.servers or later.messages < self.messages:
            return None
        cycles = cycles_per_s * (later.at - self.at)
        entries = later.entries - self.entries
        moved = later.moved.since(self.moved) if self.moved is not None and later.moved is not None else None
        return Work(
            round(OPERATIONS_PER_CYCLE * cycles / entries, 1) if entries > 0 else None,
            round((later.syncs - self.syncs) / cycles, 4),
            round((later.messages - self.messages) / cycles, 3),
            round(moved.calls / cycles, 3) if moved is not None else None,
            round(moved.written_bytes / cycles, 1) if moved is not None else None,
        )
