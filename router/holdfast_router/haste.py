"""Who comes back before the time that refusals name is read less often: what it sends meanwhile is read at once.

A refusal costs a router two system calls, which bring the request and take the answer, and some Python; who ignores
Retry-After has it spend them without end, at the cost of those who get something done (receive livelock: Mogul
and Ramakrishnan, 1997, whose remedy is this, too). Requests that are read together share their calls; and who sends
faster than it is read is slowed by its own stream.
"""

from __future__ import annotations

from typing import Final

EARLY_MAX: Final = 16
"""Sections that may come too early in a row: they may have been on their way when the first was refused."""
REST_S: Final = 0.05
"""Who is in haste is not read for so long after a refusal; its releases and keepalives wait with the rest."""


class Haste:
    """Of one connection: by group, until when it was asked to stay away, and how often in a row it did not."""

    __slots__ = ("_early", "_until")

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._early: dict[int, int] = {}

    def refused(self, group: int, retry_after_ms: int, now: float) -> bool:
        """It is told to come again to ``group`` in this time; whether it has come too early too often."""
        early = self._early.get(group, 0) + 1 if now < self._until.get(group, 0.0) else 0
        self._early[group] = early
        self._until[group] = now + retry_after_ms / 1000
        return early > EARLY_MAX
