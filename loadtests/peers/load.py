"""One load process, ``python -m loadtests.peers.load``. Reads a `Part`, then, in cycles, a window; writes a `Seen`.

Cycles run from the moment it says ``ready`` until it is told the window (``SINCE UNTIL``, seconds of CLOCK_MONOTONIC);
only then does it look at what it recorded. The same for every peer: what differs is behind `clients`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from .clients import ClientModule, TaskClient, ThreadClient, module_of
from .pair import hand_offs, prove
from .parts import Mode, Part, Seen

PAUSE_AFTER_ERROR_S = 0.02


class Record:
    """Of all workers of this process: whose cycle ended when, and how long its acquire and the whole of it took."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.stopping = False
        self.workers = array("I")
        self.ended = array("d")
        self.acquires = array("d")
        self.cycles = array("d")
        self.errors: Counter[str] = Counter()

    def names(self, number: int) -> Callable[[int], str]:
        prefix, each = f"{self.part.run}/{number}", self.part.names_each
        return (lambda count: f"{prefix}/{count % each}") if each else (lambda count: f"{prefix}/{count}")

    def seen(self, since: float, until: float) -> Seen:
        # Threads append the four one after the other, and may be between two of them.
        rows = list(zip(self.workers, self.ended, self.acquires, self.cycles, strict=False))
        rows = [row for row in rows if since <= row[1] < until]
        granted: dict[int, list[float]] = {}
        for worker, ended, acquire, cycle in rows:
            granted.setdefault(worker, []).append(ended - cycle + acquire)
        acquires, cycles = sorted(row[2] for row in rows), sorted(row[3] for row in rows)
        return Seen(acquires, cycles, list(granted.values()), errors=dict(self.errors))


async def work(client: TaskClient, number: int, record: Record, errors: tuple[type[Exception], ...]) -> None:
    clock, name_of = time.monotonic, record.names(number)
    workers = record.workers.append
    ended, acquires, cycles = record.ended.append, record.acquires.append, record.cycles.append
    count = 0
    while not record.stopping:
        count += 1
        try:
            began = clock()
            held = await client.acquire(name_of(count))
            acquired = clock()
            await client.release(held)
            now = clock()
        except errors as error:
            record.errors[type(error).__name__] += 1
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)
        else:
            workers(number)
            ended(now)
            acquires(acquired - began)
            cycles(now - began)


async def run_tasks(module: ClientModule, part: Part) -> Seen:
    each = -(-part.workers // part.clients)
    clients = [await module.connect(part.target, each) for _ in range(part.clients)]
    record = Record(part)
    window = asyncio.get_running_loop().run_in_executor(None, read_window)
    print("ready", flush=True)
    tasks = [
        asyncio.create_task(work(clients[number % part.clients], part.first_worker + number, record, module.ERRORS))
        for number in range(part.workers)
    ]
    # A worker ends only by an error that its peer's clients do not know: then there is nothing to measure.
    everything: set[asyncio.Future[Any]] = {window, *tasks}
    await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
    # Clients of some libraries swallow being cancelled, and look at this next.
    record.stopping = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return record.seen(*window.result())


def work_in_thread(client: ThreadClient, number: int, record: Record, errors: tuple[type[Exception], ...]) -> None:
    clock, name_of = time.monotonic, record.names(number)
    count = 0
    while not record.stopping:
        count += 1
        try:
            began = clock()
            held = client.acquire(name_of(count))
            acquired = clock()
            client.release(held)
            now = clock()
        except errors as error:
            record.errors[type(error).__name__] += 1
            time.sleep(PAUSE_AFTER_ERROR_S)
        else:
            record.workers.append(number)
            record.ended.append(now)
            record.acquires.append(acquired - began)
            record.cycles.append(now - began)


def run_threads(module: ClientModule, part: Part) -> Seen:
    each = -(-part.workers // part.clients)
    clients: list[Any] = [module.connect(part.target, each) for _ in range(part.clients)]
    record = Record(part)
    for number in range(part.workers):
        arguments = (clients[number % part.clients], part.first_worker + number, record, module.ERRORS)
        threading.Thread(target=work_in_thread, args=arguments, daemon=True).start()
    print("ready", flush=True)
    return record.seen(*read_window())


def read_window() -> tuple[float, float]:
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(1)  # whoever measures is gone
    since, until = map(float, line.split())
    return since, until


def main() -> None:
    part = msgspec.json.decode(sys.stdin.buffer.readline(), type=Part)
    module = module_of(part.module)
    if part.mode is Mode.HAND_OFF:
        seen = uvloop.run(hand_offs(module, part))
    elif part.mode is Mode.PROOF:
        seen = uvloop.run(prove(module, part))
    elif part.threads:
        seen = run_threads(module, part)
    else:
        seen = uvloop.run(run_tasks(module, part))
    # Not through sys.stdout: with PYTHONUNBUFFERED that may write a part, and says so only in its result.
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(msgspec.msgpack.encode(seen))
    # Locks that are held end with their servers; threads that wait for one would keep this process.
    os._exit(0)


if __name__ == "__main__":
    main()
