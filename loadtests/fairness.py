"""A first tenant beside a second that asks at a hundred times its rate, against the same flood into a sink.

Run: ``python loadtests/fairness.py [--through frames|http|grpc|sdk] [--pairs 10]``. In each pair the flood goes once
to the cluster and once to a sink, a process of its own that refuses everything, in turn first and second; so what
asking costs the machine is in both runs, and what being asked costs the first tenant is in one. A holder of each tenant
has a lock all the while and renews it, at the cluster in both runs. With ``sdk`` the first tenant's cycles are those of
the public SDK, and flood and holders come by frames. In the end the second tenant obeys Retry-After, and gets what its
quota allows. Prints one JSON object; the figures that count are the median of the ratios of the first tenant's p99, and
the renewals that were refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import msgspec
import uvloop
from fronts import FrontLine, GrpcLine, HttpLine, SdkLine
from holders import FrameHolder, Holder, Holds
from lines import Line, Tally
from sinks import SINKS

import holdfast.admin
from holdfast.cluster import LocalCluster

PATIENCE_S = 1.0
PLAN = "standard"
FIRST_LINES, SECOND_LINES = 8, 32
TIMES = 100
TICK_S = 0.002
SETTLE_S = 1.0
OBEYS_S = 10.0


@dataclass(frozen=True)
class Way:
    """How both tenants come. ``flood_size``: locks of a cycle of the flood; the first tenant's have one."""

    quota: int
    """Operations a second that the second tenant may; it asks to acquire ``TIMES`` as many."""
    flood_size: int
    line: Callable[[int, int], Line | FrontLine]
    """Made from its number and its size."""
    holder: Callable[[int], Holds]
    """Made from its tenant."""
    first: Callable[[], FrontLine] | None = None
    """A line of the first tenant, where it is another."""


def _nothing(line: object) -> None:
    """Whatever becomes of a cycle, the next begins when it is due."""


def _frame_line(number: int, size: int) -> Line:
    return Line(number, size, PATIENCE_S, _nothing)


WAYS = {
    "frames": Way(100, 8, _frame_line, FrameHolder),
    "http": Way(
        5, 1, lambda number, size: HttpLine(PATIENCE_S, _nothing), lambda tenant: HttpLine(PATIENCE_S, _nothing)
    ),
    "grpc": Way(
        5, 1, lambda number, size: GrpcLine(PATIENCE_S, _nothing), lambda tenant: GrpcLine(PATIENCE_S, _nothing)
    ),
    "sdk": Way(100, 8, _frame_line, FrameHolder, lambda: SdkLine(PATIENCE_S, _nothing)),
}


async def pace(lines: Sequence[Line | FrontLine], rate: float, seconds: float, *, obeys: bool = False) -> Tally:
    """Begin so many cycles a second, at moments of a Poisson process."""
    tally = Tally()
    for line in lines:
        line.tally = tally
        line.obeys = obeys
    due = time.perf_counter()
    ends = due + seconds
    at = 0
    while (now := time.perf_counter()) < ends:
        while due <= now:
            lines[at % len(lines)].begin(due)
            at += 1
            due += random.expovariate(rate)
        await asyncio.sleep(TICK_S)
    return tally


async def opened(
    way: Way, address: tuple[str, int], key: str, tenant: int, count: int, size: int, *, first: bool = False
) -> Sequence[Line | FrontLine]:
    lines = [way.first() if first and way.first else way.line(number, size) for number in range(count)]
    for line in lines:
        await line.open(address, key)
        if isinstance(line, Line):
            line.place(tenant)
    return lines


async def flood(way: Way, target: list[str], seconds: float, *, obeys: bool) -> None:
    """The second tenant, in a process of its own."""
    host, port, key, tenant = target
    lines = await opened(way, (host, int(port)), key, int(tenant), SECOND_LINES, way.flood_size)
    print("ready", flush=True)
    tally = await pace(lines, TIMES * way.quota / way.flood_size, seconds, obeys=obeys)
    await asyncio.sleep(2 * PATIENCE_S)
    waits = sorted(tally.retry_after_ms) or [0]
    said = {
        "cycles_begun": tally.begun,
        "cycles_done": tally.done,
        "operations_done_per_s": round(2 * way.flood_size * tally.done / seconds, 1),
        "refused": tally.refused,
        "releases_refused": tally.releases_refused,
        "retry_after_ms": [waits[0], statistics.median(waits), waits[-1]],
    }
    print(json.dumps(said), flush=True)


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


