"""``holdfast bench``: figures of the cluster in use."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from holdfast.bench import BenchFailed, Mode, Report, Spec, measure
from holdfast.bench.report import Quantiles
from holdfast.bench.work import Work

from . import credentials
from .exits import Exit, Stop


def bench(
    seconds: Annotated[float, typer.Option(help="How long to measure, after one second of warm-up.")] = 5.0,
    concurrency: Annotated[int, typer.Option(help="Locks being cycled at once.")] = 256,
    mode: Annotated[
        Mode, typer.Option(help="cycle: each takes names of its own. contended: all take the same one.")
    ] = Mode.CYCLE,
    processes: Annotated[int, typer.Option(help="Client processes, with one connection each.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything, for programs.")] = False,
) -> int:
    """Acquire and release locks through the SDK; show cycles per second, latencies, and CPU time per cycle.

    With the operator's key also what the servers did for it: operations an entry of the log, syncs, messages."""
    spec = Spec(mode, seconds, concurrency, processes)
    try:
        spec.validate()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    found = credentials.find()
    try:
        report = measure(found.url, found.api_key, spec, operator_key=found.operator_key)
    except BenchFailed as error:
        raise Stop(Exit.UNAVAILABLE, str(error)) from None
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _print(report)
    return Exit.OK


def _print(report: Report) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    spec, cpu, machine = report.spec, report.cpu_us_per_cycle, report.machine
    table.add_row("load", f"{spec.mode}, {spec.concurrency} at once from {spec.processes} process(es)")
    table.add_row("cycles", f"{report.cycles_per_s:,.0f}/s ({report.cycles:,} in {spec.seconds:g} s)")
    table.add_row("acquire", _ms(report.acquire_ms))
    if report.handoff_ms is not None:
        table.add_row("hand-off", _ms(report.handoff_ms))
    costs = {"client": cpu.client, "router": cpu.router, "nodes": cpu.nodes, "total": cpu.total}
    said = ", ".join(f"{name} {'?' if cost is None else f'{cost:.1f}'}" for name, cost in costs.items())
    table.add_row("CPU µs/cycle", said)
    if report.work is not None:
        table.add_row("servers' work", _work(report.work))
    if report.errors:
        table.add_row("errors", ", ".join(f"{count} {name}" for name, count in sorted(report.errors.items())))
    table.add_row("cluster", f"{report.nodes} nodes, {report.groups} lock groups")
    table.add_row(
        "machine", f"{machine.cores} cores of {machine.processor}, {machine.memory_gib:g} GiB, {machine.system}"
    )
    table.add_row("version", f"commit {report.commit or 'unknown'}, Python {machine.python}")
    Console(highlight=False).print(table)


def _work(work: Work) -> str:
    said = ["?" if work.operations_per_entry is None else f"{work.operations_per_entry:.1f}"]
    said[0] += " operations an entry"
    said.append(f"per cycle {work.syncs:.3f} syncs, {work.messages:.2f} messages")
    if work.calls is not None:
        said.append(f"{work.calls:.2f} reads and writes, {work.written_bytes:,.0f} bytes written")
    return ", ".join(said)


def _ms(found: Quantiles | None) -> str:
    return "none" if found is None else f"p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms, max {found.max:.2f} ms"
