"""The promises of a token bucket and of a router's share, for any sequence of sections and pauses."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX
from holdfast.wire.tenants import PLANS, Quotas
from holdfast_router.admission.bucket import BOOKED_S_MAX, TokenBucket
from holdfast_router.admission.in_flight import InFlight
from holdfast_router.admission.shares import FORGET_EVERY_S, Shares
from holdfast_router.admission.verdict import Denied
from holdfast_router.http.responses import rate_limit
from tests.router.admission.clock import Clock

Step = tuple[float, int, bool]
"""(pause before it, operations, whether it is never refused)."""
steps = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 300), st.booleans()), max_size=60)


def quotas(rate: int, burst: int) -> Quotas:
    free = PLANS["free"].quotas
    return Quotas(rate, burst, *(getattr(free, name) for name in free.__struct_fields__[2:]))


@given(st.integers(1, 500), st.integers(1, 500), steps)
def test_no_more_is_admitted_than_rate_and_burst_and_one_section(rate: int, burst: int, steps: list[Step]) -> None:
    now = 0.0
    bucket = TokenBucket(rate, burst, now)
    admitted: list[tuple[float, int]] = []
    for pause, operations, _ in steps:
        now += pause
        if bucket.take(operations, now):
            admitted.append((now, operations))
    for first, (began, _) in enumerate(admitted):
        total = 0
        for ended, operations in admitted[first:]:
            assert total <= rate * (ended - began) + burst + 1e-3
            total += operations


@given(st.integers(1, 500), st.integers(1, 500), steps)
def test_what_is_never_refused_overdraws_by_one_burst_at_most_and_is_waited_for(
    rate: int, burst: int, steps: list[Step]
) -> None:
    now = 0.0
    bucket = TokenBucket(rate, burst, now)
    for pause, operations, free in steps:
        now += pause
        before = bucket.tokens
        if free:
            bucket.charge(operations, now)
            assert bucket.tokens >= min(before, -burst)
            assert bucket.tokens <= burst
        else:
            admitted = bucket.take(operations, now)
            assert admitted == (bucket.tokens + (operations if admitted else 0) >= 1 - 1e-6)


@given(st.integers(1, 500), st.integers(1, 500), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_whoever_comes_back_when_told_is_admitted(rate: int, burst: int, sections: list[int]) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    assert bucket.take(burst, 0.0)
    told: list[tuple[float, int]] = []
    for operations in sections:
        told.append((bucket.book(operations, 0.0), operations))
    assert [at for at, _ in told] == sorted(at for at, _ in told)
    for at, operations in told:
        if at < BOOKED_S_MAX:
            assert bucket.take(operations, at + 1e-6)


def test_clients_that_never_come_back_make_nobody_wait_for_ever() -> None:
    bucket = TokenBucket(10, 10, 0.0)
    assert bucket.take(10, 0.0)
    for _ in range(1000):
        told = bucket.book(100, 0.0)
    assert told == pytest.approx(0.1 + BOOKED_S_MAX)
    assert bucket.book(1, BOOKED_S_MAX + 1) < BOOKED_S_MAX


def test_the_largest_section_is_admitted_by_the_smallest_bucket_and_paid_for() -> None:
    bucket = TokenBucket(1, 1, 0.0)
    assert bucket.take(OPERATIONS_PER_SECTION_MAX, 0.0)
    assert not bucket.take(1, OPERATIONS_PER_SECTION_MAX - 1.0)
    assert bucket.take(1, float(OPERATIONS_PER_SECTION_MAX))


def test_a_clock_that_stands_still_or_goes_back_fills_nothing() -> None:
    bucket = TokenBucket(100, 10, 50.0)
    assert bucket.take(10, 50.0)
    assert not bucket.take(1, 50.0)
    assert not bucket.take(1, 40.0)
    assert bucket.take(1, 50.01)


def ask(shares: Shares, given: Quotas, operations: int) -> Denied | None:
    return shares.ask(1, given, operations)


@given(st.integers(1, 5), st.integers(1, 1000), st.integers(0, 1000))
def test_the_shares_of_all_routers_are_the_quota(routers: int, rate: int, seed: int) -> None:
    rng = Random(seed)
    clock = Clock()
    given_ = quotas(rate * routers, rate * routers)
    all_shares = [Shares(lambda: routers, clock) for _ in range(routers)]
    total = 0
    began = clock.now
    while clock.now < began + 30:
        clock.now += 0.1 * rng.random()
        for shares in all_shares:
            for _ in range(100):
                if ask(shares, given_, 50) is not None:
                    break
                total += 50
    expected = rate * routers * (1 + clock.now - began)
    assert expected - routers * rate * 0.2 - 50 * routers <= total <= expected + 50 * routers


def test_a_share_shrinks_and_grows_with_the_number_of_routers_and_with_the_quota() -> None:
    clock = Clock()
    routers = 1
    shares = Shares(lambda: routers, clock)
    assert shares.standing(1, quotas(100, 200)).remaining == 200
    routers = 4
    assert shares.standing(1, quotas(100, 200)).remaining == 50
    routers = 1
    assert shares.standing(1, quotas(100, 200)).remaining == 50
    clock.now += 1
    assert shares.standing(1, quotas(50, 200)).remaining == 150
    clock.now += 1
    assert shares.standing(1, quotas(50, 200)).remaining == 200


def test_policy_and_rest_are_both_told_of_the_share() -> None:
    shares = Shares(lambda: 3, Clock())
    told = dict(rate_limit(shares.standing(1, quotas(100, 200))))
    assert told == {b"ratelimit-policy": b'"rate";q=66;w=2', b"ratelimit": b'"rate";r=66;t=0'}
    assert ask(shares, quotas(100, 200), 60) is None
    told = dict(rate_limit(shares.standing(1, quotas(100, 200))))
    assert told == {b"ratelimit-policy": b'"rate";q=66;w=2', b"ratelimit": b'"rate";r=6;t=2'}


def test_a_tenant_that_may_do_nothing_is_told_so_with_a_finite_time() -> None:
    shares = Shares(lambda: 3, Clock())
    assert ask(shares, quotas(0, 1), 1) is None
    denied = ask(shares, quotas(0, 1), 1)
    assert denied is not None
    assert 0 < denied.retry_after_ms < 10_000_000


def test_full_buckets_are_dropped_and_nothing_changes_by_it() -> None:
    clock = Clock()
    shares = Shares(lambda: 1, clock)
    assert ask(shares, quotas(1, 1000), 1000) is None
    for tenant in range(2, 100):
        shares.standing(tenant, quotas(1, 1000))
    assert len(shares.used()) == 99
    clock.now += FORGET_EVERY_S
    assert ask(shares, quotas(1, 1000), 61) is None
    assert len(shares.used()) == 1
    assert ask(shares, quotas(1, 1000), 1) is not None


def test_sections_are_admitted_while_less_than_the_limit_is_under_way() -> None:
    in_flight = InFlight()
    assert not in_flight.full(1, 3)
    in_flight.begin(1, 2)
    assert not in_flight.full(1, 3)
    in_flight.begin(1, 10)
    assert in_flight.full(1, 3)
    assert not in_flight.full(2, 3)
    in_flight.end(1, 10, 0.08)
    in_flight.begin(1, 1)
    assert in_flight.full(1, 3)
    assert in_flight.retry_after_s(1, 3) == pytest.approx(0.01 + 0.07 / 8)
    in_flight.end(1, 2, 0.08)
    in_flight.end(1, 1, 0.08)
    assert in_flight.of(1) == 0
