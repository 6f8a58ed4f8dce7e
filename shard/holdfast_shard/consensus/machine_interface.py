"""What the engine replicates, and what it tells whoever drives it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


class StateMachine(Protocol):
    """A deterministic state machine; every replica applies the same entries in the same order."""

    def apply(self, index: int, term: int, payload: bytes | None) -> object:
        """Apply one entry; None is the no-op that opens a term. Never raises, whatever the bytes."""

    def export(self) -> Iterator[bytes]:
        """Chunks of the state as of this call; entries may be applied between chunks. One export at a time."""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state. Raises ValueError on bad data and then leaves the old state as it was."""


class Role(enum.Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Applied:
    """An entry that was applied here; `result` is what the state machine returned."""

    index: int
    term: int
    result: object
    noop: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where a payload stands in the log. It was applied if and only if that index is applied with that term."""

    index: int
    term: int


class NotLeader(Exception):
    """This replica cannot propose. Nothing was appended."""

    def __init__(self, group: int, leader: int | None) -> None:
        super().__init__(
            f"group {group} is not led by this node; leader: {leader if leader is not None else 'unknown'}"
        )
        self.group = group
        self.leader = leader


class EntryTooLarge(ValueError):
    """A payload above `ReplicaConfig.entry_bytes_max`. Nothing was appended."""


class UnsupportedEngine(Exception):
    """The installed PySyncObj is not the version whose internals this package was checked against."""


class LogDamaged(Exception):
    """Journal and snapshot of a group leave a gap; the replica refuses to start."""


class ReplicaHalted(Exception):
    """The replica stopped for good in this process: its disk failed, or going on could break a promise."""
