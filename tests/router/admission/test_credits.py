"""Credit of many routers against one bucket that behaves as Redis does: no token is used twice, nobody is forgotten."""

from __future__ import annotations

from random import Random

import pytest

from holdfast.wire.tenants import Quotas
from holdfast_router.admission.bucket import TokenBucket
from holdfast_router.admission.credits import AHEAD_S, IDLE_S, WAITING_MAX, Credits, Granted, Row
from holdfast_router.admission.verdict import LATER, Denied
from tests.router.admission.clock import Clock
from tests.router.admission.test_bucket import quotas

LIMIT = quotas(1000, 2000)


class Server:
    """What ``bucket.lua`` does, told again in another way; that it does so is shown with a real Redis."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.buckets: dict[int, TokenBucket] = {}

    def call(self, rows: list[Row]) -> list[Granted]:
        return [self._one(row) for row in rows]

    def _one(self, row: Row) -> Granted:
        now = self.clock.now
        bucket = self.buckets.get(row.tenant)
        if bucket is None:
            bucket = self.buckets[row.tenant] = TokenBucket(row.rate, row.burst, now)
            bucket.set(row.start, now)
        bucket.refill(now)
        if row.ceiling >= 0:
            bucket.set(min(bucket.tokens, row.ceiling), now)
        bucket.charge(row.exempt, now)
        bucket.set(bucket.tokens - row.spent, now)
        granted = max(min(row.want, int(bucket.tokens + 1e-6)), 0)
        bucket.set(bucket.tokens - granted, now)
        booked_s = bucket.book(row.refused, now) + row.refused / row.rate
        return Granted(granted, bucket.tokens, booked_s)


class Router:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.woken = 0
        self.learned: list[float] = []
        self.credits = Credits(server.clock, lambda tenant, given: float(given.burst), self._learn, self._wake)
        self.admitted = 0
        self.denied: list[Denied] = []
        self.asked = 0

    def _wake(self) -> None:
        self.woken += 1

    def _learn(self, tenant: int, given: Quotas, tokens: float) -> None:
        self.learned.append(tokens)

    def ask(self, operations: int, tenant: int = 1, given: Quotas = LIMIT) -> None:
        self.asked += 1

        def decided(denied: Denied | None) -> None:
            self.asked -= 1
            if denied is None:
                self.admitted += operations
            else:
                self.denied.append(denied)

        verdict = self.credits.ask(tenant, given, operations)
        if verdict is LATER:
            self.credits.wait(tenant, operations, decided)
        else:
            decided(verdict)

    def call(self, everything: bool = False) -> list[Row]:
        rows = self.credits.rows(everything)
        self.credits.answered(rows, self.server.call(rows))
        return rows


@pytest.fixture
def server() -> Server:
    return Server(Clock())


def test_the_first_section_waits_for_one_answer_and_the_next_find_credit(server: Server) -> None:
    router = Router(server)
    for _ in range(20):
        router.ask(10)
        router.call()
        server.clock.now += 0.02
    before = router.woken
    router.ask(10)
    assert (router.asked, router.admitted) == (0, 210)
    assert router.woken == before


@pytest.mark.parametrize("seed", range(10))
def test_three_routers_admit_their_common_rate_and_no_more(server: Server, seed: int) -> None:
    rng = Random(seed)
    routers = [Router(server) for _ in range(3)]
    began = server.clock.now
    while server.clock.now < began + 30:
        server.clock.now += 0.002
        for router in routers:
            if rng.random() < 0.5:
                router.ask(rng.randint(1, 20))
            if rng.random() < 0.5:
                router.call(everything=rng.random() < 0.1)
    total = sum(router.admitted for router in routers)
    expected = LIMIT.burst + LIMIT.rate * (server.clock.now - began)
    assert 0.98 * expected <= total <= expected + 3 * 20
    for router in routers:
        assert router.admitted > 0.15 * total
        while router.asked:
            server.clock.now += 0.3
            router.call(everything=True)


def test_of_what_is_out_of_reach_of_others_there_is_little_and_it_goes_back(server: Server) -> None:
    greedy, other = Router(server), Router(server)
    for _ in range(50):
        greedy.ask(5)
        greedy.call()
        server.clock.now += 0.01
    assert 0 < greedy.credits.credit(1) <= LIMIT.rate * AHEAD_S
    server.clock.now += IDLE_S
    greedy.call(everything=True)
    assert greedy.credits.credit(1) == 0
    server.clock.now += 10
    other.ask(LIMIT.burst)
    other.call()
    assert other.admitted == LIMIT.burst
    server.clock.now += 2
    greedy.call(everything=True)
    assert greedy.credits.idle


def test_what_is_never_refused_is_told_and_overdraws_by_a_burst_at_most(server: Server) -> None:
    router, other = Router(server), Router(server)
    other.ask(1)
    other.call()
    for _ in range(10):
        router.credits.charge(1, LIMIT, LIMIT.burst)
    router.call(everything=True)
    assert server.buckets[1].tokens == -LIMIT.burst
    other.ask(2)
    other.ask(2)
    other.call()
    assert other.admitted == 1
    assert other.denied[0].retry_after_ms == pytest.approx(1000 * (LIMIT.burst + 1) / LIMIT.rate, abs=2)


def test_those_refused_are_told_later_and_later_and_all_routers_know(server: Server) -> None:
    one, two = Router(server), Router(server)
    one.ask(LIMIT.burst)
    one.call()
    for router in (one, two):
        for _ in range(3):
            router.ask(100)
            router.call(everything=True)
    told = [denied.retry_after_ms for denied in one.denied + two.denied]
    assert told == pytest.approx([1, 101, 201, 301, 401, 501], abs=3)


def test_no_more_than_so_many_wait_and_a_closed_one_gives_them_back_in_order(server: Server) -> None:
    router = Router(server)
    for _ in range(WAITING_MAX + 1):
        router.ask(1)
    assert (router.asked, len(router.denied)) == (WAITING_MAX, 1)
    left = router.credits.close()
    assert [operations for _, _, operations, _ in left] == [1] * WAITING_MAX
    assert router.credits.idle


def test_an_empty_bucket_is_not_asked_for_every_section(server: Server) -> None:
    router = Router(server)
    router.ask(LIMIT.burst + 1000)
    router.call()
    calls = 0
    for _ in range(500):
        router.ask(1)
        if router.asked:
            router.call()
            calls += 1
        server.clock.now += 0.001
    assert calls <= 5


def test_a_bucket_that_gathered_while_nobody_asked_it_is_cut_to_its_ceiling(server: Server) -> None:
    router = Router(server)
    router.ask(LIMIT.burst)
    router.call()
    assert router.credits.close() == []
    server.clock.now += 60
    router.credits.reopen([(1, LIMIT, 30.0)])
    router.ask(1)
    (row,) = router.call()
    assert (row.ceiling, server.buckets[1].tokens) == (30.0, 29.0)
    router.ask(1)
    (row,) = router.call()
    assert row.ceiling < 0


def test_a_changed_quota_counts_from_the_next_call(server: Server) -> None:
    router = Router(server)
    router.ask(LIMIT.burst + 10_000)
    router.call()
    router.ask(1)
    assert router.denied[0].limit == LIMIT.rate
    larger = quotas(1_000_000, 2_000_000)
    router.ask(1, given=larger)
    (row,) = router.call()
    assert (row.rate, row.burst) == (1_000_000, 2_000_000)
