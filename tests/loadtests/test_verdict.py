"""What is called the breaking point, and how it is said."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loadtests.locust import report, verdict
from loadtests.locust.figures import Figures, Used
from loadtests.locust.plans import Turn
from loadtests.locust.timeline import Row, Timeline
from loadtests.locust.verdict import Bounds, Breaking, Step
from loadtests.locust.vocabulary import Outcome

BOUNDS = Bounds(p99_ms=100.0, refused=0.01)
MOST_20 = "The most was 400 operations/s, with 20 users."


def step(users: int, p99_ms: float | None = 10.0, refused: float = 0.0, cores: dict[str, float] | None = None) -> Step:
    return Step(users, 5, users * 20.0, 5.0, p99_ms, refused, 0.0, 0, cores or {})


def test_a_load_that_stays_within_the_bounds_does_not_break() -> None:
    steps = [step(10), step(20, 100.0, 0.01)]
    assert verdict.breaking_point(steps, BOUNDS) is None
    words = verdict.breaking_words(steps, BOUNDS, 2)
    assert words == f"It did not break: 400 operations/s, p99 100 ms in the last step, of 20 users. {MOST_20}"


def test_it_breaks_after_the_last_step_that_held() -> None:
    steps = [step(10), step(20), step(30, 150.0), step(40, 900.0)]
    assert verdict.breaking_point(steps, BOUNDS) == Breaking(2, "p99 was 150 ms, above 100 ms")
    words = verdict.breaking_words(steps, BOUNDS, 2)
    held = "Step 2 held (20 users, 400 operations/s, p99 10 ms); with 30 users p99 was 150 ms, above 100 ms."
    assert words == f"{held} The most was 800 operations/s, with 40 users."


def test_refusals_break_it_too() -> None:
    broke = verdict.breaking_point([step(10), step(20, refused=0.05)], BOUNDS)
    assert broke == Breaking(1, "5.0% were refused, above 1.0%")


def test_one_bad_step_between_good_ones_is_bad_luck() -> None:
    assert verdict.breaking_point([step(10), step(20, 500.0), step(30), step(40)], BOUNDS) is None


def test_the_first_step_may_break_and_nothing_done_is_broken() -> None:
    steps = [step(10, None), step(20, None)]
    assert verdict.breaking_point(steps, BOUNDS) == Breaking(0, "nothing was done")
    assert verdict.breaking_words(steps, BOUNDS, 0) == f"No step held; with 10 users nothing was done. {MOST_20}"


@pytest.mark.parametrize(
    ("cores", "doubt"),
    [
        ({"locust 1": 0.97, "router": 0.3}, "97% of a core by then: the load's own limit"),
        ({"clients 2": 0.95}, "the load's own limit"),
        ({"locust 1": 0.4, "router": 0.6, "others": 0.95}, "All 2 cores were busy by then, 0.95 of them"),
    ],
)
def test_it_is_said_when_it_may_not_be_the_service_that_broke(cores: dict[str, float], doubt: str) -> None:
    assert doubt in verdict.breaking_words([step(10), step(20, 500.0, cores=cores)], BOUNDS, 2)


def test_no_step_that_lasted_says_nothing() -> None:
    assert "lasted long enough" in verdict.breaking_words([], BOUNDS, 2)


def run_of(shape: str, *turns: tuple[int, float]) -> Figures:
    """Ten seconds for each turn, of so many users and with so long a time for every operation."""
    timeline, made, used = Timeline(), [], []
    for number, (users, took_ms) in enumerate(turns):
        made.append(Turn(1000.0 + 10 * number, users))
        for second in range(1000 + 10 * number, 1010 + 10 * number):
            used.append(Used(second + 0.5, "router", users / 100))
            for _ in range(users):
                timeline.note(second, "acquire", True, Outcome.DONE, took_ms)
            timeline.note(second, "acquire", True, Outcome.TOO_MUCH, 1.0)
            timeline.note(second, "flood acquire", False, Outcome.TOO_MUCH, 1.0)
    ended_s = 1000.0 + 10 * len(turns)
    return Figures("hot", "sdk", shape, timeline.rows(), made, made, ended_s, 1, used, {"cores": 2}, "abc")


def test_steps_are_counted_without_their_beginnings_and_without_who_disturbs() -> None:
    first, second = verdict.steps_of(run_of("steps", (10, 5.0), (30, 50.0)))
    assert (first.users, first.seconds, first.done_per_s, first.refused_429) == (10, 9, 10.0, round(1 / 11, 4))
    assert (second.users, second.done_per_s, second.cores) == (30, 30.0, {"router": 0.3})
    assert second.p99_ms == pytest.approx(50.0, rel=0.03)


def test_a_spike_says_how_long_it_was_felt() -> None:
    figures = run_of("spike", (1, 5.0), (30, 500.0), (3, 5.0))
    assert verdict.recovery_words(figures, Bounds(100.0, 0.5)).startswith("1 s after the end of the spike of 30 users")
    assert verdict.recovery_words(figures, Bounds(1.0, 0.5)).startswith("It did not come back")


def test_a_soak_is_compared_with_itself() -> None:
    words = verdict.drift_words(run_of("soak", (10, 5.0), (10, 5.0), (10, 50.0)))
    assert words == "The first third made 10 operations/s, p99 5 ms; the last third 10 operations/s, p99 51 ms."


def test_the_report_has_the_verdict_the_steps_and_the_operations(tmp_path: Path) -> None:
    figures = run_of("steps", (10, 5.0), (30, 50.0))
    (tmp_path / report.FIGURES).write_bytes(msgspec.json.encode(figures))
    made = report.make(tmp_path, Bounds(100.0, 0.2))
    assert made.failed == 0
    text = (tmp_path / "report.md").read_text()
    assert made.verdict in text
    assert "| 30 | 9 | 30 |" in text
    assert "| flood acquire | 0 | 0 | 20 | 0 | 0 |" in text
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=report.Report) == made


def test_the_chart_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="in the extra load, for charts alone")
    figures = run_of("steps", (10, 5.0), (30, 50.0))
    (tmp_path / report.FIGURES).write_bytes(msgspec.json.encode(figures))
    report.make(tmp_path, BOUNDS)
    assert "<svg" in (tmp_path / report.CHART).read_text()


def test_longer_periods_give_the_same_figures() -> None:
    figures = run_of("soak", (10, 5.0), (10, 5.0), (10, 50.0))
    timeline = Timeline(5)
    timeline.add(Row(row.second // 5 * 5, row.verb, row.judged, row.cell) for row in figures.rows)
    figures.rows, figures.period_s = timeline.rows(), 5
    assert [(step.seconds, step.done_per_s) for step in verdict.steps_of(figures)] == [(5, 10.0)] * 3
    words = verdict.drift_words(figures)
    assert words == "The first third made 10 operations/s, p99 5 ms; the last third 10 operations/s, p99 51 ms."
