"""Applying committed entries, a bounded part at a time.

Replaces the library's apply loop, its commands and its callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .config import ReplicaConfig
from .log import NO_OP
from .machine_interface import Applied, StateMachine

if TYPE_CHECKING:
    from .replica import Replica

REPLACES: Final = ("_SyncObj__applyLogEntries", "_SyncObj__doApplyCommand", "_SyncObj__raftLastApplied")


class Application:
    def __init__(
        self, replica: Replica, machine: StateMachine, config: ReplicaConfig, stopwatch: Callable[[], float] | None
    ) -> None:
        self._replica = replica
        self._machine = machine
        self._config = config
        self._stopwatch = stopwatch

    def limit(self) -> int:
        """The last index that may be applied now."""
        return self._replica.durability.appliable(self._replica.engine.commit_index)

    def is_spent(self, bytes_left: int, ends: float) -> bool:
        """Whether the loop must get its turn before more is applied."""
        return bytes_left <= 0 or (self._stopwatch is not None and self._stopwatch() >= ends)

    def run(self, out: list[tuple[int, Applied]]) -> bool:
        """Apply what is due, within the budget; returns whether some is left."""
        replica = self._replica
        engine = replica.engine
        index = engine.applied_index
        limit = self.limit()
        if index >= limit:
            return False
        ends = self._stopwatch() + self._config.apply_budget_s if self._stopwatch else 0.0
        left = self._config.apply_bytes
        while index < limit:
            command, index, term = replica.log.entry(index + 1)
            noop = command == NO_OP
            result = self._machine.apply(index, term, None if noop else command[1:])
            engine.applied_index = index
            out.append((replica.group, Applied(index, term, result, noop)))
            left -= len(command)
            if self.is_spent(left, ends):
                break
        return index < limit
