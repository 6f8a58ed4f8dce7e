"""What may happen very often and is to be logged now and then."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Final

from holdfast.wire.limits import LINK_COMPLAINT_S

KNOWN_MAX: Final = 10_000


class Complaints:
    """Each thing once in ``LINK_COMPLAINT_S``. Bounded: with too many different ones it forgets and begins anew."""

    def __init__(self) -> None:
        self._made: dict[Hashable, float] = {}

    def due(self, about: Hashable) -> bool:
        """Whether to complain now; if so it counts as done."""
        now = time.monotonic()
        if now - self._made.get(about, -LINK_COMPLAINT_S) < LINK_COMPLAINT_S:
            return False
        if len(self._made) >= KNOWN_MAX:
            self._made.clear()
        self._made[about] = now
        return True
