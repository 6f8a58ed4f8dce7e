"""``python -m tests.simulation``: many seeds, one seed again, or a failing one made small."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.plan import Plan, make_plan
from tests.simulation.run import Verdict, run
from tests.simulation.search import SHARE_MIN, Tally, search
from tests.simulation.shrink import shrink

FAILURES = Path("sim-failures")
TRACE_SHOWN = 60

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
out = Console(soft_wrap=True)


@app.command()
def many(
    seeds: int = 1000, first: int = 0, jobs: int = 2, keep: Annotated[int, typer.Option(help="failures to stop at")] = 5
) -> None:
    """Run SEEDS seeds; fail when a promise is broken or a state is reached too seldom."""
    tally = Tally()
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out) as progress:
        bar = progress.add_task("seeds", total=seeds)
        for verdict in search(range(first, first + seeds), jobs):
            tally.add(verdict)
            progress.advance(bar)
            if verdict.violation:
                out.print(f"seed {verdict.seed}: {verdict.violation}", style="red", markup=False)
                if len(tally.failed) >= keep:
                    break
    _summary(tally, (time.monotonic() - began) / 60)
    for verdict in tally.failed[:1]:
        _make_small(make_plan(verdict.seed), verdict)
    raise typer.Exit(bool(tally.failed or tally.missed()))


@app.command()
def replay(what: str) -> None:
    """Run one seed, or the plan in a file, again, with its trace."""
    verdict = run(_plan(what), trace=True)
    sys.stdout.write("\n".join(verdict.trace) + "\n")
    raise typer.Exit(bool(verdict.violation))


@app.command()
def small(what: str) -> None:
    """Make a failing seed or plan small."""
    plan = _plan(what)
    verdict = run(plan)
    if not verdict.violation:
        out.print("every promise was kept")
        raise typer.Exit(0)
    _make_small(plan, verdict)
    raise typer.Exit(1)


def _plan(what: str) -> Plan:
    return make_plan(int(what)) if what.isdecimal() else msgspec.json.decode(Path(what).read_bytes(), type=Plan)


def _make_small(plan: Plan, verdict: Verdict) -> None:
    with out.status(f"shrinking seed {plan.seed}"):
        plan = shrink(plan, verdict.rule)
    FAILURES.mkdir(exist_ok=True)
    path = FAILURES / f"seed-{plan.seed}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    verdict = run(plan, trace=True)
    steps = sum(len(steps) for workers in plan.clients for steps in workers)
    out.print(
        f"\nseed {plan.seed} made small: {steps} steps, {len(plan.faults)} faults; {verdict.violation}", markup=False
    )
    out.print("\n".join(verdict.trace[-TRACE_SHOWN:]), markup=False)
    out.print(f"\nagain: python -m tests.simulation replay {path}   (whole: replay {plan.seed})", markup=False)


def _summary(tally: Tally, minutes: float) -> None:
    hours = tally.seconds / 3600
    rate = hours / max(minutes, 1e-9)
    out.print(f"\n{tally.seeds} seeds, {hours:.1f} simulated hours in {minutes:.1f} minutes ({rate:.2f} per minute)")
    out.print(f"{tally.counts['operations']} operations of clients, {tally.counts['faults']} faults")
    out.print(f"{len(tally.failed)} failed")
    for title, prefix in (("faults", "fault: "), ("states reached", "state: "), ("outcomes", "outcome: ")):
        out.print(f"\n{title:42} {'times':>10} {'% of seeds':>11}")
        for what in sorted(what for what in tally.counts if what.startswith(prefix)):
            share = tally.reached[what] / tally.seeds
            out.print(f"  {what.removeprefix(prefix):40} {tally.counts[what]:10} {100 * share:11.1f}", highlight=False)
    for what in tally.missed():
        out.print(f"reached in less than {SHARE_MIN:.0%} of the seeds: {what}", style="red")


if __name__ == "__main__":
    app()
