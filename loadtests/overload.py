"""Overload: three times what the groups can do, by clients that ignore Retry-After and by clients that obey it.

Run: ``python loadtests/overload.py [--seconds 60]``. Prints one JSON object. Goodput is cycles (several acquires and
the releases of what they got) done within the callers' patience; CPU is the operating system's, of router and nodes.
The peak is measured before and after each overload, which is compared with their mean; of several rounds the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass
from math import inf

import psutil
import uvloop
from lines import Line, Tally

from holdfast.cluster import LocalCluster

PATIENCE_S = 1.0
TICK_S = 0.005
LOOK_S = 0.5
NORMAL_LOAD = 0.5
"""Part of the peak, before and after an overload."""


@dataclass
class Phase:
    seconds: float
    tally: Tally
    cpu_s: float
    rss_mib_max: dict[str, float]

    @property
    def goodput(self) -> float:
        return (self.tally.done - self.tally.late) / self.seconds

    @property
    def per_cpu(self) -> float:
        return (self.tally.done - self.tally.late) / self.cpu_s

    def figures(self) -> dict[str, object]:
        tally = self.tally
        return {
            "cycles_per_s": round(self.goodput),
            "cycles_per_cpu_s": round(self.per_cpu),
            "offered_per_s": round(tally.begun / self.seconds),
            "acquire_p50_ms": quantile_ms(tally.took_s, 0.5),
            "acquire_p99_ms": quantile_ms(tally.took_s, 0.99),
            "refused": tally.refused,
            "releases_refused": tally.releases_refused,
            "retry_after_ms_p50": statistics.median(tally.retry_after_ms) if tally.retry_after_ms else None,
            "rss_mib_max": self.rss_mib_max,
        }


def quantile_ms(times_s: list[float], part: float) -> float | None:
    return round(1000 * sorted(times_s)[int(len(times_s) * part)], 1) if times_s else None


class Load:
    """All lines; each phase has a tally of its own."""

    def __init__(self, cluster: LocalCluster, lines: int, size: int) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in cluster.pids.items()}
        self._closed_loop = False
        self.lines = [Line(number, size, PATIENCE_S, self._ended) for number in range(lines)]

    async def open(self, cluster: LocalCluster) -> None:
        for line in self.lines:
            await line.open(cluster.address, cluster.api_key)
            line.place(1)

    def _ended(self, line: Line) -> None:
        if self._closed_loop:
            line.begin(time.perf_counter())

    async def peak(self, seconds: float, at_once: int) -> Phase:
        """As many cycles under way as are given to each line, one after the other."""
        self._closed_loop = True
        for line in self.lines:
            line.obeys, line.blocked_until = False, {}
            for _ in range(at_once):
                line.begin(time.perf_counter())
        await asyncio.sleep(1.0)
        phase = await self._measure(seconds, asyncio.sleep(seconds))
        self._closed_loop = False
        await asyncio.sleep(2 * PATIENCE_S)
        return phase

    async def offered(self, seconds: float, rate: float, *, obeys: bool) -> Phase:
        """So many cycles a second, whatever becomes of them; who obeys leaves out what it was told not to send."""
        for line in self.lines:
            line.obeys, line.blocked_until = obeys, {}
        return await self._measure(seconds, self._pace(seconds, rate))

    async def _pace(self, seconds: float, rate: float) -> None:
        began = time.perf_counter()
        begun = 0
        while (now := time.perf_counter()) < began + seconds:
            due = int((now - began) * rate)
            for number in range(begun, due):
                self.lines[number % len(self.lines)].begin(began + number / rate)
            begun = due
            await asyncio.sleep(TICK_S)

    async def _measure(self, seconds: float, work: object) -> Phase:
        tally = Tally()
        for line in self.lines:
            line.tally = tally
        cpu_s = self._cpu_s()
        began = time.perf_counter()
        rss: dict[str, float] = {}
        looking = asyncio.create_task(self._look(rss))
        await work  # type: ignore[misc]
        looking.cancel()
        return Phase(time.perf_counter() - began, tally, self._cpu_s() - cpu_s, rss)

    async def _look(self, rss: dict[str, float]) -> None:
        while True:
            for name, process in self._processes.items():
                rss[name] = max(rss.get(name, 0.0), round(process.memory_info().rss / 2**20, 1))
            await asyncio.sleep(LOOK_S)

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes.values())


async def recovery_s(load: Load, rate: float, usual_s: float) -> float:
    """Seconds after the end of an overload until, at a normal load and for half a second, nothing is refused and half
    of the acquires take no longer than nearly all took before; infinite if that takes longer than 10 s."""
    began = time.perf_counter()
    good_since = None
    while (now := time.perf_counter()) < began + 10:
        phase = await load.offered(0.1, rate, obeys=False)
        took_s = phase.tally.took_s
        if phase.tally.refused or not took_s or statistics.median(took_s) > usual_s:
            good_since = None
        elif good_since is None:
            good_since = now
        elif now > good_since + 0.5:
            return round(good_since - began, 2)
    return inf


async def overload(
    load: Load, peak: Phase, at_once: int, obeys: bool, options: argparse.Namespace
) -> dict[str, object]:
    """One overload with what was before and after it."""
    rate = peak.goodput
    normal = await load.offered(5, NORMAL_LOAD * rate, obeys=False)
    over = await load.offered(options.seconds, options.times * rate, obeys=obeys)
    usual_s = sorted(normal.tally.took_s)[int(0.99 * len(normal.tally.took_s))]
    recovered_s = await recovery_s(load, NORMAL_LOAD * rate, usual_s)
    after = await load.peak(options.peak_seconds, at_once)
    beside = (peak, after)
    return {
        "goodput_per_cpu_of_peak": round(over.per_cpu / statistics.mean(each.per_cpu for each in beside), 3),
        "goodput_of_peak": round(over.goodput / statistics.mean(each.goodput for each in beside), 3),
        "recovery_s": recovered_s,
        "peak_before": peak.figures(),
        "normal": normal.figures(),
        "overload": over.figures(),
        "peak_after": after.figures(),
    }


async def run(cluster: LocalCluster, options: argparse.Namespace) -> dict[str, object]:
    load = Load(cluster, options.lines, options.size)
    await load.open(cluster)
    tried = {at_once: await load.peak(options.peak_seconds / 3, at_once) for at_once in (1, 2, 4)}
    at_once = max(tried, key=lambda each: tried[each].goodput)
    found: dict[str, object] = {
        "lines": options.lines,
        "operations_per_section": options.size,
        "cycles_under_way_at_peak": at_once * options.lines,
        "tried": {each * options.lines: round(phase.goodput) for each, phase in tried.items()},
    }
    for name, obeys in (("ignoring", False), ("obeying", True)):
        rounds = []
        for _ in range(options.rounds):
            peak = await load.peak(options.peak_seconds, at_once)
            rounds.append(await overload(load, peak, at_once, obeys, options))
            print(json.dumps({name: rounds[-1]}), file=sys.stderr, flush=True)
        figures = ("goodput_per_cpu_of_peak", "goodput_of_peak", "recovery_s")
        medians = {figure: statistics.median(each[figure] for each in rounds) for figure in figures}
        found[name] = {"median": medians, "rounds": rounds}
    for line in load.lines:
        line.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each overload")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-seconds", type=float, default=10, help="before and after each")
    parser.add_argument("--times", type=float, default=3, help="of the peak's goodput is offered")
    parser.add_argument("--lines", type=int, default=64, help="connections")
    parser.add_argument("--size", type=int, default=16, help="operations of a section")
    options = parser.parse_args()
    with LocalCluster() as cluster:
        print(json.dumps(uvloop.run(run(cluster, options)), indent=1))


if __name__ == "__main__":
    main()
