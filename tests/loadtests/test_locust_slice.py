"""Locust itself, headless, for some seconds against a real cluster; it is in the extra ``dev`` for this."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest

from loadtests.locust import run
from loadtests.locust.figures import Figures
from loadtests.locust.verdict import verbs_of

SECONDS = 2


# Not importorskip: what imports Locust has its sockets and threads replaced.
@pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="Locust is not installed")
def test_two_scenarios_by_two_ways_leave_a_report_without_failures(tmp_path: Path) -> None:
    words = ["--scenario", "hot,sessions", "--through", "sdk,http", "--users", "8", "--seconds", str(SECONDS)]
    made = run.run(run.options_of([*words, "--shape", "soak"]), tmp_path)
    figures = msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=Figures)
    assert made.failed == 0, (tmp_path / "locust.log").read_text()
    assert (figures.scenario, figures.through, figures.shape) == ("hot, sessions", "sdk, http", "soak")
    verbs = verbs_of(figures.rows)
    for verb in ("acquire", "release", "open session", "end session"):
        assert verbs[verb].done, f"nobody did: {verb}"
    seen = {each.process for each in figures.used}
    assert seen == {"router", "node 1", "node 2", "node 3", "locust 1", "clients 1", "others"}
    assert "<html" in (tmp_path / "locust.html").read_text()


def test_the_noisy_scenario_needs_two_tenants(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.options_of(["--scenario", "noisy", "--tenants", "1"])
    assert "needs --tenants 2" in capsys.readouterr().err


def test_a_scenario_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.options_of(["--scenario", "hot,warm"])
    assert "'warm' is none of uncontended, hot" in capsys.readouterr().err
