"""How many machines: what was measured, and the arithmetic of docs/capacity.md with it.

``python -m loadtests.capacity --operations-per-s 1e6 1e7 1e8``. ``--bench load-reports/bench.json`` takes the figures
of a run of ``make bench`` instead of those kept in ``capacity.json``; ``--keep`` keeps them there and brings the tables
of docs/capacity.md up to date.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from holdfast.bench import Mode, Report
from holdfast.bench.work import OPERATIONS_PER_CYCLE

KEPT = Path(__file__).with_name("capacity.json")
PAGE = Path(__file__).parents[1] / "docs" / "capacity.md"
REPLICAS = 3
RATES = (1e6, 1e7, 1e8)


class Point(msgspec.Struct, frozen=True):
    """One load of ``make bench``, medians; all but the first two per cycle of an acquire and a release."""

    at_once: int
    operations_per_entry: float
    client_us: float
    router_us: float
    nodes_us: float
    syncs: float
    written_bytes: float


class Measured(msgspec.Struct, frozen=True):
    source: str
    points: list[Point]


class Cost(msgspec.Struct, frozen=True):
    """Processor microseconds of a tier: ``each`` operation, and ``batch``: whatever leaves together, once."""

    each: float
    batch: float

    def of(self, operations: float) -> float:
        """For one of so many operations that leave together."""
        return self.each + self.batch / operations


class Costs(msgspec.Struct, frozen=True):
    """``nodes``: all replicas of a group together."""

    client: Cost
    router: Cost
    nodes: Cost


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The assumptions: an operating point and a machine. ``busy``: share of a core that a process uses at the peak."""

    per_section: float = 10.0
    per_frame: float = 50.0
    per_entry: float = 100.0
    busy: float = 0.5
    cores: int = 16
    gather_ms: float = 10.0
    """Longest time in which a router's frame to a group is gathered: it bounds one cluster."""
    bytes_each: float = 40.0
    """Of an operation in a section, with a name of 20 bytes."""


class Fleet(msgspec.Struct, frozen=True):
    operations_per_s: float
    clusters: int
    groups: int
    nodes: int
    routers: int
    machines: int
    client_cores: float
    entries_per_group_s: float
    gather_ms: float
    disk_mb_per_node_s: float
    network_gbit_per_machine_s: float


def fitted(points: Sequence[Point], of: Callable[[Point], float]) -> Cost:
    """Least squares of the relative error, over cost = each + batch / operations; neither below 0."""
    rows = [(1 / point.operations_per_entry, of(point) / OPERATIONS_PER_CYCLE) for point in points]
    weighted = [(1 / cost, share / cost) for share, cost in rows]
    aa, ab, bb = (sum(x * y for x, y in pairs) for pairs in (
        [(one, one) for one, _ in weighted], [(one, other) for one, other in weighted],
        [(other, other) for _, other in weighted],
    ))  # fmt: skip
    a, b = sum(one for one, _ in weighted), sum(other for _, other in weighted)
    determinant = aa * bb - ab * ab
    return Cost(max((a * bb - b * ab) / determinant, 0.0), max((b * aa - a * ab) / determinant, 0.0))


def costs_of(measured: Measured) -> Costs:
    points = measured.points
    return Costs(
        fitted(points, lambda point: point.client_us),
        fitted(points, lambda point: point.router_us),
        fitted(points, lambda point: point.nodes_us),
    )


def largest_cluster(costs: Costs, plan: Plan) -> float:
    """Operations per second. A frame to each group gathers at each router: with more of both it gathers for longer."""
    routers, groups = costs.router.of(plan.per_frame) / plan.busy, costs.nodes.of(plan.per_entry) / plan.busy
    # gather_s = routers * groups * per_frame / operations; routers and groups grow with the operations.
    return plan.gather_ms / 1e3 * 1e12 / (routers * groups * plan.per_frame)


def fleet(costs: Costs, plan: Plan, operations_per_s: float) -> Fleet:
    clusters = math.ceil(operations_per_s / largest_cluster(costs, plan))
    share = operations_per_s / clusters
    nodes = max(REPLICAS, math.ceil(share * costs.nodes.of(plan.per_entry) / 1e6 / plan.busy))
    routers = max(2, math.ceil(share * costs.router.of(plan.per_frame) / 1e6 / plan.busy))
    groups = nodes  # each process leads one and follows two
    machines = max(REPLICAS, math.ceil((nodes + routers) / plan.cores))
    moved = share * plan.bytes_each
    # To a router and on to a leader, from there to two followers; each is sent once and received once.
    network = moved * (2 + REPLICAS - 1) * 2 * 8 / 1e9 / machines
    return Fleet(
        operations_per_s,
        clusters,
        clusters * groups,
        clusters * nodes,
        clusters * routers,
        clusters * machines,
        round(operations_per_s * costs.client.of(plan.per_section) / 1e6, 1),
        round(share / groups / plan.per_entry),
        round(1e3 * routers * groups * plan.per_frame / share, 1),
        round(moved * REPLICAS / nodes / 1e6, 1),
        round(network, 2),
    )


