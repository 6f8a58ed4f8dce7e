"""The state machines: pure functions of the state and the log entry. No clock, no randomness, no I/O, no logging."""

from __future__ import annotations

from .entry import EntryResult, build_entry
from .envelope import ReadBudget
from .ledger import Observer
from .locks import Genesis, LockMachine
from .meta import META_GROUP, MetaMachine
from .rows import Lock

Machine = LockMachine | MetaMachine

__all__ = [
    "META_GROUP", "EntryResult", "Genesis", "Lock", "LockMachine", "Machine", "MetaMachine", "Observer", "ReadBudget",
    "build_entry",
]  # fmt: skip
