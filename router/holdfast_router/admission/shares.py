"""Rates without Redis: every live router admits an even share of each tenant's quota."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.wire.tenants import Quotas

from .bucket import TokenBucket
from .verdict import RATE, Denied, Standing, Verdict

RATE_MIN: Final = 0.001
"""Of a tenant that may do nothing per second: what it is told to wait for stays finite."""
FORGET_EVERY_S: Final = 60.0
"""How often buckets that are full again are dropped: a new one would be the same."""


class Shares:
    """``routers`` gives the number of live routers, this one included."""

    def __init__(self, routers: Callable[[], int], clock: Callable[[], float]) -> None:
        self._routers = routers
        self._clock = clock
        self._buckets: dict[int, TokenBucket] = {}
        self._quotas: dict[int, Quotas] = {}
        """What each bucket was made from."""
        self._forget_at = clock() + FORGET_EVERY_S

    def bucket(self, tenant: int, quotas: Quotas, now: float) -> TokenBucket:
        """This router's share, as large as it is now."""
        routers = max(self._routers(), 1)
        rate, burst = max(quotas.rate / routers, RATE_MIN), max(quotas.burst / routers, 1.0)
        if now >= self._forget_at:
            self._forget(now)
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = TokenBucket(rate, burst, now)
            self._quotas[tenant] = quotas
        elif bucket.rate != rate or bucket.burst != burst:
            bucket.resize(rate, burst, now)
            self._quotas[tenant] = quotas
        return bucket

    def used(self) -> list[tuple[int, Quotas]]:
        """Tenants whose buckets may not be full, with their quotas."""
        return list(self._quotas.items())

    def _forget(self, now: float) -> None:
        self._forget_at = now + FORGET_EVERY_S
        for tenant in [tenant for tenant, bucket in self._buckets.items() if bucket.full_after_s(now) <= 0.0]:
            del self._buckets[tenant], self._quotas[tenant]

    def ask(self, tenant: int, quotas: Quotas, operations: int) -> Verdict:
        now = self._clock()
        bucket = self.bucket(tenant, quotas, now)
        if bucket.take(operations, now):
            return None
        return Denied(RATE, quotas.rate, bucket.book(operations, now))

    def charge(self, tenant: int, quotas: Quotas, operations: int) -> None:
        now = self._clock()
        self.bucket(tenant, quotas, now).charge(operations, now)

    def standing(self, tenant: int, quotas: Quotas) -> Standing:
        """Of this router's share: more is not admitted here."""
        now = self._clock()
        bucket = self.bucket(tenant, quotas, now)
        reset_s = bucket.full_after_s(now)
        return Standing(quotas.rate / max(self._routers(), 1), int(bucket.burst), max(int(bucket.tokens), 0), reset_s)
