"""Counting by second, and adding up what several processes counted."""

from __future__ import annotations

import random

import msgspec
import pytest

from loadtests.locust.timeline import GROWTH, Cell, Row, Timeline, period_of, together
from loadtests.locust.vocabulary import Outcome


def test_quantiles_are_right_within_a_bucket() -> None:
    rng = random.Random(3)
    times = sorted(rng.lognormvariate(2, 1) for _ in range(999))
    cell = Cell()
    for took_ms in times:
        cell.note(Outcome.DONE, took_ms)
    for part in (0.5, 0.99):
        assert cell.quantile_ms(part) == pytest.approx(times[int(part * 999)], rel=GROWTH - 1 + 0.001)


def test_nothing_done_has_no_quantile_and_no_share() -> None:
    assert Cell().quantile_ms(0.5) is None
    assert Cell().refused_share == 0.0


def test_what_was_not_done_is_counted_and_not_timed() -> None:
    cell = Cell()
    cell.note(Outcome.DONE, 5.0)
    for outcome in (Outcome.BUSY, Outcome.TOO_MUCH, Outcome.NOT_NOW, Outcome.FAILED):
        cell.note(outcome, 5000.0)
    assert (cell.asked, cell.done, cell.refused, cell.refused_share) == (5, 1, 2, 0.4)
    assert cell.quantile_ms(0.99) == pytest.approx(5.0, rel=0.03)


def test_two_processes_together_are_one() -> None:
    one, two, both = Timeline(), Timeline(), Timeline()
    for number in range(200):
        second, took_ms = 1000 + number % 3, 1.0 + number
        for timeline in (both, one if number % 2 else two):
            timeline.note(second, "acquire", True, Outcome.DONE, took_ms)
    sent = msgspec.msgpack.encode(one.taken())
    assert not one.rows()
    two.add(msgspec.msgpack.decode(sent, type=list[Row]))
    assert two.rows() == both.rows()
    assert together(two.rows()).quantile_ms(0.5) == together(both.rows()).quantile_ms(0.5)


def test_who_is_there_to_disturb_is_kept_apart() -> None:
    timeline = Timeline()
    timeline.note(1, "acquire", True, Outcome.DONE, 1.0)
    timeline.note(1, "acquire", False, Outcome.TOO_MUCH, 1.0)
    assert [(row.judged, row.cell.refused) for row in timeline.rows()] == [(False, 1), (True, 0)]


def test_long_runs_are_counted_in_longer_periods() -> None:
    assert [period_of(seconds) for seconds in (0, 60, 899, 900, 3600, 86_400)] == [1, 1, 1, 2, 5, 97]
    timeline = Timeline(5)
    for second in range(1000, 1012):
        timeline.note(second + 0.5, "acquire", True, Outcome.DONE, 1.0)
    assert [(row.second, row.cell.done) for row in timeline.rows()] == [(1000, 5), (1005, 5), (1010, 2)]
