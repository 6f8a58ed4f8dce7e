"""How much of a tenant's is under way through this router: each admits its even share."""

from __future__ import annotations

from typing import Final

RETRY_S_MIN: Final = 0.01
_SMOOTHING: Final = 8


class InFlight:
    """A section is admitted while less than the limit is under way, whatever its size: one may go beyond."""

    def __init__(self) -> None:
        self._under_way: dict[int, int] = {}
        self._flight_s = RETRY_S_MIN
        """Smoothed time of a section, for telling when something will have come back."""

    def of(self, tenant: int) -> int:
        return self._under_way.get(tenant, 0)

    @property
    def total(self) -> int:
        return sum(self._under_way.values())

    def full(self, tenant: int, limit: int) -> bool:
        return self._under_way.get(tenant, 0) >= limit

    def begin(self, tenant: int, operations: int) -> None:
        self._under_way[tenant] = self._under_way.get(tenant, 0) + operations

    def end(self, tenant: int, operations: int, took_s: float) -> None:
        left = self._under_way[tenant] - operations
        if left:
            self._under_way[tenant] = left
        else:
            del self._under_way[tenant]
        if took_s:
            self._flight_s += (took_s - self._flight_s) / _SMOOTHING

    def retry_after_s(self, tenant: int, limit: int) -> float:
        """As long as a section takes, more the further the tenant is over its limit."""
        return max(self._flight_s, RETRY_S_MIN) * self._under_way.get(tenant, 0) / max(limit, 1)
