"""Calls under way at a front, by tenant: those of some keep neither another's out, nor what holders need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from holdfast.wire.errors import Overloaded
from holdfast.wire.limits import BUSY_RETRY_MS

RESERVE_PART: Final = 8
"""One place in so many is kept for what is exempt (``holdfast.wire.exempt``)."""


class _Places:
    """A tenant's part is at most what is free (dynamic thresholds: Choudhury and Hahne, 1998): one alone has half, and
    the next that comes finds as much free again as it may have."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._of: Counter[int] = Counter()

    def enter(self, tenant: int) -> bool:
        """Whether there is room; if so it is taken until :meth:`leave`."""
        if self._of[tenant] >= self._free:
            return False
        self._free -= 1
        self._of[tenant] += 1
        return True

    def leave(self, tenant: int) -> None:
        self._free += 1
        self._of[tenant] -= 1
        if not self._of[tenant]:
            del self._of[tenant]


class Presence:
    """``total_max``: of all tenants. Waiting and watching calls count for as long as they last."""

    def __init__(self, total_max: int) -> None:
        reserved = total_max // RESERVE_PART
        self._open = _Places(total_max - reserved)
        self._reserve = _Places(reserved)

    @contextmanager
    def of(self, tenant: int, *, exempt: bool) -> Iterator[None]:
        """While a call lasts. One that is exempt finds room in the reserve when there is none for others. Raises
        :class:`Overloaded`."""
        if self._open.enter(tenant):
            places = self._open
        elif exempt and self._reserve.enter(tenant):
            places = self._reserve
        else:
            raise Overloaded("too many calls are under way at this router, in all or of this tenant", BUSY_RETRY_MS)
        try:
            yield
        finally:
            places.leave(tenant)
