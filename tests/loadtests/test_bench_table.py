"""``make bench``, for a moment: a cluster is loaded, every repetition kept, and one table printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast.bench import Mode, Report
from holdfast.bench.processes import Moved
from holdfast.bench.work import Counts
from holdfast.cluster import ClusterStatus
from holdfast.cluster.status import GroupStatus, NodeStatus, RouterStatus
from loadtests import bench, flames

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
        (["--repetitions", "0"], "--repetitions and --processes are 1 or more"),
        (["--processes", "-1"], "--repetitions and --processes are 1 or more"),
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
    monkeypatch.setattr(flames, "PY_SPY", tmp_path / "py-spy")
    with pytest.raises(SystemExit):
        bench.options_of(["--flame", str(tmp_path)])
    assert "pip install py-spy" in capsys.readouterr().err


def counts(at: float, *, pid: int = 7, up: bool = True, commit: int = 0, messages: int = 0) -> Counts | None:
    groups = [GroupStatus(group, "leader", 1, 1, ready=True, commit=commit) for group in (0, 1)]
    nodes = [
        NodeStatus(number, up, pid=pid + number, received=messages, syncs=commit, groups=groups) for number in (1, 2)
    ]
    counted = Counts.of(ClusterStatus(RouterStatus("", 5, messages), nodes, whole=True), None)
    return None if counted is None else msgspec.structs.replace(counted, at=at, moved=Moved(4 * commit, 100 * commit))


def test_what_was_done_is_divided_by_the_cycles_of_the_time_between() -> None:
    before, after = counts(10.0, commit=50, messages=1000), counts(12.0, commit=150, messages=1300)
    assert before is not None
    assert after is not None
    work = before.until(after, 1000.0)
    # 2,000 cycles, 100 entries of the one group that holds locks, on two nodes.
    assert work is not None
    assert (work.operations_per_entry, work.syncs, work.messages) == (40.0, 0.1, 0.45)
    assert (work.calls, work.written_bytes) == (0.2, 5.0)
    assert before.until(after, 0.0) is None


def test_what_was_not_counted_as_a_whole_is_not_told() -> None:
    before = counts(10.0, commit=50, messages=1000)
    assert before is not None
    assert counts(12.0, up=False) is None, "a node did not answer"
    restarted, reconnected = counts(12.0, pid=8, commit=150, messages=1300), counts(12.0, commit=150, messages=900)
    assert restarted is not None
    assert reconnected is not None
    assert before.until(restarted, 1000.0) is None
    assert before.until(reconnected, 1000.0) is None
