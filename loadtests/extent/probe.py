"""A client that cycles all the while, and remembers when each answer came."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from array import array
from types import TracebackType
from typing import Self

import msgspec
import uvloop

import holdfast
from holdfast.bench.report import Quantiles, quantiles
from holdfast.cluster import LocalCluster

NAMES_EACH = 1000
PATIENCE_S = 30.0


class Look(msgspec.Struct, frozen=True):
    """What a probe saw in a time. ``pause_ms``: the longest in which no answer came."""

    cycles: int
    cycle_ms: Quantiles | None
    pause_ms: float


class Probe:
    """``workers`` of one client, each with one lock at a time, in a thread of their own while it is entered.

    ``metadata``: bytes to leave with each lock, which make the log grow.
    """

    def __init__(self, cluster: LocalCluster, workers: int = 1, *, metadata: int = 0, name: str = "probe") -> None:
        self._cluster = cluster
        self._workers = workers
        self._metadata = bytes(metadata)
        self._name = name
        self._ended = array("d")
        self._took = array("d")
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        # What failed has measured nothing since: then the whole has failed.
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            uvloop.run(self._cycles())
        except BaseException as error:  # noqa: BLE001 - raised where the probe is left
            self._error = error

    async def _cycles(self) -> None:
        async with holdfast.connect(self._cluster.url, self._cluster.api_key, timeout=PATIENCE_S) as client:
            await asyncio.gather(*(self._cycle(client, number) for number in range(self._workers)))

    async def _cycle(self, client: holdfast.Client, number: int) -> None:
        count = 0
        while not self._over.is_set():
            name = f"{self._name}/{number}/{count % NAMES_EACH}"
            began = time.monotonic()
            async with client.lock(name, ttl=60, metadata=self._metadata):
                pass
            now = time.monotonic()
            self._ended.append(now)
            self._took.append(now - began)
            count += 1

    def look(self, since: float, until: float) -> Look:
        """At the cycles that ended between two moments of CLOCK_MONOTONIC that have passed."""
        # The thread may be between its two notes of a cycle.
        seen = [(at, took) for at, took in zip(self._ended[:], self._took[:], strict=False) if since <= at < until]
        moments = [since, *(at for at, _ in seen), until]
        pause_s = max(after - before for before, after in itertools.pairwise(moments))
        return Look(len(seen), quantiles(sorted(took for _, took in seen)), round(1000 * pause_s, 1))

    def watch(self, seconds: float) -> Look:
        """At the next ``seconds``."""
        since = time.monotonic()
        time.sleep(seconds)
        return self.look(since, time.monotonic())
