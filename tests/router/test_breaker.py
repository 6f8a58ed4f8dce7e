"""The breaker of a group, with a clock turned by hand."""

from __future__ import annotations

from holdfast_router.breaker import PROBE_S_MAX, PROBE_S_MIN, SILENT_S, Breaker


def opened() -> Breaker:
    breaker = Breaker()
    breaker.asked(0.0)
    breaker.look(SILENT_S)
    assert breaker.open
    return breaker


def test_it_stays_closed_while_answers_come_however_late() -> None:
    breaker = Breaker()
    breaker.asked(0.0)
    for turn in range(1, 100):
        breaker.look(turn * SILENT_S * 0.9)
        breaker.answered(turn * SILENT_S * 0.9)
    assert breaker.admits_in_s(1000.0) == 0


def test_silence_counts_only_while_something_is_owed() -> None:
    breaker = Breaker()
    for hour in range(100):
        breaker.asked(3600.0 * hour)
        breaker.look(3600.0 * hour + 0.01)
    assert not breaker.open


def test_many_short_silences_without_an_answer_open_it() -> None:
    breaker = Breaker()
    for second in range(4):
        breaker.asked(2.0 * second)
        breaker.look(2.0 * second + SILENT_S / 3)
    assert breaker.open


def test_open_it_lets_one_through_at_a_time_and_less_and_less_often() -> None:
    breaker = opened()
    now = SILENT_S
    assert breaker.admits_in_s(now) == PROBE_S_MIN
    pauses = []
    for _ in range(5):
        now += breaker.admits_in_s(now)
        assert breaker.admits_in_s(now) == 0
        pauses.append(breaker.admits_in_s(now))
    assert pauses == [PROBE_S_MIN, PROBE_S_MIN * 2, PROBE_S_MAX, PROBE_S_MAX, PROBE_S_MAX]


def test_an_answer_closes_it_and_it_starts_anew() -> None:
    breaker = opened()
    breaker.answered(SILENT_S + 1)
    assert breaker.admits_in_s(SILENT_S + 1) == 0
    breaker.look(2 * SILENT_S)
    assert not breaker.open
    breaker.look(2 * SILENT_S + 1)
    assert breaker.open


def test_a_leader_is_probed_at_once() -> None:
    breaker = opened()
    breaker.leader_found()
    assert breaker.admits_in_s(SILENT_S) == 0
    assert breaker.admits_in_s(SILENT_S) > 0
