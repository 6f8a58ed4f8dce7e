"""Calls under way at a front, by tenant: those of some keep neither another's out, nor what holders need."""

from __future__ import annotations

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
        self._of: dict[int, int] = {}
        """How many of each tenant; none is 0."""

    def enter(self, tenant: int) -> bool:
        """Whether there is room; if so it is taken until :meth:`leave`."""
        mine = self._of.get(tenant, 0)
        if mine >= self._free:
            return False
        self._free -= 1
        self._of[tenant] = mine + 1
        return True

    def leave(self, tenant: int) -> None:
        self._free += 1
        mine = self._of[tenant] - 1
        if mine:
            self._of[tenant] = mine
        else:
            del self._of[tenant]


class Presence:
    """``total_max``: of all tenants. Waiting and watching calls count for as long as they last."""

    def __init__(self, total_max: int) -> None:
        reserved = total_max // RESERVE_PART
        self._open = _Places(total_max - reserved)
        self._reserve = _Places(reserved)

    def of(self, tenant: int, *, exempt: bool) -> Stay:
        """A call begins, and lasts as long as the context that is returned, to be entered at once. One that is exempt
        finds room in the reserve when there is none for others. Raises :class:`Overloaded`."""
        if self._open.enter(tenant):
            return Stay(self._open, tenant)
        if exempt and self._reserve.enter(tenant):
            return Stay(self._reserve, tenant)
        raise Overloaded("too many calls are under way at this router, in all or of this tenant", BUSY_RETRY_MS)


class Stay:
    """A context written out, for one that is made of a generator costs three times as much."""

    __slots__ = ("_places", "_tenant")

    def __init__(self, places: _Places, tenant: int) -> None:
        self._places = places
        self._tenant = tenant

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._places.leave(self._tenant)
