"""How much of what came back from a lost leader may be sent to another: a part of what is sent anyway, so that trouble
is not answered with more load.

A router can say no, for whoever asked still has the section and may send it again: what is beyond the budget is
answered at once. An SDK cannot, for the numbers it gave out have to be answered one day: it waits
(``holdfast.core.retry_pace``). And what comes back comes at once, as much as was under way, so that the budget follows
what was sent lately rather than being saved up to a fixed store.
"""

from __future__ import annotations

from math import exp
from typing import Final

RATIO: Final = 0.1
FLOOR: Final = 1_024
"""Sections that may always be sent again within the memory: what was under way when a quiet group lost its leader."""
MEMORY_S: Final = 10.0


class ResendBudget:
    """Of a group: sections sent and sent again, each fading with the time constant ``MEMORY_S``."""

    def __init__(self) -> None:
        self._sent = 0.0
        self._again = 0.0
        self._at = 0.0

    def sent(self, sections: int, now: float) -> None:
        """For the first time."""
        self._fade(now)
        self._sent += sections

    def take(self, now: float) -> bool:
        """Whether one more section may be sent again."""
        self._fade(now)
        if self._again + 1 > FLOOR + RATIO * self._sent:
            return False
        self._again += 1
        return True

    def _fade(self, now: float) -> None:
        if now > self._at:
            kept = exp((self._at - now) / MEMORY_S)
            self._sent *= kept
            self._again *= kept
            self._at = now
