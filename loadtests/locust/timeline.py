"""What was counted over time, in a form that processes can add to each other's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import msgspec

from .vocabulary import Outcome

GROWTH = 1.02
"""From one bucket of times to the next: what a quantile can be off by."""
LEAST_MS = 0.01
PERIODS_MAX = 900


class Cell(msgspec.Struct):
    """One verb within one second."""

    outcomes: dict[str, int] = {}
    times: dict[int, int] = {}
    """Of what was done: bucket -> how many."""

    def add(self, other: Cell) -> None:
        self.outcomes = dict(Counter(self.outcomes) + Counter(other.outcomes))
        self.times = dict(Counter(self.times) + Counter(other.times))

    def note(self, outcome: str, took_ms: float) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome == Outcome.DONE:
            bucket = math.ceil(math.log(max(took_ms, LEAST_MS) / LEAST_MS, GROWTH))
            self.times[bucket] = self.times.get(bucket, 0) + 1

    def of(self, *outcomes: Outcome) -> int:
        return sum(self.outcomes.get(outcome, 0) for outcome in outcomes)

    @property
    def done(self) -> int:
        return self.of(Outcome.DONE)

    @property
    def asked(self) -> int:
        return sum(self.outcomes.values())

    @property
    def refused(self) -> int:
        return self.of(Outcome.TOO_MUCH, Outcome.NOT_NOW)

    @property
    def refused_share(self) -> float:
        return self.refused / self.asked if self.asked else 0.0

    def quantile_ms(self, part: float) -> float | None:
        """Nearest rank, rounded up to the bucket's end; None when nothing was done."""
        left = math.ceil(part * sum(self.times.values())) or 1
        for bucket in sorted(self.times):
            left -= self.times[bucket]
            if left <= 0:
                return round(LEAST_MS * GROWTH**bucket, 3)
        return None


class Row(msgspec.Struct):
    second: int
    """Of Unix time; the first of its period."""
    verb: str
    judged: bool
    """Not of a tenant that is there to disturb."""
    cell: Cell


def period_of(seconds: float) -> int:
    """How many seconds are counted as one in a run of so many: one day's figures are no more than a quarter hour's."""
    return 1 + int(seconds / PERIODS_MAX)


class Timeline:
    def __init__(self, period_s: int = 1) -> None:
        self.period_s = period_s
        self._cells: dict[tuple[int, str, bool], Cell] = {}

    def note(self, at_s: float, verb: str, judged: bool, outcome: str, took_ms: float) -> None:
        """``at_s``: Unix time."""
        self._cell(int(at_s // self.period_s) * self.period_s, verb, judged).note(outcome, took_ms)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._cell(row.second, row.verb, row.judged).add(row.cell)

    def taken(self) -> list[Row]:
        """All rows, which are not here any more."""
        rows, self._cells = self.rows(), {}
        return rows

    def rows(self) -> list[Row]:
        return [Row(*key, cell) for key, cell in sorted(self._cells.items(), key=lambda item: item[0])]

    def _cell(self, second: int, verb: str, judged: bool) -> Cell:
        return self._cells.setdefault((second, verb, judged), Cell())


def together(rows: Iterable[Row]) -> Cell:
    found = Cell()
    for row in rows:
        found.add(row.cell)
    return found
