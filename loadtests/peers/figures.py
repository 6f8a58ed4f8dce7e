"""What a comparison found: of each measurement every repetition, and from them medians, spreads and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec

from holdfast.bench.report import Machine, Quantiles, quantiles
from loadtests.spread import Spread

from .measuring import Cell, Gap, Sample
from .servers import Fault

OURS = "holdfast"


class Cycles(msgspec.Struct):
    """One kind of client under one shape of load; ``samples``: by repetition, None where it failed."""

    peer: str
    kind: str
    cell: Cell
    samples: list[Sample | None] = []

    def spread(self, figure: Callable[[Sample], float | None]) -> Spread | None:
        return Spread.of(figure(sample) for sample in self.samples if sample is not None)


class HandOffs(msgspec.Struct):
    """``times_s``: by repetition, sorted. ``hold_s``: how long each holds before it lets go."""

    peer: str
    kind: str
    hold_s: float
    times_s: list[list[float]] = []

    def quantiles(self) -> Quantiles | None:
        """In milliseconds, of all repetitions together."""
        return quantiles(sorted(time for times in self.times_s for time in times))

    def medians_ms(self) -> list[float | None]:
        return [1000 * statistics.median(times) if times else None for times in self.times_s]


class FailOvers(msgspec.Struct):
    """``gaps``: of all repetitions."""

    peer: str
    kind: str
    fault: Fault
    gaps: list[Gap] = []


class Comparison(msgspec.Struct):
    machine: Machine
    commit: str
    at: str
    seconds: float
    repetitions: int
    servers: dict[str, str] = {}
    """Versions, by the peer's name."""
    libraries: dict[str, str] = {}
    """Versions of the clients' libraries, by the name that pip knows."""
    cycles: list[Cycles] = []
    hand_offs: list[HandOffs] = []
    fail_overs: list[FailOvers] = []
    left_out: list[str] = []

    def cycles_of(self, peer: str, kind: str, cell: Cell) -> Cycles:
        """Of that cell, made when there is none yet; so are the others."""
        for each in self.cycles:
            if (each.peer, each.kind, each.cell) == (peer, kind, cell):
                return each
        self.cycles.append(Cycles(peer, kind, cell))
        return self.cycles[-1]

    def hand_offs_of(self, peer: str, kind: str, hold_s: float) -> HandOffs:
        for each in self.hand_offs:
            if (each.peer, each.kind, each.hold_s) == (peer, kind, hold_s):
                return each
        self.hand_offs.append(HandOffs(peer, kind, hold_s))
        return self.hand_offs[-1]

    def fail_overs_of(self, peer: str, kind: str, fault: Fault) -> FailOvers:
        for each in self.fail_overs:
            if (each.peer, each.kind, each.fault) == (peer, kind, fault):
                return each
        self.fail_overs.append(FailOvers(peer, kind, fault))
        return self.fail_overs[-1]


class Ratio(msgspec.Struct):
    """Holdfast's figure by a peer's, each taken within a repetition; above 1 is more. By concurrency where a dict.

    ``throughput_best``: the best of each, whatever the concurrency. ``throughput_servers``: Holdfast's best by what the
    peer's servers would do if its clients cost nothing and all cores were theirs.
    """

    peer: str
    kind: str
    throughput: dict[int, Spread]
    throughput_apart: dict[int, Spread]
    throughput_best: Spread | None
    throughput_servers: Spread | None
    cpu: dict[int, Spread]
    acquire_p50: dict[int, Spread]
    hand_off_p50: Spread | None
    gaps: dict[Fault, float]


def throughput(sample: Sample) -> float:
    return sample.cycles_per_s


def cpu_us(sample: Sample) -> float:
    return sample.servers_us + sample.clients_us


def acquire_p50_ms(sample: Sample) -> float | None:
    return sample.acquire_ms.p50 if sample.acquire_ms else None


def ratios(found: Comparison) -> list[Ratio]:
    """Of every kind of client of every other peer; empty when Holdfast was not measured."""
    ours = [cycles for cycles in found.cycles if cycles.peer == OURS]
    kinds = dict.fromkeys((cycles.peer, cycles.kind) for cycles in found.cycles if cycles.peer != OURS)
    return [_ratio(found, ours, peer, kind) for peer, kind in kinds] if ours else []


def _ratio(found: Comparison, ours: Sequence[Cycles], peer: str, kind: str) -> Ratio:
    theirs = [cycles for cycles in found.cycles if (cycles.peer, cycles.kind) == (peer, kind)]
    cores = found.machine.cores

    def by_concurrency(figure: Callable[[Sample], float | None], *, apart: bool, least: bool) -> dict[int, Spread]:
        spreads = {}
        for concurrency in sorted({cycles.cell.concurrency for cycles in theirs}):
            pick = (concurrency, apart)
            one, other = (best_of(_shaped(side, *pick), figure, least=least) for side in (ours, theirs))
            if spread := Spread.of(_divided(one, other)):
                spreads[concurrency] = spread
        return spreads

    best = best_of(ours, throughput)
    ceilings = best_of(theirs, lambda sample: 1e6 * cores / sample.servers_us if sample.servers_us else None)
    return Ratio(
        peer,
        kind,
        by_concurrency(throughput, apart=False, least=False),
        by_concurrency(throughput, apart=True, least=False),
        Spread.of(_divided(best, best_of(theirs, throughput))),
        Spread.of(_divided(best, ceilings)),
        by_concurrency(cpu_us, apart=False, least=True),
        by_concurrency(acquire_p50_ms, apart=False, least=True),
        _hand_off_ratio(found.hand_offs, peer, kind),
        _gap_ratios(found.fail_overs, peer),
    )


def best_of(
    cells: Sequence[Cycles], figure: Callable[[Sample], float | None], *, least: bool = False
) -> list[float | None]:
    """Of each repetition the best among the cells; None where no cell has one."""
    pick = min if least else max
    rows = []
    for number in range(max((len(cycles.samples) for cycles in cells), default=0)):
        row = [cycles.samples[number] for cycles in cells if number < len(cycles.samples)]
        values = [value for sample in row if sample is not None and (value := figure(sample)) is not None]
        rows.append(pick(values) if values else None)
    return rows


def _shaped(cells: Sequence[Cycles], concurrency: int, apart: bool) -> list[Cycles]:
    return [cycles for cycles in cells if (cycles.cell.concurrency, cycles.cell.apart) == (concurrency, apart)]


def _divided(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    """Within each repetition that both have."""
    return [one / other if one is not None and other else None for one, other in zip(ours, theirs, strict=False)]


def _hand_off_ratio(hand_offs: Sequence[HandOffs], peer: str, kind: str) -> Spread | None:
    """At the shortest time of holding that both were measured with."""
    ours = {each.hold_s: each for each in hand_offs if each.peer == OURS}
    theirs = {each.hold_s: each for each in hand_offs if (each.peer, each.kind) == (peer, kind)}
    both = sorted(ours.keys() & theirs.keys())
    return Spread.of(_divided(ours[both[0]].medians_ms(), theirs[both[0]].medians_ms())) if both else None


def _gap_ratios(fail_overs: Sequence[FailOvers], peer: str) -> dict[Fault, float]:
    """By fault, of the longest that one client had nothing."""
    medians = {
        (each.peer, each.fault): statistics.median(gap.longest_s for gap in each.gaps)
        for each in fail_overs
        if each.gaps
    }
    return {
        fault: medians[OURS, fault] / medians[peer, fault]
        for fault in Fault
        if (OURS, fault) in medians and (peer, fault) in medians
    }
