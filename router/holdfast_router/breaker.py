"""A group that answers nothing is not asked by everybody: closed, open, half open (Nygard, *Release It!*, 2007)."""

from __future__ import annotations

from typing import Final

SILENT_S: Final = 3.0
"""Silence after which the breaker opens: twice what an election takes at worst, so that one leaves it closed."""
PROBE_S_MIN: Final = 0.25
PROBE_S_MAX: Final = 1.0
"""Pause between two probes, doubled each time: callers are told to come again when the next one is due."""


class Breaker:
    """Closed while answers come. Opens after ``SILENT_S`` in which something was owed and nothing answered, in one
    piece or several; then one section is let through at a time, and any answer closes it."""

    def __init__(self) -> None:
        self.open = False
        self._silent_s = 0.0
        self._looked_at = 0.0
        self._probe_at = 0.0
        self._pause_s = PROBE_S_MIN

    def admits_in_s(self, now: float) -> float:
        """0 when a section may pass now, else seconds until the next may. Whoever is told 0 has to ask."""
        if not self.open:
            return 0.0
        if now < self._probe_at:
            return self._probe_at - now
        self._probe_at = now + self._pause_s
        self._pause_s = min(self._pause_s * 2, PROBE_S_MAX)
        return 0.0

    def asked(self, now: float) -> None:
        """Something is owed, and nothing was before."""
        self._looked_at = now

    def answered(self, now: float) -> None:
        self.open = False
        self._silent_s = 0.0
        self._looked_at = now

    def look(self, now: float) -> None:
        """To be called now and then while anything is owed."""
        self._silent_s += max(now - self._looked_at, 0.0)
        self._looked_at = now
        if not self.open and self._silent_s >= SILENT_S:
            self.open = True
            self._pause_s = PROBE_S_MIN
            self._probe_at = now + self._pause_s

    def leader_found(self) -> None:
        """The next section is a probe, whenever it comes."""
        self._probe_at = 0.0
