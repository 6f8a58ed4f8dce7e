"""Rates shared by all routers: what this one was granted of each tenant's bucket, and what it has yet to tell. Sans-io.

Tokens are fetched before they are needed, about as many as are used in :data:`AHEAD_S`, so that most sections are
decided at once. One that meets no credit waits for the answer under way or the next, and no longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.wire.tenants import Quotas

from .bucket import BOOKED_S_MAX
from .shares import RATE_MIN
from .verdict import LATER, RATE, Decided, Denied, Later, Verdict

AHEAD_S: Final = 0.1
"""How much of its recent use is fetched for a tenant; no more of its rate is out of others' reach at a router."""
PAUSE_S: Final = 0.01
"""A bucket that had less than was wanted is not asked again sooner: its rate, not the caller's zeal, fills it."""
PAUSE_S_MAX: Final = 0.25
"""Nor later: other routers may have given back what they did not need."""
IDLE_S: Final = 0.5
"""Credit that nobody used for so long goes back."""
WAITING_MAX: Final = 1024
"""Sections of one tenant that wait for an answer; more are refused."""


@dataclass(frozen=True, slots=True)
class Row:
    """One tenant's part of a call; the fields are those of ``bucket.lua``."""

    tenant: int
    rate: float
    burst: float
    start: float
    ceiling: float
    spent: int
    exempt: int
    refused: int
    want: int


@dataclass(frozen=True, slots=True)
class Granted:
    tokens: int
    left: float
    booked_s: float


class _Account:
    __slots__ = (
        "asked", "asked_at", "booked_until", "ceiling", "credit", "demand", "empty_until", "exempt", "free_at", "limit",
        "measured_at", "quotas", "rate", "refused", "waiting", "waiting_since",
    )  # fmt: skip

    def __init__(self, quotas: Quotas, now: float) -> None:
        self.quotas = quotas
        self.limit = quotas.rate
        self.rate = max(float(quotas.rate), RATE_MIN)
        self.credit = 0
        """Tokens granted and not used; below zero what sections took beyond them."""
        self.exempt = 0
        self.refused = 0
        """Operations of either kind since the last call."""
        self.ceiling = -1.0
        self.waiting: deque[tuple[int, Decided]] = deque()
        self.waiting_since = 0.0
        self.asked = 0
        self.asked_at = self.measured_at = now
        self.demand = 0.0
        """Operations per second, smoothed."""
        self.empty_until = now
        self.free_at = now
        self.booked_until = now

    def measure(self, now: float) -> None:
        elapsed = now - self.measured_at
        if elapsed >= PAUSE_S:
            self.demand += (self.asked / elapsed - self.demand) * min(elapsed / AHEAD_S, 1.0)
            self.asked = 0
            self.measured_at = now

    @property
    def ahead(self) -> int:
        return int(min(self.demand, self.rate) * AHEAD_S)

    def deny(self, operations: int, now: float) -> Denied:
        self.refused += operations
        booked = max(self.booked_until, self.free_at, now)
        self.booked_until = min(booked + operations / self.rate, max(self.free_at, now) + BOOKED_S_MAX)
        return Denied(RATE, self.limit, booked - now)

    def serve(self, now: float) -> None:
        """Decide whoever waits: as far as credit goes."""
        waiting, self.waiting = self.waiting, deque()
        for operations, decided in waiting:
            if self.credit > 0:
                self.credit -= operations
                decided(None)
            else:
                decided(self.deny(operations, now))


