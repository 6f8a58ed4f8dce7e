"""The limit of what is under way follows how long flights take, with a clock turned by hand."""

from __future__ import annotations

import pytest

from holdfast_router.flight_limit import (
    BASE_WINDOW_S,
    LIMIT_MAX,
    LIMIT_MIN,
    LIMIT_START,
    TARGET_BASES,
    TARGET_S_MIN,
    FlightLimit,
)
from holdfast_router.item import Launch


class Group:
    """A group that takes ``base_s`` for a flight and works off ``rate`` operations a second, one after the other."""

    def __init__(self, rate: float, base_s: float = 0.001) -> None:
        self.rate = rate
        self.base_s = base_s
        self.limit = FlightLimit()
        self.now = 0.0
        self.done = 0
        self._free_at = 0.0
        self._flights: list[tuple[float, Launch]] = []

    def run(self, seconds: float) -> float:
        """Always more waiting than may leave. Returns operations done a second."""
        flights = self._flights
        ends, done = self.now + seconds, self.done
        while self.now < ends:
            while len(flights) < 4 and (room := self.limit.room(1_000_000)):
                self._free_at = max(self._free_at, self.now) + room / self.rate
                flights.append((self._free_at + self.base_s, self.limit.left(room, self.now)))
            self.now, launch = flights.pop(0)
            self.limit.answered(launch, self.now, backlog=True)
            self.done += launch.operations
        return (self.done - done) / seconds


@pytest.mark.parametrize("rate", [50_000, 500_000])
def test_a_busy_group_is_kept_busy_and_its_flights_near_the_target(rate: int) -> None:
    group = Group(rate)
    group.run(10)
    assert group.run(10) > 0.95 * rate
    assert 0.5 * TARGET_S_MIN < group.limit.flight_s < 1.5 * TARGET_S_MIN
    assert group.limit.rate == pytest.approx(rate, rel=0.2)


def test_a_group_that_becomes_slower_gets_less_at_once_and_more_when_it_recovers() -> None:
    group = Group(200_000)
    group.run(10)
    fast = group.limit.limit
    group.rate = 50_000
    group.run(1)
    assert group.limit.limit < fast / 2
    group.rate = 200_000
    group.run(10)
    assert group.limit.limit > 0.8 * fast


def test_the_limit_stays_within_its_bounds() -> None:
    group = Group(1_000)
    group.run(60)
    assert group.limit.limit == LIMIT_MIN
    group = Group(1e9)
    group.run(60)
    assert group.limit.limit == LIMIT_MAX


def test_a_far_group_is_given_the_time_that_its_way_takes() -> None:
    group = Group(100_000, base_s=0.08)
    group.run(30)
    assert group.run(10) > 0.9 * group.rate
    assert group.limit.target_s == pytest.approx(TARGET_BASES * group.base_s, rel=0.3)


def test_flights_do_not_grow_with_the_load_that_they_measure() -> None:
    """Saturated for minutes: what a flight takes under load is never taken for what it takes without."""
    group = Group(50_000)
    for _ in range(30):
        group.run(BASE_WINDOW_S)
        assert group.limit.flight_s < 2 * TARGET_S_MIN


def test_a_stall_lowers_the_limit_once_for_all_flights_that_met_it() -> None:
    limit = FlightLimit()
    launches = [limit.left(500, 0.0) for _ in range(4)]
    for launch in launches:
        limit.answered(launch, 1.0, backlog=True)
    assert limit.limit >= LIMIT_START / 2


def test_what_is_asked_for_is_not_what_is_possible() -> None:
    """Few operations at a time say nothing about how many a busy group could bear."""
    limit = FlightLimit()
    for at in range(1000):
        limit.answered(limit.left(1, at), at + 0.001, backlog=False)
    assert limit.limit == LIMIT_START
    assert limit.rate == float("inf")


def test_no_silly_frames() -> None:
    limit = FlightLimit()
    launch = limit.left(LIMIT_START - 10, 0.0)
    assert limit.room(1000) == 0
    assert limit.room(10) == 10
    limit.back(launch)
    assert limit.room(LIMIT_START) == LIMIT_START // 2


def test_a_section_larger_than_the_limit_leaves_when_nothing_else_is_under_way() -> None:
    limit = FlightLimit()
    limit.limit = LIMIT_MIN
    assert limit.room(2048) > 0
    limit.left(2048, 0.0)
    assert limit.room(2048) == 0


def test_a_group_that_says_it_has_too_much_gets_half() -> None:
    limit = FlightLimit()
    limit.overloaded(0.0)
    assert limit.limit == LIMIT_START / 2
