"""``make bench``, for a moment: a cluster is loaded, every repetition kept, and one table printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast.bench import Mode, Report
from loadtests import bench

CHECKOUT = Path(__file__).parents[2]
OPTIONS = "--concurrency 1 8 --contended 2 --repetitions 2 --seconds 0.3"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.bench", *OPTIONS.split(), *options]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=80, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are measured by what Linux tells of them")
@pytest.mark.timeout(120)
def test_every_repetition_is_kept_and_their_medians_are_shown(tmp_path: Path) -> None:
    kept, flames = tmp_path / "kept" / "bench.json", tmp_path / "flames"
    # Only root may look into processes that are not its own children.
    done = run("--json", str(kept), *(["--flame", str(flames)] if os.geteuid() == 0 else []))
    assert done.returncode == 0, done.stderr
    reports = msgspec.json.decode(kept.read_bytes(), type=list[Report])
    loads = [(report.spec.mode, report.spec.concurrency) for report in reports]
    assert loads == 2 * [(Mode.CYCLE, 1), (Mode.CYCLE, 8), (Mode.CONTENDED, 2)], "round after round"
    assert all(report.cycles and report.errors == {} and report.work is not None for report in reports)
    alone = [report.work for report in reports if report.spec == reports[0].spec]
    assert all(work is not None and 0.7 < (work.operations_per_entry or 0) < 1.3 for work in alone)
    assert done.stdout.count("\n|       8 |") == 1
    assert "hand-off p50" in done.stdout
    if os.geteuid() == 0:
        drawn = sorted(flames.iterdir())
        assert [each.name for each in drawn] == ["node-1.svg", "node-2.svg", "node-3.svg", "router.svg"]
        assert all("<svg" in each.read_text() for each in drawn)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--repetitions", "0"], "--repetitions is 1 or more"),
        (["--concurrency", "0"], "concurrency is 1 to 100000, not 0"),
        (["--seconds", "0"], "seconds is 0.1 to 3600, not 0"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_starts(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench.options_of(words)
    assert said in capsys.readouterr().err


def test_a_flame_graph_needs_py_spy_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PY_SPY", tmp_path / "py-spy")
    with pytest.raises(SystemExit):
        bench.options_of(["--flame", str(tmp_path)])
    assert "pip install py-spy" in capsys.readouterr().err
