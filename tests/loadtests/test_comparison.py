"""Figures, tables and charts of a comparison, from samples that are made up."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from holdfast.bench.report import Machine, Quantiles
from loadtests.peers.chart import bars, svg
from loadtests.peers.comparing import Options, cells_of
from loadtests.peers.figures import Comparison, FailOvers, HandOffs, ratios
from loadtests.peers.loaders import LoadFailed
from loadtests.peers.measuring import Cell, Gap, Sample, gap_of, shares
from loadtests.peers.parts import Mode, Part
from loadtests.peers.peer import Kind, Shape
from loadtests.peers.servers import Fault
from loadtests.peers.table import show
from loadtests.spread import Spread

TITLES = {"holdfast": "Holdfast", "etcd": "etcd & co"}


def sample(cycles_per_s: float, *, servers_us: float = 100.0, clients_us: float = 50.0, p50: float = 2.0) -> Sample:
    times = Quantiles(p50, 2 * p50, 3 * p50)
    return Sample(cycles_per_s, times, times, servers_us, clients_us, 0.0, 0.0, {})


@pytest.fixture
def found() -> Comparison:
    made = Comparison(Machine("a processor", 2, 8.0, "Linux", "3.11"), "abc", "2026-01-01T00:00:00", 4.0, 3)
    made.cycles_of("holdfast", "SDK", Cell(1)).samples += [sample(400, p50=1.0), sample(500, p50=1.0), None]
    made.cycles_of("holdfast", "SDK", Cell(64)).samples += [sample(9000), sample(12000), sample(30000)]
    made.cycles_of("holdfast", "SDK", Cell(64, 2)).samples += [sample(10000), sample(11000), sample(15000)]
    made.cycles_of("etcd", "lock service", Cell(1)).samples += [sample(100), sample(100), sample(100)]
    made.cycles_of("etcd", "lock service", Cell(64)).samples += [
        sample(1000, servers_us=1000.0),
        None,
        sample(1500, servers_us=500.0, clients_us=100.0),
    ]
    return made


def test_a_ratio_is_taken_within_a_repetition_and_its_median_shown(found: Comparison) -> None:
    (ratio,) = ratios(found)
    # Best of each: 10,000 by 1,000; 12,000 by 100, for its better cell failed; 30,000 by 1,500.
    assert ratio.throughput_best == Spread(20.0, 10.0, 120.0)
    assert ratio.throughput[1] == Spread(4.5, 4.0, 5.0)
    assert ratio.throughput[64] == Spread(15.0, 10.0, 20.0)
    assert ratio.acquire_p50[1] == Spread(0.5, 0.5, 0.5)
    assert ratio.throughput_apart == {}


def test_a_ratio_of_processor_time_compares_the_least_of_each(found: Comparison) -> None:
    (ratio,) = ratios(found)
    assert ratio.cpu[64] == Spread.of([150 / 1050, 150 / 600])


def test_a_peer_is_also_measured_by_what_its_servers_would_do_with_clients_that_cost_nothing(found: Comparison) -> None:
    (ratio,) = ratios(found)
    # Two cores at 100 µs, its cheapest cell, serve 20,000 a second.
    assert ratio.throughput_servers == Spread(0.6, 0.5, 1.5)


def test_a_hand_off_is_compared_at_the_shortest_hold_that_both_have(found: Comparison) -> None:
    found.hand_offs += [
        HandOffs("holdfast", "SDK", 0.02, [[0.001, 0.002, 0.003]]),
        HandOffs("holdfast", "SDK", 0.15, [[0.008]]),
        HandOffs("etcd", "lock service", 0.02, [[0.08]]),
        HandOffs("etcd", "lock service", 0.15, [[0.004]]),
    ]
    (ratio,) = ratios(found)
    assert ratio.hand_off_p50 is not None
    assert ratio.hand_off_p50.median == pytest.approx(0.025)


def test_a_fail_over_is_compared_by_the_longest_that_one_client_waited(found: Comparison) -> None:
    found.fail_overs += [
        FailOvers("holdfast", "SDK", Fault.KILL, [Gap(0.01, 0.2)]),
        FailOvers("holdfast", "SDK", Fault.STOP, [Gap(0.5, 0.9)]),
        FailOvers("etcd", "any", Fault.KILL, [Gap(0.9, 1.0)]),
    ]
    (ratio,) = ratios(found)
    assert ratio.gaps == {Fault.KILL: pytest.approx(0.2)}


def test_without_holdfast_there_are_no_ratios(found: Comparison) -> None:
    found.cycles = [cycles for cycles in found.cycles if cycles.peer != "holdfast"]
    assert ratios(found) == []


def test_a_gap_is_between_grants_and_ends_after_the_kill() -> None:
    # The first worker has its longest before the kill; the second waits over it while the first goes on.
    gap = gap_of([[0.0, 3.0, 3.5, 4.25, 5.0], [2.5, 5.5]], hurt=4.0)
    assert gap == Gap(0.75, 3.0)


def test_no_grant_after_the_kill_is_a_failure_and_no_short_gap() -> None:
    with pytest.raises(LoadFailed):
        gap_of([[0.0, 1.0], [0.5, 1.5]], hurt=2.0)


@pytest.mark.parametrize(
    ("clients_max", "apart", "clients"), [(1, False, [1, 1]), (6, False, [5, 5]), (6, True, [5, 5]), (1, True, [5, 5])]
)
def test_workers_are_spread_over_processes_and_clients(clients_max: int, apart: bool, clients: list[int]) -> None:
    kind = Kind("any", "any", clients_max=clients_max)
    parts = shares(Part(Mode.CYCLE, "any", threads=False, target={}, run="r"), kind, Cell(10, 2, apart))
    assert [(part.first_worker, part.workers) for part in parts] == [(0, 5), (5, 5)]
    assert [part.clients for part in parts] == clients


def test_a_kind_is_loaded_as_far_as_it_bears_and_a_second_process_needs_work() -> None:
    options = Options(concurrency=(1, 64, 256, 1024), processes=(1, 2))
    cells = list(cells_of(Kind("any", "any", workers_max=256), options))
    assert cells == [
        Cell(1),
        Cell(64),
        Cell(64, 1, apart=True),
        Cell(64, 2),
        Cell(64, 2, apart=True),
        Cell(256),
        Cell(256, 2),
    ]
    program = Kind("any", "any", shape=Shape.PROGRAM)
    assert list(cells_of(program, options)) == [Cell(1), Cell(64), Cell(256), Cell(1024)]


def test_tables_name_the_services_and_show_medians(found: Comparison) -> None:
    found.left_out.append("ZooKeeper: servers missing: apt install zookeeper")
    written = io.StringIO()
    show(found, TITLES, Console(file=written, width=240))
    lines = written.getvalue().splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    (row,) = [row for row in rows if row[:4] == ["Holdfast", "SDK", "64", "1"]]
    assert row[4:6] == ["12,000", "9,000 to 30,000"]
    assert any("apt install zookeeper" in line for line in lines)


def test_the_chart_is_well_formed_and_the_longest_bar_is_first(found: Comparison) -> None:
    assert [bar[0] for bar in bars(found, TITLES)] == ["holdfast", "etcd"]
    drawn = ElementTree.fromstring(svg(found, TITLES))
    words = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "etcd & co · lock service" in words
    assert "12,000" in words


def test_what_was_found_can_be_kept_and_shown_again(found: Comparison) -> None:
    again = msgspec.json.decode(msgspec.json.encode(found), type=Comparison)
    assert again == found
