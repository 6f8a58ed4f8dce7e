"""How a run went over time: one SVG of four charts.

Drawn by matplotlib, which everybody knows and which will be there in ten years; it is needed for this alone, and is in
the extra ``load``. Small SVG libraries would have to be taught axes in common, logarithms and legends.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from .figures import Figures
from .timeline import Cell, together
from .vocabulary import Outcome

QUANTILES = {0.5: "p50", 0.99: "p99"}


def draw(figures: Figures, path: Path) -> None:
    """Raises ``ModuleNotFoundError`` without matplotlib."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    from matplotlib.ticker import LogLocator  # noqa: PLC0415 - likewise

    began = figures.turns[0].at_s if figures.turns else figures.ended_s
    by_second = _by_second(figures, judged=True)
    at = [second - began for second in by_second]
    figure: Any = Figure(figsize=(10, 11), layout="constrained")
    done, times, refused, used = figure.subplots(4, 1, sharex=True)
    figure.suptitle(f"{figures.scenario} through {figures.through}, {figures.shape}")
    done.plot(at, [cell.done / figures.period_s for cell in by_second.values()], label="operations done per s")
    users = done.twinx()
    users.step(
        [turn.at_s - began for turn in figures.users], [turn.users for turn in figures.users], "--", color="grey"
    )
    users.set_ylabel("users (dashed)")
    for part, name in QUANTILES.items():
        times.plot(at, [cell.quantile_ms(part) for cell in by_second.values()], label=f"{name}, ms")
    times.set_yscale("log")
    times.yaxis.set_major_formatter("{x:g}")
    times.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    times.yaxis.set_minor_formatter("{x:g}")
    for judged, whose in ((True, ""), (False, " of the flood")):
        cells = _by_second(figures, judged=judged)
        for outcome in (Outcome.TOO_MUCH, Outcome.NOT_NOW):
            shares = [100 * cell.of(outcome) / (cell.asked or 1) for cell in cells.values()]
            if cells:
                refused.plot([second - began for second in cells], shares, label=f"{outcome}{whose}, %")
    for name, (when, cores) in _by_process(figures).items():
        used.plot([second - began for second in when], cores, label=f"{name}, cores")
    for axes in (done, times, refused, used):
        if axes.lines:
            axes.legend(loc="upper left", fontsize="small")
        axes.grid(visible=True, alpha=0.3)
    for axes in (done, refused, used):
        axes.set_ylim(bottom=0)
    used.set_xlabel("seconds")
    figure.savefig(path, format="svg")


def _by_second(figures: Figures, *, judged: bool) -> dict[int, Cell]:
    seconds = defaultdict[int, list[Any]](list)
    for row in figures.rows:
        if row.judged is judged:
            seconds[row.second].append(row)
    return {second: together(rows) for second, rows in sorted(seconds.items())}


def _by_process(figures: Figures) -> dict[str, tuple[list[float], list[float]]]:
    found = defaultdict[str, tuple[list[float], list[float]]](lambda: ([], []))
    for each in figures.used:
        when, cores = found[each.process]
        when.append(each.at_s)
        cores.append(each.cores)
    return found
