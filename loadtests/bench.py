"""Figures of a local cluster: three nodes, two groups, one router, the SDK; every commit on disk.

``make bench``; shorter: ``python -m loadtests.bench --concurrency 256 --repetitions 1 --seconds 2``. Prints one table,
medians and spread of the repetitions, and keeps every one as JSON. Repetitions go round the concurrencies, so that a
loud minute of the machine falls on all of them alike.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table

from holdfast.bench import BenchFailed, Mode, Report, Spec, measure
from holdfast.bench.harness import WARM_UP_S
from holdfast.bench.work import Work
from holdfast.cluster import ClusterError, LocalCluster

from .flames import FlameFailed, record, why_no_flames
from .markdown import figure, numbers, span, table_of, whole
from .spread import Spread

CONCURRENCY = (1, 16, 64, 256, 1024)
CONTENDED = (2, 50)
FLAME_CONCURRENCY = 256
SPARE_S = 3.0
"""For the load processes to start, and py-spy."""
WIDE = 240
"""Columns where nobody looks: no line of a table is to be broken in a file."""


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", nargs="*", type=int, default=CONCURRENCY, help="locks cycled at once")
    parser.add_argument("--contended", nargs="*", type=int, default=CONTENDED, help="clients of one lock")
    parser.add_argument("--processes", type=int, default=1, help="of clients; fewer where there are fewer locks")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--flame", type=Path, metavar="DIR", help="draw a flame graph of each server there, as SVG")
    options = parser.parse_args(words)
    if min(options.repetitions, options.processes) < 1:
        parser.error("--repetitions and --processes are 1 or more")
    if options.flame and (missing := why_no_flames()):
        parser.error(f"--flame needs {missing}")
    try:
        for spec in specs(options):
            spec.validate()
    except ValueError as error:
        parser.error(str(error))
    return options


def specs(options: argparse.Namespace) -> list[Spec]:
    """Of one repetition."""

    def of(mode: Mode, concurrency: int) -> Spec:
        return Spec(mode, options.seconds, concurrency, min(options.processes, concurrency) or 1)

    cycles = [of(Mode.CYCLE, concurrency) for concurrency in options.concurrency]
    return cycles + [of(Mode.CONTENDED, concurrency) for concurrency in options.contended]


def one(cluster: LocalCluster, spec: Spec) -> Report:
    return measure(cluster.url, cluster.api_key, spec, operator_key=cluster.operator_key)


def measured(cluster: LocalCluster, options: argparse.Namespace) -> Iterator[Report]:
    every = [spec for _ in range(options.repetitions) for spec in specs(options)]
    for spec in track(every, "measuring", console=Console(stderr=True), transient=True):
        yield one(cluster, spec)


def draw(cluster: LocalCluster, options: argparse.Namespace) -> None:
    """Flame graphs of all servers, from when the load has warmed up to its end."""
    seconds = max(round(options.seconds), 1)
    spec = Spec(Mode.CYCLE, WARM_UP_S + seconds + SPARE_S, FLAME_CONCURRENCY)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(one, cluster, spec)
        time.sleep(2 * WARM_UP_S)  # nobody says from outside when the load has warmed up
        record(cluster.pids, options.flame, seconds)
        load.result()


def by_spec(reports: Sequence[Report], mode: Mode) -> list[list[Report]]:
    found: dict[Spec, list[Report]] = {}
    for report in reports:
        if report.spec.mode == mode:
            found.setdefault(report.spec, []).append(report)
    return list(found.values())


def cycles_table(reports: Sequence[Report]) -> Table:
    table = table_of("Cycles of acquire and release on distinct names", [])
    numbers(table, ("at once", "processes", "cycles/s", "min to max", "acquire p50 ms", "p99 ms"))
    numbers(table, ("CPU µs: client", "router", "nodes", "total", "min to max"))
    numbers(table, ("operations/entry", "syncs", "messages", "reads and writes", "bytes written", "errors"))
    for some in by_spec(reports, Mode.CYCLE):

        def of(value: Callable[[Report], float | None], some: list[Report] = some) -> Spread | None:
            return Spread.of(value(report) for report in some)

        def work(value: Callable[[Work], float | None], some: list[Report] = some) -> Spread | None:
            return Spread.of(value(report.work) if report.work is not None else None for report in some)

        rate, total = of(lambda report: report.cycles_per_s), of(lambda report: report.cpu_us_per_cycle.total)
        table.add_row(
            f"{some[0].spec.concurrency:,}",
            str(some[0].spec.processes),
            whole(rate),
            span(rate),
            figure(of(lambda report: report.acquire_ms.p50 if report.acquire_ms else None), 2),
            figure(of(lambda report: report.acquire_ms.p99 if report.acquire_ms else None), 2),
            figure(of(lambda report: report.cpu_us_per_cycle.client), 1),
            figure(of(lambda report: report.cpu_us_per_cycle.router), 1),
            figure(of(lambda report: report.cpu_us_per_cycle.nodes), 1),
            figure(total, 1),
            span(total, 1),
            figure(work(lambda done: done.operations_per_entry), 1),
            figure(work(lambda done: done.syncs), 3),
            figure(work(lambda done: done.messages), 2),
            figure(work(lambda done: done.calls), 2),
            whole(work(lambda done: done.written_bytes)),
            errors_of(some),
        )
    return table


def hand_off_table(reports: Sequence[Report]) -> Table:
    table = table_of("One name, handed on from the release call to the next grant", [])
    numbers(table, ("clients", "hand-offs/s", "min to max", "hand-off p50 ms", "min to max", "p99 ms", "errors"))
    for some in by_spec(reports, Mode.CONTENDED):
        rate = Spread.of(report.cycles_per_s for report in some)
        p50 = Spread.of(report.handoff_ms.p50 if report.handoff_ms else None for report in some)
        p99 = Spread.of(report.handoff_ms.p99 if report.handoff_ms else None for report in some)
        row = (whole(rate), span(rate), figure(p50, 2), span(p50, 2), figure(p99, 2), errors_of(some))
        table.add_row(f"{some[0].spec.concurrency:,}", *row)
    return table


def errors_of(reports: Sequence[Report]) -> str:
    return str(sum(sum(report.errors.values()) for report in reports))


def main(words: Sequence[str] | None = None) -> None:
    options = options_of(words)
    # So that a run that is told to end stops its servers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    reports: list[Report] = []
    try:
        with LocalCluster() as cluster:
            for report in measured(cluster, options):
                reports.append(report)
                keep(reports, options.json)
            show(reports)
            if options.flame:
                # After the figures, which it would disturb.
                draw(cluster, options)
    except (BenchFailed, ClusterError, FlameFailed) as error:
        sys.exit(str(error))


def keep(reports: Sequence[Report], path: Path | None) -> None:
    """After every one, so that a long run that is cut short is not lost."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=1))


def show(reports: Sequence[Report]) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    for table in (cycles_table(reports), hand_off_table(reports)):
        if table.row_count:
            console.print(table)
    if reports:
        machine = reports[0].machine
        console.print(
            f"{machine.cores} cores of {machine.processor}, {machine.memory_gib:g} GiB, {machine.system}, Python "
            f"{machine.python}; commit {reports[0].commit or 'unknown'}; per cycle but operations/entry.",
            highlight=False,
        )


if __name__ == "__main__":
    main()