def points_of(reports: Iterable[Report]) -> list[Point]:
    """Medians of the repetitions of each load by one process: there section, frame and entry are one and the same."""
    loads: dict[int, list[Report]] = {}
    for report in reports:
        if report.spec.mode == Mode.CYCLE and report.spec.processes == 1 and report.work is not None:
            loads.setdefault(report.spec.concurrency, []).append(report)

    def median(values: Iterable[float | None]) -> float:
        return round(statistics.median(value for value in values if value is not None), 3)

    return [
        Point(
            at_once,
            median(report.work.operations_per_entry if report.work else None for report in some),
            median(report.cpu_us_per_cycle.client for report in some),
            median(report.cpu_us_per_cycle.router for report in some),
            median(report.cpu_us_per_cycle.nodes for report in some),
            median(report.work.syncs if report.work else None for report in some),
            median(report.work.written_bytes if report.work else None for report in some),
        )
        for at_once, some in sorted(loads.items())
    ]


def measured_of(path: Path) -> Measured:
    reports = msgspec.json.decode(path.read_bytes(), type=list[Report])
    points = points_of(reports)
    if len(points) < 2:
        raise ValueError(f"{path} has {len(points)} loads of one process: what grows shows from two on")
    machine = reports[0].machine
    return Measured(f"make bench, commit {reports[0].commit}, {machine.cores} cores of {machine.processor}", points)


def kept() -> Measured:
    return msgspec.json.decode(KEPT.read_bytes(), type=Measured)


def cost_table(measured: Measured) -> str:
    costs = costs_of(measured)
    tiers: list[tuple[str, Cost, Callable[[Point], float]]] = [
        ("client", costs.client, lambda point: point.client_us),
        ("router", costs.router, lambda point: point.router_us),
        ("three nodes", costs.nodes, lambda point: point.nodes_us),
    ]
    at = " | ".join(f"{point.operations_per_entry:,.0f} together" for point in measured.points)
    lines = [f"| CPU µs | for an operation | and once for all that leave together | {at} |"]
    lines.append("|---|" + "---:|" * (2 + len(measured.points)))
    for name, cost, of in tiers:
        seen = " | ".join(
            f"{of(point) / OPERATIONS_PER_CYCLE:.1f} ({cost.of(point.operations_per_entry):.1f})"
            for point in measured.points
        )
        lines.append(f"| {name} | {cost.each:.2f} | {cost.batch:.0f} | {seen} |")
    return "\n".join([*lines, "", f"Source: {measured.source}."])


COLUMNS = (
    "operations/s", "clusters", "groups", "node processes", "routers", "machines", "entries/s of a group",
    "a frame gathers ms", "disk MB/s of a node", "network Gbit/s of a machine", "cores of clients",
)  # fmt: skip


def fleet_table(measured: Measured, plan: Plan, rates: Sequence[float]) -> str:
    costs = costs_of(measured)
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---:|" * len(COLUMNS)]
    for rate in rates:
        of = fleet(costs, plan, rate)
        lines.append(
            f"| {rate:,.0f} | {of.clusters:,} | {of.groups:,} | {of.nodes:,} | {of.routers:,} | {of.machines:,} | "
            f"{of.entries_per_group_s:,.0f} | {of.gather_ms:g} | {of.disk_mb_per_node_s:g} | "
            f"{of.network_gbit_per_machine_s:g} | {of.client_cores:,.0f} |"
        )
    return "\n".join(lines)


def page_with(page: str, measured: Measured) -> str:
    """The page with its tables as they follow from these figures."""
    for name, table in (("costs", cost_table(measured)), ("fleet", fleet_table(measured, Plan(), RATES))):
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{begin}{table}\n{end}{after}"
    return page


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operations-per-s", type=float, nargs="+", default=RATES)
    parser.add_argument("--bench", type=Path, help="what make bench has kept")
    parser.add_argument("--keep", action="store_true", help="write capacity.json and docs/capacity.md")
    for field in msgspec.structs.fields(Plan):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default, help=f"default: {field.default:g}")
    options = parser.parse_args(words)
    figures = [getattr(options, field.name) for field in msgspec.structs.fields(Plan)]
    if min(*options.operations_per_s, *figures) <= 0 or options.busy > 1:
        parser.error("all figures are more than 0, and busy is at most 1")
    return options


def main(words: Sequence[str] | None = None) -> None:
    options = options_of(words)
    try:
        measured = measured_of(options.bench) if options.bench else kept()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    plan = Plan(**{field.name: getattr(options, field.name) for field in msgspec.structs.fields(Plan)})
    print(cost_table(measured))
    print()
    print(fleet_table(measured, plan, options.operations_per_s))
    if options.keep:
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
        PAGE.write_text(page_with(PAGE.read_text(), measured))


if __name__ == "__main__":
    main()
