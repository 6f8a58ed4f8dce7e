"""A tenant's administrators keep neither the operator nor the meta group busy."""

from __future__ import annotations

import pytest

from holdfast.wire.errors import Throttled
from holdfast.wire.tenants import OPERATOR
from holdfast_router.admission import pace
from holdfast_router.admission.pace import BURST_MIN, PART, Pace
from tests.router.admission.clock import Clock
from tests.router.admission.test_bucket import quotas

MANY = 10_000


def passed(one: Pace, tenant: int = 1) -> int:
    """How many requests pass before one is refused."""
    for count in range(MANY):
        try:
            one.check(tenant)
        except Throttled:
            return count
    return MANY


@pytest.mark.parametrize("rate", [1, 100, 2_000, 100_000])
def test_a_tenants_administrators_have_a_part_of_its_rate_and_a_little_in_any_case(rate: int) -> None:
    clock = Clock()
    one = Pace(lambda tenant: quotas(rate, 2 * rate), clock)
    assert passed(one) == max(2 * rate / PART, BURST_MIN)
    assert passed(one, 2) > 0, "another tenant's is its own"
    clock.now += 10.0
    assert passed(one) == pytest.approx(min(max(10 * rate / PART, 10), max(2 * rate / PART, BURST_MIN)), abs=1)


def test_the_operator_is_never_refused() -> None:
    assert passed(Pace(lambda tenant: quotas(0, 0), Clock()), OPERATOR) == MANY


def test_whoever_comes_back_when_told_is_heard() -> None:
    clock = Clock()
    one = Pace(lambda tenant: quotas(100, 100), clock)
    passed(one)
    with pytest.raises(Throttled) as caught:
        one.check(1)
    assert caught.value.quota == "administration"
    clock.now += caught.value.retry_after_ms / 1000
    one.check(1)


def test_of_tenants_that_rest_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "BUCKETS_KEPT", 3)
    clock = Clock()
    one = Pace(lambda tenant: quotas(100, 100), clock)
    for tenant in range(1, 100):
        one.check(tenant)
        clock.now += 1.0
    assert len(one._buckets) <= 3