async def run_once(
    first: Sequence[Line | FrontLine], holders: dict[str, Holder], target: list[str], options: Options
) -> dict[str, object]:
    """The first tenant's times, and both tenants' renewals, while the flood goes to ``target``."""
    seconds = options.seconds + 2 * SETTLE_S
    arguments = ["--flood", *target, "--through", options.through, "--seconds", str(seconds)]
    with child(*arguments) as process:
        await asyncio.to_thread(next_line, process)
        await pace(first, options.rate / 2, SETTLE_S)
        for holder in holders.values():
            holder.taken()
        tally = await pace(first, options.rate / 2, options.seconds)
        renewals = {whose: asdict(holder.taken()) for whose, holder in holders.items()}
        said = json.loads(await asyncio.to_thread(next_line, process))
    times = sorted(tally.took_s)
    return {
        "p50_ms": round(1000 * statistics.median(times), 2),
        "p99_ms": round(1000 * times[int(0.99 * len(times))], 2),
        "acquires": len(times),
        "refused": dict(Counter(tally.refused) + Counter(tally.releases_refused)),
        "renewals": renewals,
        "flood": said,
    }


async def obeying(target: list[str], options: Options) -> object:
    """What the second tenant gets when it comes again when it was told to."""
    with child("--flood", *target, "--through", options.through, "--seconds", str(OBEYS_S), "--obeys") as process:
        await asyncio.to_thread(next_line, process)
        return json.loads(await asyncio.to_thread(next_line, process))


async def measure(cluster: LocalCluster, options: Options) -> dict[str, object]:
    way = WAYS[options.through]
    async with holdfast.admin.connect(cluster.url, cluster.operator_key) as admin:
        one = await admin.create_tenant("first", plan=PLAN)
        two = await admin.create_tenant("second", plan=PLAN, rate=way.quota, burst=way.quota)
    at = {"http": cluster.http_url[7:], "grpc": cluster.grpc_address}
    host, _, port = at.get(options.through, "{}:{}".format(*cluster.address)).rpartition(":")
    await asyncio.sleep(SETTLE_S)  # until the router has heard of both
    address = host, int(port)
    first = await opened(way, address, one.api_key, one.tenant.number, FIRST_LINES, 1, first=True)
    holders = {"first": Holder(way.holder(one.tenant.number)), "second": Holder(way.holder(two.tenant.number))}
    for holder, made in zip(holders.values(), (one, two), strict=True):
        await holder.begin(address, made.api_key)
    at_cluster = [host, port, two.api_key, str(two.tenant.number)]
    with child("--sink", "--through", options.through) as process:
        at_sink = ["127.0.0.1", next_line(process).strip(), "none", "1"]
        pairs = []
        for number in range(options.pairs):
            found: dict[str, dict[str, object]] = {}
            for name in ("cluster", "sink") if number % 2 else ("sink", "cluster"):
                found[name] = await run_once(first, holders, at_cluster if name == "cluster" else at_sink, options)
            print(msgspec.json.encode(found).decode(), file=sys.stderr, flush=True)
            pairs.append(found)
    for holder in holders.values():
        holder.end()  # what the second tenant's is charged is not part of what it gets when it obeys
    ratios = {
        what: [round(float(str(pair["cluster"][what])) / float(str(pair["sink"][what])), 3) for pair in pairs]
        for what in ("p50_ms", "p99_ms")
    }
    return {
        "through": options.through,
        "first_operations_per_s": options.rate,
        "second_may_operations_per_s": way.quota,
        "second_asks_acquires_per_s": way.quota * TIMES,
        "p99_ratios": ratios["p99_ms"],
        "p99_ratio_median": statistics.median(ratios["p99_ms"]),
        "p50_ratio_median": statistics.median(ratios["p50_ms"]),
        "renewals_refused": sum(
            sum(told["refused"].values())
            for pair in pairs
            for run in pair.values()
            for told in cast(dict[str, dict[str, Any]], run["renewals"]).values()
        ),
        "obeying": await obeying(at_cluster, options),
        "pairs": pairs,
    }


class Options(argparse.Namespace):
    through: str
    pairs: int
    seconds: float
    rate: float
    flood: list[str] | None
    obeys: bool
    sink: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--through", choices=WAYS, default="frames")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=15, help="of each run")
    parser.add_argument("--rate", type=float, default=100, help="operations a second of the first tenant")
    parser.add_argument("--flood", nargs=4, metavar=("HOST", "PORT", "KEY", "TENANT"), help=argparse.SUPPRESS)
    parser.add_argument("--obeys", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(namespace=Options())
    if options.sink:
        uvloop.run(SINKS[options.through]())
    elif options.flood:
        uvloop.run(flood(WAYS[options.through], options.flood, options.seconds, obeys=options.obeys))
    else:
        with LocalCluster() as cluster:
            print(json.dumps(uvloop.run(measure(cluster, options)), indent=1))


if __name__ == "__main__":
    main()
