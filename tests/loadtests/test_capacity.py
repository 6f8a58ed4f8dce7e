"""The arithmetic of docs/capacity.md, and that the page says what it gives."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast.bench import Mode, Report, Spec
from holdfast.bench.report import CpuPerCycle, Machine
from holdfast.bench.work import Work
from loadtests import capacity
from loadtests.capacity import Cost, Costs, Measured, Plan, Point

COSTS = Costs(Cost(7, 70), Cost(0.6, 140), Cost(6, 750))


def point(at_once: int) -> Point:
    """Of a cycle, which is two operations."""
    together = at_once / 4
    client, router, nodes = (2 * cost.of(together) for cost in (COSTS.client, COSTS.router, COSTS.nodes))
    return Point(at_once, together, client, router, nodes, 1, 500)


MEASURED = Measured("made up", [point(at_once) for at_once in (4, 64, 1024)])


def test_what_an_operation_costs_is_told_from_what_an_entry_costs() -> None:
    found = capacity.costs_of(MEASURED)
    for tier, made in ((found.client, COSTS.client), (found.router, COSTS.router), (found.nodes, COSTS.nodes)):
        assert tier.each == pytest.approx(made.each)
        assert tier.batch == pytest.approx(made.batch)
        assert tier.of(10) == pytest.approx(made.each + made.batch / 10)


def test_a_fleet_has_the_cores_that_its_operations_take() -> None:
    plan = Plan(per_section=10, per_frame=70, per_entry=75, busy=0.5, cores=8, gather_ms=100, bytes_each=100)
    fleet = capacity.fleet(COSTS, plan, 1e6)
    assert fleet.nodes == 32, "16 us each, of cores that are half busy"
    assert fleet.routers == 6, "2.6 us each"
    assert (fleet.groups, fleet.clusters, fleet.machines) == (32, 1, 5)
    assert fleet.client_cores == 14
    assert fleet.entries_per_group_s == round(1e6 / 32 / 75)
    assert fleet.gather_ms == pytest.approx(1e3 * 6 * 32 * 70 / 1e6, abs=0.1)
    assert fleet.disk_mb_per_node_s == pytest.approx(1e6 * 100 * 3 / 32 / 1e6, abs=0.1)


def test_a_cluster_ends_where_frames_would_gather_for_too_long() -> None:
    plan = Plan()
    most = capacity.largest_cluster(COSTS, plan)
    assert capacity.fleet(COSTS, plan, 0.95 * most).clusters == 1
    assert capacity.fleet(COSTS, plan, 10 * most).clusters in (10, 11)
    slower = capacity.largest_cluster(COSTS, msgspec.structs.replace(plan, gather_ms=2 * plan.gather_ms))
    assert slower == pytest.approx(2 * most)


def test_little_still_takes_three_nodes_and_two_routers() -> None:
    fleet = capacity.fleet(COSTS, Plan(), 10.0)
    assert (fleet.nodes, fleet.routers, fleet.machines) == (3, 2, 3)


def report(at_once: int, total_us: float, processes: int = 1) -> Report:
    work = Work(at_once / 4, 0.5, 1.0, 1.0, 500.0)
    cost = CpuPerCycle(10.0, 5.0, total_us, 15 + total_us)
    return Report(
        Spec(Mode.CYCLE, 1.0, at_once, processes), 10, 10.0, None, None, None, cost, work, {}, 3, 2,
        Machine("a processor", 2, 4.0, "Linux", "3.11"), "abc", "today",
    )  # fmt: skip


def test_figures_of_make_bench_flow_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, page, kept = (tmp_path / name for name in ("bench.json", "page.md", "kept.json"))
    reports = [report(4, 100.0), report(4, 300.0), report(4, 110.0), report(64, 50.0), report(64, 1.0, processes=2)]
    bench.write_bytes(msgspec.json.encode(reports))
    page.write_text("before\n<!-- costs -->\nold\n<!-- end -->\nbetween\n<!-- fleet -->\n<!-- end -->\nafter\n")
    monkeypatch.setattr(capacity, "PAGE", page)
    monkeypatch.setattr(capacity, "KEPT", kept)
    capacity.main(["--bench", str(bench), "--keep"])
    measured = capacity.kept()
    assert [point.nodes_us for point in measured.points] == [110.0, 50.0], "medians, of one client process"
    assert "commit abc, 2 cores of a processor" in page.read_text()
    assert "old" not in page.read_text()
    assert page.read_text() == capacity.page_with(page.read_text(), measured)


@pytest.mark.parametrize("words", ["--operations-per-s 0", "--busy 2", "--bench /nowhere"])
def test_what_cannot_be_planned_is_told(words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        capacity.main(words.split())
    assert ended.value.code not in (0, None)


def test_one_load_says_nothing_of_growth(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(msgspec.json.encode([report(4, 100.0)]))
    with pytest.raises(SystemExit, match="what grows shows from two on"):
        capacity.main(["--bench", str(path)])


def test_the_page_has_the_tables_that_follow_from_the_figures_kept() -> None:
    page = capacity.PAGE.read_text()
    assert page == capacity.page_with(page, capacity.kept()), "python -m loadtests.capacity --keep"


def test_the_first_command_of_the_page_runs() -> None:
    line = next(line for line in capacity.PAGE.read_text().splitlines() if line.startswith(".venv/bin/python -m"))
    command = [sys.executable, *shlex.split(line)[1:]]
    done = subprocess.run(
        command, cwd=capacity.PAGE.parents[1], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| 100,000,000 |" in done.stdout
