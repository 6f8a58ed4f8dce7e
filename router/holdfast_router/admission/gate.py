"""The gate before the groups' queues: rates and operations under way of every tenant, for all fronts of a router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from holdfast.wire.tenants import Quotas

from .in_flight import InFlight
from .redis_buckets import RedisBuckets
from .shares import Shares
from .verdict import IN_FLIGHT, LATER, RATE, Decided, Denied, Later, Standing, Verdict

ADMITTED: Final = "admitted"
OVERLOADED: Final = "overloaded"


class _Rates(Protocol):
    def ask(self, tenant: int, quotas: Quotas, operations: int) -> Verdict | Later: ...
    def charge(self, tenant: int, quotas: Quotas, operations: int) -> None: ...
    def standing(self, tenant: int, quotas: Quotas) -> Standing: ...


TELLINGS_PER_OPERATION: Final = 16
"""What watchers are told is one encoded message for many of them; a tenth of what an operation costs, or less."""


_OUTCOMES: Final = (ADMITTED, RATE, IN_FLIGHT, OVERLOADED)


class Gate:
    """``quotas`` gives a tenant's, the same object while they do not change; ``routers`` the number of live routers.

    Whatever was admitted is told to have ended, by :meth:`ended`, once and in any case.
    """

    def __init__(
        self,
        quotas: Callable[[int], Quotas],
        routers: Callable[[], int],
        clock: Callable[[], float],
        *,
        redis_url: str = "",
        cluster: str = "",
    ) -> None:
        """Raises :class:`RedisUrlUnusable`."""
        self._quotas = quotas
        self._routers = routers
        self._redis = RedisBuckets(redis_url, cluster, routers, clock) if redis_url else None
        self._rates: _Rates = self._redis or Shares(routers, clock)
        self._in_flight = InFlight()
        self.counts: dict[int, dict[str, int]] = {}
        """Of each tenant, since the start: operations admitted, refused by each quota, and refused for load."""
        self._of_deleted = dict.fromkeys(_OUTCOMES, 0)
        self._tellings: dict[int, int] = {}
        """Of each tenant, those that do not make an operation yet."""

    def start(self) -> None:
        if self._redis is not None:
            self._redis.start()

    async def close(self) -> None:
        """Whoever waits for Redis is decided by this router's share."""
        if self._redis is not None:
            await self._redis.close()

    # Asking.

    def ask(self, tenant: int, operations: int, *, exempt: bool = False) -> Verdict | Later:
        """Ask for a section of so many operations, or one with nothing but ``exempt`` ones
        (:mod:`holdfast.wire.exempt`). When it is said later, :meth:`wait` has to follow."""
        quotas = self._quotas(tenant)
        if exempt:
            self._rates.charge(tenant, quotas, operations)
            self._begin(tenant, operations)
            return None
        limit = max(quotas.in_flight // max(self._routers(), 1), 1)
        if self._in_flight.full(tenant, limit):
            retry_after_s = self._in_flight.retry_after_s(tenant, limit)
            self._count(tenant, IN_FLIGHT, operations)
            return Denied(IN_FLIGHT, quotas.in_flight, retry_after_s)
        verdict = self._rates.ask(tenant, quotas, operations)
        if verdict is None:
            self._begin(tenant, operations)
        elif verdict is not LATER:
            self._count(tenant, verdict.quota, operations)
        return verdict

    def wait(self, tenant: int, operations: int, decided: Decided) -> None:
        """``decided`` is told once, within :data:`ANSWER_S_MAX`."""
        assert self._redis is not None, "only Redis is waited for"
        self._redis.wait(tenant, operations, partial(self._judged, tenant, operations, decided))

    def _judged(self, tenant: int, operations: int, decided: Decided, verdict: Verdict) -> None:
        if verdict is None:
            self._begin(tenant, operations)
        else:
            self._count(tenant, verdict.quota, operations)
        decided(verdict)

    def charge(self, tenant: int, operations: int) -> None:
        """For what is not refused, and bounded elsewhere while it is under way."""
        self._rates.charge(tenant, self._quotas(tenant), operations)

    def told(self, tenant: int, watchers: int) -> None:
        """So many were told of a change. It is charged and never kept from them: the tenant's next changes wait."""
        operations, self._tellings[tenant] = divmod(self._tellings.get(tenant, 0) + watchers, TELLINGS_PER_OPERATION)
        if operations:
            self.charge(tenant, operations)

    async def admit(self, tenant: int, operations: int, *, exempt: bool = False) -> Verdict:
        """As :meth:`ask`, for tasks. What is admitted while the task is cancelled has ended."""
        verdict = self.ask(tenant, operations, exempt=exempt)
        if verdict is not LATER:
            return verdict
        waiter: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def decided(verdict: Verdict) -> None:
            if not waiter.done():
                waiter.set_result(verdict)
            elif verdict is None:
                self.ended(tenant, operations, 0.0)

        self.wait(tenant, operations, decided)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result() is None:
                self.ended(tenant, operations, 0.0)
            raise

    def overloaded(self, tenant: int, operations: int) -> None:
        """They are refused for load: counted, not charged."""
        self._count(tenant, OVERLOADED, operations)

    def _begin(self, tenant: int, operations: int) -> None:
        self._count(tenant, ADMITTED, operations)
        self._in_flight.begin(tenant, operations)

    def _count(self, tenant: int, outcome: str, operations: int) -> None:
        counts = self.counts.get(tenant)
        if counts is None:
            counts = self.counts[tenant] = dict.fromkeys(_OUTCOMES, 0)
        counts[outcome] += operations

    def forget(self, tenants: Iterable[int]) -> None:
        """They were deleted: what was counted of them is kept in the totals only."""
        for tenant in tenants:
            self._tellings.pop(tenant, None)
            for outcome, operations in self.counts.pop(tenant, {}).items():
                self._of_deleted[outcome] += operations

    def ended(self, tenant: int, operations: int, took_s: float) -> None:
        """An admitted section was answered, refused later on, or given up; then ``took_s`` is 0."""
        self._in_flight.end(tenant, operations, took_s)

    # Looking.

    def standing(self, tenant: int) -> Standing:
        return self._rates.standing(tenant, self._quotas(tenant))

    def status(self) -> dict[str, object]:
        """Of all tenants, in operations."""
        found: dict[str, object] = {
            "admitted": self._sum(ADMITTED),
            "throttled": {quota: self._sum(quota) for quota in (RATE, IN_FLIGHT)},
            "under_way": self._in_flight.total,
        }
        if self._redis is not None:
            found.update(self._redis.status())
        return found

    def _sum(self, outcome: str) -> int:
        return sum((counts[outcome] for counts in self.counts.values()), self._of_deleted[outcome])
