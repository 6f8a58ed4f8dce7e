"""What a durable write costs: one journal per node or per group, synced inline or in a thread; and reading it back.

    python loadtests/journal_shapes.py [--directory DIR] [--rounds 5] [--slow-sync-ms 5]

A turn of the loop appends one frame for every active group and makes all of them durable; a commit is one frame of one
group. Rounds of all shapes alternate, the table shows medians over the rounds. CPU is that of the whole process,
threads included. The stall is how much later than due, 99 times in 100 at most, the loop woke another coroutine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from holdfast_shard.consensus.disk import AppendFile, RealDisk
from holdfast_shard.consensus.journal import Journal

SMALL_BYTES = 300
BIG_BYTES = 64 << 10
TURNS = {SMALL_BYTES: 400, BIG_BYTES: 100}


@dataclass(frozen=True)
class Shape:
    groups: int
    frame_bytes: int
    per_group: bool
    threaded: bool


@dataclass(frozen=True)
class Figures:
    p50_us: float
    p99_us: float
    cpu_us: float
    commits_per_s: float
    stall_p99_us: float


class SlowFile:
    """A file of a disk whose sync takes at least so long, as that of a network volume."""

    def __init__(self, file: AppendFile, sync_s: float) -> None:
        self._file = file
        self._sync_s = sync_s
        self.write, self.write_all, self.close = file.write, file.write_all, file.close

    @property
    def size(self) -> int:
        return self._file.size

    def trim(self) -> None:
        self._file.trim()

    def sync(self) -> None:
        ends = time.perf_counter() + self._sync_s
        self._file.sync()
        time.sleep(max(ends - time.perf_counter(), 0))


class SlowDisk(RealDisk):
    def __init__(self, path: Path, sync_s: float) -> None:
        super().__init__(path)
        self._sync_s = sync_s

    def append(self, name: str, *, ahead: bool = False) -> AppendFile:
        file = super().append(name, ahead=ahead)
        return SlowFile(file, self._sync_s) if self._sync_s else file


@contextmanager
def journals(shape: Shape, parent: Path, sync_s: float) -> Iterator[list[Journal]]:
    directory = Path(tempfile.mkdtemp(dir=parent))
    count = shape.groups if shape.per_group else 1
    try:
        opened = [Journal.open(SlowDisk(directory / str(number), sync_s))[0] for number in range(count)]
        yield opened
        for journal in opened:
            journal.close()
    finally:
        shutil.rmtree(directory)


def make_durable(journals: list[Journal]) -> None:
    for journal in journals:
        journal.sync()


async def measure(shape: Shape, parent: Path, sync_s: float) -> Figures:
    loop = asyncio.get_running_loop()
    turns = TURNS[shape.frame_bytes] if not sync_s else 50
    frame = os.urandom(shape.frame_bytes)
    # As many threads as files to sync, so that syncs of several journals overlap.
    with ThreadPoolExecutor(shape.groups if shape.per_group else 1) as pool, journals(shape, parent, sync_s) as opened:
        taken: list[float] = []
        stalls: list[float] = []
        stopped = False

        async def other_work() -> None:
            while not stopped:
                due = time.perf_counter() + 0.002
                await asyncio.sleep(0.002)
                stalls.append(time.perf_counter() - due)

        task = loop.create_task(other_work())
        cpu, begun = time.process_time(), time.perf_counter()
        for turn in range(turns):
            at = time.perf_counter()
            for group in range(shape.groups):
                opened[group % len(opened)].append_entry(group, turn + 1, 1, frame)
            for journal in opened:
                journal.flush()
            if shape.threaded:
                await asyncio.gather(*(loop.run_in_executor(pool, journal.sync) for journal in opened))
            else:
                make_durable(opened)
                await asyncio.sleep(0)
            taken.append(time.perf_counter() - at)
        cpu, elapsed = time.process_time() - cpu, time.perf_counter() - begun
        stopped = True
        await task
    commits = turns * shape.groups
    return Figures(
        percentile(taken, 0.5) * 1e6,
        percentile(taken, 0.99) * 1e6,
        cpu / commits * 1e6,
        commits / elapsed,
        percentile(stalls, 0.99) * 1e6,
    )


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def shapes(groups: tuple[int, ...]) -> list[Shape]:
    return [
        Shape(count, frame_bytes, per_group, threaded)
        for frame_bytes in (SMALL_BYTES, BIG_BYTES)
        for count in groups
        for per_group in ((False, True) if count > 1 else (False,))
        for threaded in (False, True)
    ]


def table(measured: list[Shape], parent: Path, rounds: int, sync_s: float) -> None:
    results: dict[Shape, list[Figures]] = {shape: [] for shape in measured}
    for _ in range(rounds):
        for shape in measured:
            results[shape].append(uvloop.run(measure(shape, parent, sync_s)))
    print("| frame | groups | journal | sync | turn p50 us | p99 us | CPU us/commit | commits/s | stall p99 us |")
    print("|---:|---:|---|---|---:|---:|---:|---:|---:|")
    for shape, figures in results.items():

        def median(value: Callable[[Figures], float], figures: list[Figures] = figures) -> float:
            return statistics.median(value(figure) for figure in figures)

        print(
            f"| {shape.frame_bytes} | {shape.groups} | per {'group' if shape.per_group else 'node'} "
            f"| {'thread' if shape.threaded else 'inline'} | {median(lambda f: f.p50_us):,.0f} "
            f"| {median(lambda f: f.p99_us):,.0f} | {median(lambda f: f.cpu_us):,.1f} "
            f"| {median(lambda f: f.commits_per_s):,.0f} | {median(lambda f: f.stall_p99_us):,.0f} |"
        )


def reading(parent: Path) -> None:
    print("| frame | append us | read back 64 MiB, s |\n|---:|---:|---:|")
    for frame_bytes in (60, SMALL_BYTES, BIG_BYTES):
        directory = Path(tempfile.mkdtemp(dir=parent))
        try:
            journal, _ = Journal.open(RealDisk(directory))
            frame = os.urandom(frame_bytes)
            count = (64 << 20) // (frame_bytes + 48) - 2
            appending = 0.0
            for index in range(1, count + 1):
                at = time.perf_counter()
                journal.append_entry(1, index, 1, frame)
                appending += time.perf_counter() - at
                if index % 256 == 0:
                    journal.flush()
            journal.flush()
            journal.close()
            at = time.perf_counter()
            journal, _ = Journal.open(RealDisk(directory))
            print(f"| {frame_bytes} | {appending / count * 1e6:.2f} | {time.perf_counter() - at:.2f} |")
            journal.close()
        finally:
            shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-sync-ms", type=float, default=5.0, help="the disk of the second table")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}\n")
    print("The disk as it is:\n")
    table(shapes((1, 4, 16)), options.directory, options.rounds, 0.0)
    print(f"\nA disk whose sync takes {options.slow_sync_ms:g} ms:\n")
    table(shapes((1, 4)), options.directory, options.rounds, options.slow_sync_ms / 1000)
    print()
    reading(options.directory)


if __name__ == "__main__":
    main()
