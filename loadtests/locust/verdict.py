"""What the figures of a run say, in numbers and in words."""

from __future__ import annotations

from collections import defaultdict
from math import ceil
from typing import Final

import msgspec

from .figures import Figures
from .plans import RAMP_S
from .processor import OTHERS
from .timeline import Cell, Row, together
from .vocabulary import Outcome

SETTLE_S: Final = RAMP_S
"""After the number of users was changed, before what happens is counted to the new number."""
GENERATOR: Final = ("locust", "clients")
"""How the processes that make the load are called."""
WORN_OUT: Final = 0.9
"""Of a core: beyond it a process that makes load, and has one thread, may be what is slow."""
FULL: Final = 0.85
"""Of a machine: beyond it everything on it waits for its turn."""


class Bounds(msgspec.Struct, frozen=True):
    """What still is good."""

    p99_ms: float = 250.0
    refused: float = 0.01
    """Share of what was asked."""


class Step(msgspec.Struct, frozen=True):
    """The time between two changes of the number of users, its beginning left out."""

    users: int
    seconds: int
    done_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    refused_429: float
    """Share of what was asked."""
    refused_503: float
    failed: int
    cores: dict[str, float]
    """By process."""

    @property
    def generator_cores(self) -> float:
        """Of the busiest process that makes load."""
        return max((used for name, used in self.cores.items() if name.startswith(GENERATOR)), default=0.0)


class Breaking(msgspec.Struct, frozen=True):
    """``held``: the last step before, counted from 1; 0 when already the first broke."""

    held: int
    why: str


def steps_of(figures: Figures) -> list[Step]:
    """One for each change of the number of users that lasted long enough to be counted."""
    found = []
    ends = [*(turn.at_s for turn in figures.turns[1:]), figures.ended_s]
    for turn, end in zip(figures.turns, ends, strict=True):
        if seconds := _whole(turn.at_s + SETTLE_S, end, figures.period_s):
            found.append(_step(figures, turn.users, seconds))
    return found


def _whole(since_s: float, until_s: float, period_s: int) -> range:
    """The seconds of the periods that lie between these times."""
    return range(ceil(since_s / period_s) * period_s, int(until_s // period_s) * period_s)


def _step(figures: Figures, users: int, seconds: range) -> Step:
    cell = together(row for row in figures.rows if row.judged and row.second in seconds)
    used = defaultdict[str, list[float]](list)
    for each in figures.used:
        if seconds.start <= each.at_s <= seconds.stop:
            used[each.process].append(each.cores)
    asked = cell.asked or 1
    return Step(
        users,
        len(seconds),
        round(cell.done / len(seconds), 1),
        cell.quantile_ms(0.5),
        cell.quantile_ms(0.99),
        round(cell.of(Outcome.TOO_MUCH) / asked, 4),
        round(cell.of(Outcome.NOT_NOW) / asked, 4),
        cell.of(Outcome.FAILED),
        {name: round(sum(values) / len(values), 2) for name, values in used.items()},
    )


def excess(step: Step, bounds: Bounds) -> str:
    """How it exceeds them, in words; empty when it does not."""
    refused = step.refused_429 + step.refused_503
    if step.p99_ms is None:
        return "nothing was done"
    if step.p99_ms > bounds.p99_ms:
        return f"p99 was {step.p99_ms:.0f} ms, above {bounds.p99_ms:g} ms"
    return f"{refused:.1%} were refused, above {bounds.refused:.1%}" if refused > bounds.refused else ""


def breaking_point(steps: list[Step], bounds: Bounds) -> Breaking | None:
    """The first of two steps in a row beyond the bounds, or the last step alone: one step may be bad luck."""
    excesses = [excess(step, bounds) for step in steps]
    for number, why in enumerate(excesses):
        if why and all(excesses[number : number + 2]):
            return Breaking(number, why)
    return None


def breaking_words(steps: list[Step], bounds: Bounds, cores: int) -> str:
    """``cores``: of the machine, when the service and the load share it, else 0."""
    broke = breaking_point(steps, bounds)
    if not steps:
        return "No step lasted long enough to say anything: take more seconds."
    most = max(steps, key=lambda step: step.done_per_s)
    summit = f"The most was {most.done_per_s:,.0f} operations/s, with {most.users} users."
    if broke is None:
        last = f"It did not break: {_holds(steps[-1])} in the last step, of {steps[-1].users} users."
        return f"{last} {summit}{_doubts(most, cores)}"
    bad = steps[broke.held]
    held = "No step held"
    if broke.held:
        last_good = steps[broke.held - 1]
        held = f"Step {broke.held} held ({last_good.users} users, {_holds(last_good)})"
    return f"{held}; with {bad.users} users {broke.why}. {summit}{_doubts(bad, cores)}"


def _doubts(step: Step, cores: int) -> str:
    """Whether it was the service that could do no more."""
    if step.generator_cores > WORN_OUT:
        return (
            f" A process that makes the load used {step.generator_cores:.0%} of a core by then: the load's own limit"
            " may be what was found. Take more workers, or machines."
        )
    if cores and sum(step.cores.values()) > FULL * cores:
        return f" All {cores} cores were busy by then, {step.cores.get(OTHERS, 0):.2f} of them with what is not ours."
    return ""


def _holds(step: Step) -> str:
    return f"{step.done_per_s:,.0f} operations/s, p99 {step.p99_ms or 0:.0f} ms"


def recovery_words(figures: Figures, bounds: Bounds) -> str:
    """Of a spike: how long after its end all was good again."""
    _, spike, after = figures.turns
    rows = [row for row in figures.rows if row.judged]
    period_s = figures.period_s
    for second in _whole(after.at_s, figures.ended_s, period_s)[::period_s]:
        cell = together(row for row in rows if row.second == second)
        if cell.done and (cell.quantile_ms(0.99) or 0) <= bounds.p99_ms and cell.refused_share <= bounds.refused:
            back_s = second + period_s - after.at_s
            return f"{back_s:.0f} s after the end of the spike of {spike.users} users all was within the bounds again."
    return f"It did not come back within the bounds after the spike of {spike.users} users."


def drift_words(figures: Figures) -> str:
    """Of a soak: its last third beside its first."""
    seconds = _whole(figures.turns[0].at_s + SETTLE_S, figures.ended_s, figures.period_s)
    third = max(len(seconds) // figures.period_s // 3, 1) * figures.period_s
    judged = [row for row in figures.rows if row.judged]
    first, last = (
        together(row for row in judged if row.second in part) for part in (seconds[:third], seconds[-third:])
    )
    return f"The first third made {_made(first, third)}; the last third {_made(last, third)}."


def _made(cell: Cell, seconds: int) -> str:
    return f"{cell.done / seconds:,.0f} operations/s, p99 {cell.quantile_ms(0.99) or 0:.0f} ms"


def verbs_of(rows: list[Row]) -> dict[str, Cell]:
    """All that was counted of each, those that were there to disturb included."""
    by_verb = defaultdict[str, list[Row]](list)
    for row in rows:
        by_verb[row.verb].append(row)
    return {verb: together(found) for verb, found in sorted(by_verb.items())}
