"""Calls under way at a front, by tenant: those of some keep neither another's out, nor what holders need."""

from __future__ import annotations

from collections import Counter
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

    def of(self, tenant: int, *, exempt: bool) -> Stay:
        """While a call lasts. One that is exempt finds room in the reserve when there is none for others. Entering it
        raises :class:`Overloaded`."""
        return Stay(self, tenant, exempt)

    def _enter(self, tenant: int, exempt: bool) -> _Places:
        if self._open.enter(tenant):
            return self._open
        if exempt and self._reserve.enter(tenant):
            return self._reserve
        raise Overloaded("too many calls are under way at this router, in all or of this tenant", BUSY_RETRY_MS)


class Stay:
    """A context: written out, for one that is made of a generator costs three times as much."""

    __slots__ = ("_exempt", "_places", "_presence", "_tenant")

    def __init__(self, presence: Presence, tenant: int, exempt: bool) -> None:
        self._presence = presence
        self._tenant = tenant
        self._exempt = exempt

    def __enter__(self) -> None:
        self._places = self._presence._enter(self._tenant, self._exempt)

    def __exit__(self, *_: object) -> None:
        self._places.leave(self._tenant)