class Credits:
    """``estimate`` gives the tokens that a tenant's bucket may hold, for one that Redis does not know;
    ``learned(tenant, quotas, tokens)`` takes what Redis says; ``wake`` is called when :meth:`rows` should be."""

    def __init__(
        self,
        clock: Callable[[], float],
        estimate: Callable[[int, Quotas], float],
        learned: Callable[[int, Quotas, float], None],
        wake: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._estimate = estimate
        self._learned = learned
        self._wake = wake
        self._accounts: dict[int, _Account] = {}
        self._urgent: dict[int, None] = {}
        """Tenants with somebody waiting, with little credit left, or overdrawn: the other routers must know soon."""

    # Asking.

    def _account(self, tenant: int, quotas: Quotas, now: float) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = _Account(quotas, now)
            self._wake()
        elif account.quotas is not quotas:
            account.quotas, account.limit, account.rate = quotas, quotas.rate, max(float(quotas.rate), RATE_MIN)
            account.empty_until = now
        return account

    def ask(self, tenant: int, quotas: Quotas, operations: int) -> Verdict | Later:
        """When it is said later, :meth:`wait` has to follow."""
        now = self._clock()
        account = self._account(tenant, quotas, now)
        account.asked += operations
        account.asked_at = now
        if account.credit > 0 and not account.waiting:
            account.credit -= operations
            if account.credit < 0 or (2 * account.credit <= account.ahead and now >= account.empty_until):
                self._hurry(tenant)
            return None
        if now < account.empty_until or len(account.waiting) >= WAITING_MAX:
            return account.deny(operations, now)
        return LATER

    def wait(self, tenant: int, operations: int, decided: Decided) -> None:
        """``decided`` is told when an answer has come."""
        account = self._accounts[tenant]
        if not account.waiting:
            account.waiting_since = account.asked_at
        account.waiting.append((operations, decided))
        self._hurry(tenant)

    def charge(self, tenant: int, quotas: Quotas, operations: int) -> None:
        self._account(tenant, quotas, self._clock()).exempt += operations

    def credit(self, tenant: int) -> int:
        account = self._accounts.get(tenant)
        return account.credit if account is not None else 0

    def _hurry(self, tenant: int) -> None:
        self._urgent[tenant] = None
        self._wake()

    # Calls.

    @property
    def idle(self) -> bool:
        """Whether no tenant has anything to ask or tell, now or soon."""
        return not self._accounts

    def waiting_since(self, rows: list[Row], now: float) -> float:
        """Since when the longest waiting of them waits."""
        accounts = [self._accounts[row.tenant] for row in rows]
        return min((account.waiting_since for account in accounts if account.waiting), default=now)

    def rows(self, everything: bool) -> list[Row]:
        """What to ask Redis now: of those in a hurry, or of all that have something to ask or tell. What stands in a
        row counts as told."""
        now = self._clock()
        if everything:
            self._forget(now)
        wanted = list(self._accounts) if everything else list(self._urgent)
        found: list[Row] = []
        self._urgent.clear()
        for tenant in wanted:
            row = self._row(tenant, self._accounts[tenant], now)
            if row is not None:
                found.append(row)
        return found

    def _row(self, tenant: int, account: _Account, now: float) -> Row | None:
        account.measure(now)
        unused = now - account.asked_at >= IDLE_S
        want = sum(operations for operations, _ in account.waiting)
        if now >= account.empty_until and not unused:
            want = max(want + account.ahead - max(account.credit, 0), 0)
        spent = -account.credit if account.credit < 0 or unused else 0
        if not (want or spent or account.exempt or account.refused or account.ceiling >= 0):
            return None
        quotas = account.quotas
        start = self._estimate(tenant, quotas)
        row = Row(
            tenant, account.rate, max(quotas.burst, 1), start, account.ceiling, spent, account.exempt, account.refused,
            want,
        )  # fmt: skip
        account.credit += spent
        account.exempt = account.refused = 0
        account.ceiling = -1.0
        return row

    def answered(self, rows: list[Row], answers: list[Granted]) -> None:
        now = self._clock()
        for row, granted in zip(rows, answers, strict=True):
            account = self._accounts[row.tenant]
            account.credit += granted.tokens
            account.free_at = now + max(1.0 - granted.left, 0.0) / account.rate
            account.booked_until = now + granted.booked_s
            if granted.tokens < row.want:
                account.empty_until = min(max(account.free_at, now + PAUSE_S), now + PAUSE_S_MAX)
            self._learned(row.tenant, account.quotas, granted.left)
            account.serve(now)
            if account.credit < 0:
                self._hurry(row.tenant)

    # Without Redis.

    def close(self) -> list[tuple[int, Quotas, int, Decided]]:
        """Forget everything. Whoever waits is given back: (tenant, quotas, operations, decided), as they came."""
        waiting = [
            (tenant, account.quotas, operations, decided)
            for tenant, account in self._accounts.items()
            for operations, decided in account.waiting
        ]
        self._accounts.clear()
        self._urgent.clear()
        return waiting

    def reopen(self, ceilings: list[tuple[int, Quotas, float]]) -> None:
        """Redis is back. What its buckets gathered meanwhile was used: none holds more than its ceiling."""
        now = self._clock()
        for tenant, quotas, tokens in ceilings:
            self._account(tenant, quotas, now).ceiling = max(tokens, 0.0)

    def _forget(self, now: float) -> None:
        """Those who have nothing to ask or tell: a new account would be the same."""
        for tenant, account in list(self._accounts.items()):
            told = not (account.credit or account.exempt or account.refused or account.waiting or account.ceiling >= 0)
            if told and now - account.asked_at >= 2 * IDLE_S and now >= account.booked_until:
                del self._accounts[tenant]
