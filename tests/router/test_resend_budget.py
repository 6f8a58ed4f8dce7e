"""What may be sent again is a part of what is sent, and a floor."""

from __future__ import annotations

from holdfast_router.resend_budget import FLOOR, MEMORY_S, RATIO, ResendBudget


def taken(budget: ResendBudget, now: float) -> int:
    count = 0
    while budget.take(now):
        count += 1
    return count


def test_who_sends_little_may_send_a_floor_again() -> None:
    budget = ResendBudget()
    assert taken(budget, 0.0) == FLOOR


def test_who_sends_much_may_send_a_tenth_again() -> None:
    budget = ResendBudget()
    budget.sent(100_000, 0.0)
    assert taken(budget, 0.0) == FLOOR + RATIO * 100_000


def test_it_is_a_rate_and_not_a_store() -> None:
    budget = ResendBudget()
    budget.sent(100_000, 0.0)
    assert taken(budget, 20 * MEMORY_S) == FLOOR
    assert not budget.take(20 * MEMORY_S)
    assert 0.6 * FLOOR < taken(budget, 21 * MEMORY_S) < 0.7 * FLOOR
