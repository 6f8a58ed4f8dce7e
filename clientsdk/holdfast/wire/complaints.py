"""What may happen very often and is to be logged now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from holdfast.wire.limits import LINK_COMPLAINT_S

KNOWN_MAX: Final = 10_000


class Complaints:
    """Each thing once in ``LINK_COMPLAINT_S``, by the running loop. Bounded: when full it begins anew."""

    def __init__(self) -> None:
        self._made: dict[Hashable, float] = {}

    def due(self, about: Hashable) -> bool:
        """Whether to complain now; if so it counts as done."""
        now = asyncio.get_running_loop().time()
        if now - self._made.get(about, -LINK_COMPLAINT_S) < LINK_COMPLAINT_S:
            return False
        if len(self._made) >= KNOWN_MAX:
            self._made.clear()
        self._made[about] = now
        return True
