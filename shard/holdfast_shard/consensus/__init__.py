"""Consensus: replicated logs on PySyncObj's core, with our own transport, journal, snapshots and election timing.

This package is the only importer of pysyncobj.
"""

from __future__ import annotations

from .compaction import SnapshotJob
from .config import ReplicaConfig
from .host import Host
from .machine_interface import (
    Applied,
    EntryTooLarge,
    LogDamaged,
    NotLeader,
    Proposal,
    ReplicaHalted,
    Role,
    StateMachine,
    UnsupportedEngine,
)
from .replica import Replica

__all__ = [
    "Applied",
    "EntryTooLarge",
    "Host",
    "LogDamaged",
    "NotLeader",
    "Proposal",
    "Replica",
    "ReplicaConfig",
    "ReplicaHalted",
    "Role",
    "SnapshotJob",
    "StateMachine",
    "UnsupportedEngine",
]
