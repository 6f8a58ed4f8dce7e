"""How often a tenant's administrators may ask: every change and note is an entry of the one meta group, kept in an
audit log that all share. A bucket of its own, so that who has used up its rate can still revoke a key.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from holdfast.wire.errors import Throttled
from holdfast.wire.tenants import OPERATOR, Quotas

from .bucket import TokenBucket

PART: Final = 100
"""One request for so many operations of the tenant's rate and burst, on each router; ..."""
RATE_MIN: Final = 1.0
BURST_MIN: Final = 20.0
"""... and so much in any case."""
BUCKETS_KEPT: Final = 1024
"""Beyond, full ones are dropped: new ones would be the same."""


class Pace:
    def __init__(self, quotas: Callable[[int], Quotas], clock: Callable[[], float]) -> None:
        """``clock``: seconds, monotonic."""
        self._quotas = quotas
        self._clock = clock
        self._buckets: dict[int, TokenBucket] = {}

    def check(self, tenant: int) -> None:
        """One request more. Raises :class:`Throttled`; never for the operator."""
        if tenant == OPERATOR:
            return
        now = self._clock()
        quotas = self._quotas(tenant)
        rate, burst = max(quotas.rate / PART, RATE_MIN), max(quotas.burst / PART, BURST_MIN)
        bucket = self._buckets.get(tenant)
        if bucket is None:
            if len(self._buckets) >= BUCKETS_KEPT:
                self._forget(now)
            bucket = self._buckets[tenant] = TokenBucket(rate, burst, now)
        elif (bucket.rate, bucket.burst) != (rate, burst):
            bucket.resize(rate, burst, now)
        if not bucket.take(1, now):
            wait_ms = max(ceil(1000 * bucket.book(1, now)), 1)
            told = f"{rate:g} administrators' requests per second are used up: come again in {wait_ms} ms"
            raise Throttled(told, wait_ms, "administration", int(rate))

    def _forget(self, now: float) -> None:
        for tenant in [tenant for tenant, bucket in self._buckets.items() if bucket.full_after_s(now) <= 0.0]:
            del self._buckets[tenant]
