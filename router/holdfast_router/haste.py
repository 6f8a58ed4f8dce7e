"""Who comes back before the time that refusals name is read less often: what it sends meanwhile is read at once.

A refusal costs a router two system calls, which bring the request and take the answer, and some Python; who ignores
Retry-After has it spend them without end, at the cost of those who get something done (receive livelock: Mogul
and Ramakrishnan, 1997, whose remedy is this, too). Requests that are read together share their calls; and who sends
faster than it is read is slowed by its own stream.
"""

from __future__ import annotations

from typing import Final

from holdfast.wire.messages import Refusal

EARLY_MAX: Final = 16
"""Sections that may come too early in a row: they may have been on their way when the first was refused."""
REST_S: Final = 0.05
"""Who is in haste is not read for so long after a refusal; its releases and keepalives wait with the rest."""


class Haste:
    """Of one connection: by group, until when it was asked to stay away, and how often in a row it did not."""

    __slots__ = ("_early", "_last", "_until")

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._early: dict[int, int] = {}
        self._last: dict[tuple[int, int], tuple[Refusal, float, int]] = {}
        """During a rest, by group and kind: a refusal for load, and the patience and size that it was for."""

    def refused(self, group: int, retry_after_ms: int, now: float) -> bool:
        """It is told to come again to ``group`` in this time; whether it has come too early too often."""
        early = self._early.get(group, 0) + 1 if now < self._until.get(group, 0.0) else 0
        self._early[group] = early
        self._until[group] = now + retry_after_ms / 1000
        return early > EARLY_MAX

    def remember(self, refusal: Refusal, group: int, kind: int, patience_s: float, size: int) -> None:
        """It was told to a section of so many bytes, whose caller would wait so long, during a rest."""
        self._last[group, kind] = refusal, patience_s, size

    def alike(self, group: int, kind: int, patience_s: float, size: int) -> Refusal | None:
        """What one that was no harder to take was refused with in the same read: a few microseconds change nothing."""
        last = self._last.get((group, kind))
        return last[0] if last is not None and patience_s <= last[1] and size >= last[2] else None

    def rested(self) -> None:
        self._last.clear()
