"""Shapes of load: how many users when."""

from __future__ import annotations

from loadtests.locust.plans import Stage, soak, spike, stage_at, steps


def test_steps_go_up_evenly_and_end_with_all_users_at_the_end() -> None:
    stages = steps(200, 60)
    assert [stage.users for stage in stages] == [20, 40, 60, 80, 100, 120, 140, 160, 180, 200]
    assert [stage.until_s for stage in stages] == [6, 12, 18, 24, 30, 36, 42, 48, 54, 60]


def test_there_are_no_more_steps_than_users_or_time_for_them() -> None:
    assert [stage.users for stage in steps(3, 600)] == [1, 2, 3]
    assert steps(100, 9) == (Stage(4.5, 50), Stage(9, 100))
    assert steps(100, 1) == (Stage(1, 100),)


def test_a_spike_is_between_two_times_with_a_tenth_of_its_users() -> None:
    assert spike(200, 50) == (Stage(20, 20), Stage(30, 200), Stage(50, 20))
    assert spike(1, 50)[0].users == 1


def test_a_soak_is_always_the_same() -> None:
    assert soak(50, 3600) == (Stage(3600, 50),)


def test_a_stage_ends_where_the_next_begins_and_the_last_ends_it_all() -> None:
    stages = spike(10, 10)
    assert stage_at(stages, 0) == stages[0]
    assert stage_at(stages, 4) == stages[1]
    assert stage_at(stages, 9.99) == stages[2]
    assert stage_at(stages, 10) is None
