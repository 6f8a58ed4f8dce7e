"""What one process of the load test saw granted, and whether that can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Name:
    highest: int = 0
    holders: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Token -> permits, and until when the holder certainly believes: as it was told with the grant. What renewals add
    is not counted, so that nobody is accused wrongly."""


class Witness:
    """Of one tenant. A holder is taken off before its release is sent, and put down when its grant has come, so that
    whoever comes between two of one name is wrong for certain. Other processes have witnesses of their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._names: dict[str, _Name] = {}

    def granted(self, name: str, token: int, until_s: float, permits: int = 1, capacity: int = 1) -> str:
        """Which promise this grant breaks; empty when none. ``until_s`` is of the clock."""
        seen = self._names.setdefault(name, _Name())
        now_s = self._clock()
        held = sum(count for count, until in seen.holders.values() if until > now_s)
        fault = ""
        if token in seen.holders or held + permits > capacity:
            tokens = ", ".join(map(str, sorted(seen.holders)))
            fault = f"granted twice: {name!r} under token {token} beside {tokens} ({held} of {capacity} held)"
        elif capacity == 1 and token <= seen.highest:
            fault = f"the token fell: {name!r} has {token} after {seen.highest}"
        seen.highest = max(seen.highest, token)
        seen.holders[token] = (permits, until_s)
        return fault

    def let_go(self, name: str, token: int) -> None:
        self._names[name].holders.pop(token, None)
