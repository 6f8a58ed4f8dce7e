"""What is left of a run: enough to see what was wrong without running it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from . import __main__ as command
from .events import Called, Mode, Op, Outcome, Returned
from .history import History
from .keep import keep
from .nemesis import Nemesis, Span
from .run import Plan, Report
from .sets import Set
from .summary import summary


def _report() -> Report:
    history = History()
    for number in (1, 2):
        history(Called(f"{number}", Op.ACQUIRE, "a<b>", 10.0 * number, Mode.EXCLUSIVE))
        history(Returned(f"{number}", 10.0 * number + 1.0, Outcome.OK, token=number))
    history(Called("3", Op.GET, "other", 15.0))
    spans = [Span("nodes", "kill_node", 12.0, 14.0, "node 2")]
    wrong = ["two holders of 'a<b>': from 20.000000"]
    added, lost = dict.fromkeys(Set, 3), {Set.GUARDED: 0, Set.UNGUARDED: 1}
    return Report(5.0, 30.0, history, spans, wrong, {}, added, lost)


def test_a_summary_counts_operations_faults_gaps_and_losses() -> None:
    lines = summary(_report()).splitlines()
    assert lines[0] == "3 calls, 2 grants in 25 s"
    assert any(line.split() == ["acquire", "2", "0", "0"] for line in lines)
    assert any(line.split() == ["get", "0", "0", "1"] for line in lines)
    assert "1 faults: kill_node 1" in lines
    assert "time without a grant at faults of nodes: median 10.00 s, longest 10.00 s" in lines
    assert "unguarded set: 3 additions acknowledged, 1 lost" in lines
    assert lines[-2:] == ["violations: 1", "  two holders of 'a<b>': from 20.000000"]


def test_the_folder_has_the_history_the_schedule_and_a_timeline(tmp_path: Path) -> None:
    keep(Plan(25.0, "seed", tmp_path), _report())
    calls = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [call["id"] for call in calls] == ["1", "3", "2"]
    schedule = json.loads((tmp_path / "faults.json").read_text())
    assert schedule["seed"] == "seed"
    assert schedule["faults"][0]["chose"] == "node 2"
    page = (tmp_path / "timeline.html").read_text()
    drawings = [ElementTree.fromstring(part) for part in _between(page, "<svg", "</svg>")]
    # Only the name that is wrong is drawn: two holds, two calls and the fault.
    assert len(drawings) == 1
    assert len(drawings[0].findall("rect")) == 5
    assert "a&lt;b&gt;" in page
    assert "http" not in page, "it needs nothing from elsewhere"


def _between(text: str, start: str, end: str) -> list[str]:
    return [start + part.partition(end)[0] + end for part in text.split(start)[1:]]


@pytest.mark.parametrize("wrong", [True, False])
def test_a_broken_promise_ends_the_command_with_1_and_leaves_the_folder(
    wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def make(plan: Plan, progress: Callable[[Nemesis], None]) -> Report:
        assert (plan.seconds, plan.seed, plan.directory) == (30.0, "s", out)
        out.mkdir()
        report = _report()
        if not wrong:
            report.violations.clear()
        return report

    monkeypatch.setattr(command, "make", make)
    monkeypatch.setattr("sys.argv", ["chaos", "--minutes", "0.5", "--seed", "s", "--out", str(out)])
    assert command.main() == int(wrong)
    assert f"violations: {int(wrong)}" in capsys.readouterr().out
    assert (out / "timeline.html").exists() == out.exists() == wrong
