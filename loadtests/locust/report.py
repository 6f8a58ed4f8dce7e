"""Makes the report of a run from its ``figures.json``: ``python -m loadtests.locust.report DIRECTORY``."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from . import plots, verdict
from .figures import Figures
from .timeline import Cell
from .verdict import Bounds, Step
from .vocabulary import Outcome

FIGURES = "figures.json"
CHART = "over-time.svg"


class Report(msgspec.Struct):
    """What ``report.json`` has."""

    verdict: str
    bounds: Bounds
    steps: list[Step]
    failed: int


def make(directory: Path, bounds: Bounds) -> Report:
    """Writes ``report.json``, ``report.md`` and, where there is matplotlib, the chart."""
    figures = msgspec.json.decode((directory / FIGURES).read_bytes(), type=Figures)
    steps = verdict.steps_of(figures)
    failed = sum(row.cell.of(Outcome.FAILED) for row in figures.rows)
    report = Report(_verdict(figures, steps, bounds), bounds, steps, failed)
    (directory / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    try:
        plots.draw(figures, directory / CHART)
        chart = f"![over time]({CHART})"
    except ModuleNotFoundError:
        chart = "No chart: `pip install 'holdfast[load]'` draws it."
    (directory / "report.md").write_text(_text(figures, report, chart))
    return report


def _verdict(figures: Figures, steps: list[Step], bounds: Bounds) -> str:
    if figures.shape == "spike" and len(figures.turns) == 3:
        return verdict.recovery_words(figures, bounds)
    if figures.shape == "steps":
        cores = figures.machine.get("cores") if figures.used else 0
        return verdict.breaking_words(steps, bounds, cores if isinstance(cores, int) else 0)
    return verdict.drift_words(figures)


def _text(figures: Figures, report: Report, chart: str) -> str:
    failures = f"**{report.failed} failures**: see locust.html." if report.failed else "No failures."
    machine = ", ".join(f"{name} {value}" for name, value in figures.machine.items())
    steps = "\n".join(_step_line(step) for step in report.steps)
    verbs = "\n".join(_verb_line(verb, cell) for verb, cell in verdict.verbs_of(figures.rows).items())
    return f"""# {figures.scenario} through {figures.through}, {figures.shape or "no shape"}

{report.verdict} {failures}

{chart}

Commit {figures.commit or "unknown"}; {machine or "machine unknown"}.

Times are of what was done, waiting for locks included. The table by users leaves out the second in which they came.

| users | seconds | done/s | p50 ms | p99 ms | refused 429 | 503 | failed | cores by process |
|---:|---:|---:|---:|---:|---:|---:|---:|---|
{steps}

| operation | done | busy | refused 429 | 503 | failed | p50 ms | p99 ms |
|---|---:|---:|---:|---:|---:|---:|---:|
{verbs}
"""


def _step_line(step: Step) -> str:
    cores = ", ".join(f"{name} {used:.2f}" for name, used in sorted(step.cores.items()))
    return (
        f"| {step.users} | {step.seconds} | {step.done_per_s:,.0f} | {_ms(step.p50_ms)} | {_ms(step.p99_ms)} "
        f"| {step.refused_429:.1%} | {step.refused_503:.1%} | {step.failed} | {cores} |"
    )


def _verb_line(verb: str, cell: Cell) -> str:
    counts = " | ".join(f"{cell.of(outcome):,}" for outcome in Outcome)
    return f"| {verb} | {counts} | {_ms(cell.quantile_ms(0.5))} | {_ms(cell.quantile_ms(0.99))} |"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="of the run: where its figures.json is")
    parser.add_argument("--p99-ms", type=float, default=Bounds().p99_ms)
    parser.add_argument("--refused", type=float, default=Bounds().refused, help="share of what is asked")
    options = parser.parse_args()
    print(make(options.directory, Bounds(options.p99_ms, options.refused)).verdict)


if __name__ == "__main__":
    main()
