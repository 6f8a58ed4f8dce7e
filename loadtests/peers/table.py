"""A comparison as tables, on a terminal and in Markdown alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from loadtests.markdown import figure, numbers, span, table_of, whole
from loadtests.spread import Spread

from .figures import Comparison, Cycles, Ratio, acquire_p50_ms, cpu_us, ratios, throughput
from .measuring import Sample
from .servers import Fault


def show(found: Comparison, titles: Mapping[str, str], console: Console) -> None:
    """``titles``: of peers, by name."""
    tables = [cycles_table(found.cycles, titles), hand_off_table(found, titles)]
    tables += [fail_over_table(found, titles), ratio_table(ratios(found), titles)]
    for table in tables:
        if table.row_count:
            console.print(table)
            console.print()
    for line in found.left_out:
        console.print(f"left out: {line}", highlight=False)


def cycles_table(cells: Sequence[Cycles], titles: Mapping[str, str]) -> Table:
    table = table_of("Cycles of acquire and release on distinct names", ["service", "client"])
    columns = ("at once", "processes", "cycles/s", "min to max", "acquire p50 ms", "p99 ms")
    numbers(table, columns, ("CPU µs: servers", "clients", "total", "other cores busy", "errors"))
    for cycles in cells:
        cell = cycles.cell
        at_once = f"{cell.concurrency:,}" + (", apart" if cell.apart else "")
        table.add_row(
            titles.get(cycles.peer, cycles.peer),
            cycles.kind,
            at_once,
            str(cell.processes),
            whole(cycles.spread(throughput)),
            span(cycles.spread(throughput)),
            figure(cycles.spread(acquire_p50_ms), 2),
            figure(cycles.spread(_acquire_p99_ms), 2),
            figure(cycles.spread(lambda sample: sample.servers_us), 1),
            figure(cycles.spread(lambda sample: sample.clients_us), 1),
            figure(cycles.spread(cpu_us), 1),
            figure(cycles.spread(lambda sample: sample.foreign_cores), 2),
            str(sum(sum(sample.errors.values()) for sample in cycles.samples if sample is not None)),
        )
    return table


def hand_off_table(found: Comparison, titles: Mapping[str, str]) -> Table:
    table = table_of("Hand-off between two, from the release call to the next grant", ["service", "client"])
    numbers(table, ("held ms", "hand-offs", "p50 ms", "p99 ms"))
    for each in found.hand_offs:
        if (figures := each.quantiles()) is not None:
            count = sum(map(len, each.times_s))
            row = (f"{1000 * each.hold_s:g}", f"{count:,}", f"{figures.p50:.2f}", f"{figures.p99:.2f}")
            table.add_row(titles.get(each.peer, each.peer), each.kind, *row)
    return table


def fail_over_table(found: Comparison, titles: Mapping[str, str]) -> Table:
    table = table_of("A leader is hurt under load: the longest time without a grant", ["service", "client", "fault"])
    numbers(table, ("times", "to anybody: median ms", "min to max", "to one client: median ms", "min to max"))
    for each in found.fail_overs:
        nobody = Spread.of(1000 * gap.nobody_s for gap in each.gaps)
        longest = Spread.of(1000 * gap.longest_s for gap in each.gaps)
        figures = [text for spread in (nobody, longest) for text in (whole(spread), span(spread))]
        table.add_row(titles.get(each.peer, each.peer), each.kind, each.fault, str(len(each.gaps)), *figures)
    return table


def ratio_table(found: Sequence[Ratio], titles: Mapping[str, str]) -> Table:
    concurrencies = sorted({concurrency for ratio in found for concurrency in ratio.throughput})
    apart = sorted({concurrency for ratio in found for concurrency in ratio.throughput_apart})
    table = table_of("Holdfast by the peer, median of the repetitions' ratios", ["service", "client"])
    numbers(table, ["throughput: best", "min to max", "by its servers alone"])
    numbers(table, [f"at {each:,}" for each in concurrencies], [f"at {each:,} apart" for each in apart])
    numbers(table, [f"CPU at {each:,}" for each in concurrencies])
    numbers(table, ("acquire p50 at 1", "hand-off p50"), [f"gap after {fault}" for fault in Fault])
    for ratio in found:
        table.add_row(
            titles.get(ratio.peer, ratio.peer),
            ratio.kind,
            figure(ratio.throughput_best, 2),
            span(ratio.throughput_best, 2),
            figure(ratio.throughput_servers, 2),
            *(figure(ratio.throughput.get(each), 2) for each in concurrencies),
            *(figure(ratio.throughput_apart.get(each), 2) for each in apart),
            *(figure(ratio.cpu.get(each), 2) for each in concurrencies),
            figure(ratio.acquire_p50.get(1), 2),
            figure(ratio.hand_off_p50, 2),
            *(f"{ratio.gaps[fault]:.2f}" if fault in ratio.gaps else "" for fault in Fault),
        )
    return table


def _acquire_p99_ms(sample: Sample) -> float | None:
    return sample.acquire_ms.p99 if sample.acquire_ms else None
