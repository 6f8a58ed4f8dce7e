"""One load process, ``python -m holdfast.bench.load``. Reads a `Part`, then a `Window`; writes a `Seen`.

It runs from the moment it says ``ready`` until it is told the window; only then does it look at what it recorded.
"""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import struct
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec

import holdfast
from holdfast.errors import HoldfastError

from .spec import Mode, Part, Seen, Window

BENCH_TTL_S = 30.0
PAUSE_AFTER_ERROR_S = 0.05
_STAMP = struct.Struct("d")


class Load:
    """Workers of one client. Each record is (when the cycle ended, how long a part of it took)."""

    def __init__(self, client: holdfast.Client, part: Part, stamp: mmap.mmap) -> None:
        self._client = client
        self._part = part
        self._stamp = stamp
        self._stopping = False
        self._ended = array("d")
        self._acquires = array("d")
        self._cycles = array("d")
        self._handoff_at = array("d")
        self._handoffs = array("d")
        self._errors: Counter[str] = Counter()

    async def run(self, until: asyncio.Future[Window]) -> Seen:
        part = self._part
        work = self._cycle if part.mode == Mode.CYCLE else self._contend
        numbers = range(part.first_worker, part.first_worker + part.workers)
        workers = [asyncio.create_task(self._persevere(work, number)) for number in numbers]
        window = await until
        self._stopping = True
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        return self._seen(window)

    async def _persevere(self, work: Callable[[int], Coroutine[None, None, None]], number: int) -> None:
        while not self._stopping:
            try:
                await work(number)
            except HoldfastError as error:
                self._errors[type(error).__name__] += 1
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)

    async def _cycle(self, number: int) -> None:
        lock_of, clock = self._client.lock, time.monotonic
        ended, acquires, cycles = self._ended.append, self._acquires.append, self._cycles.append
        prefix = f"bench/{self._part.run}/{number}/{len(self._ended)}"
        for count in itertools.count():
            lock = lock_of(f"{prefix}/{count}", ttl=BENCH_TTL_S)
            began = clock()
            await lock.acquire()
            acquired = clock()
            await lock.release()
            now = clock()
            ended(now)
            acquires(acquired - began)
            cycles(now - began)

    async def _contend(self, number: int) -> None:
        clock, stamp = time.monotonic, self._stamp
        name = f"bench/{self._part.run}"
        while True:
            lock = self._client.lock(name, ttl=BENCH_TTL_S)
            began = clock()
            await lock.acquire()
            acquired = clock()
            (let_go,) = _STAMP.unpack_from(stamp)
            if let_go > began:
                # It was let go while we waited: the time from there to here is the hand-off.
                self._handoff_at.append(acquired)
                self._handoffs.append(acquired - let_go)
            _STAMP.pack_into(stamp, 0, clock())
            await lock.release()
            now = clock()
            self._ended.append(now)
            self._acquires.append(acquired - began)
            self._cycles.append(now - began)

    def _seen(self, window: Window) -> Seen:
        return Seen(
            _within(window, self._ended, self._acquires),
            _within(window, self._ended, self._cycles),
            _within(window, self._handoff_at, self._handoffs),
            dict(self._errors),
        )


def _within(window: Window, at: array[float], values: array[float]) -> list[float]:
    return sorted(value for when, value in zip(at, values, strict=True) if window.since <= when < window.until)


async def _run(part: Part, stamp: mmap.mmap) -> Seen:
    async with holdfast.connect(part.url, part.api_key) as client:
        window = asyncio.get_running_loop().run_in_executor(None, _read_window)
        print("ready", flush=True)
        return await Load(client, part, stamp).run(window)


def _read_window() -> Window:
    line = sys.stdin.buffer.readline()
    if not line:
        # Whoever measures is gone.
        os._exit(1)
    return msgspec.json.decode(line, type=Window)


def main() -> None:
    part = msgspec.json.decode(sys.stdin.buffer.readline(), type=Part)
    with Path(part.stamp).open("r+b") as file, mmap.mmap(file.fileno(), _STAMP.size) as stamp:
        seen = _run_on_best_loop(_run(part, stamp))
    # Not through sys.stdout: with PYTHONUNBUFFERED that may write a part, and says so only in its result.
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(msgspec.msgpack.encode(seen))


def _run_on_best_loop(work: Coroutine[None, None, Seen]) -> Seen:
    try:
        import uvloop  # noqa: PLC0415 - an extra of the servers, which the SDK does without
    except ModuleNotFoundError:
        return asyncio.run(work)
    return uvloop.run(work)


if __name__ == "__main__":
    main()
