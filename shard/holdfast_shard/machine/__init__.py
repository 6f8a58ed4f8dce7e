"""The state machines: pure functions of the state and the log entry. No clock, no randomness, no I/O, no logging."""

from __future__ import annotations

from .entry import EntryResult, build_entry
from .envelope import ReadBudget
from .locks import Genesis, LockMachine
from .meta import MetaMachine

Machine = LockMachine | MetaMachine

__all__ = ["EntryResult", "Genesis", "LockMachine", "Machine", "MetaMachine", "ReadBudget", "build_entry"]
