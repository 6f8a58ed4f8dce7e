"""Starts processes that hold locks, and ends them: politely, or as a crash does."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import IO, Self, TypeVar

import msgspec

from holdfast.cluster import LocalCluster

from .holding import Held, Holding

T = TypeVar("T")


class HoldersFailed(Exception):
    """A process of clients ended early; its own words are on standard error."""


class Holders:
    """``processes`` share ``count`` locks. Held when entered, let go when left."""

    def __init__(
        self,
        cluster: LocalCluster,
        count: int,
        ttl_s: float,
        *,
        processes: int = 1,
        per_session: int = 0,
        first: int = 0,
        over_s: float = 0.0,
    ) -> None:
        self._cluster = cluster
        self._processes: list[subprocess.Popen[bytes]] = []
        self._shares: list[Holding] = []
        self.held: list[Held] = []
        for number in range(processes):
            share = (count - sum(each.count for each in self._shares)) // (processes - number)
            begin = first + sum(each.count for each in self._shares)
            of = Holding(cluster.url, cluster.api_key, share, ttl_s, begin, per_session, over_s)
            self._shares.append(of)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    @property
    def took_s(self) -> float:
        return round(max(held.last_at for held in self.held) - min(held.first_at for held in self.held), 1)

    def __enter__(self) -> Self:
        try:
            for share in self._shares:
                self._start(share)
            self.held = [self._heard(process, Held) for process in self._processes]
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self._processes:
            self.let_go()
        else:
            self.kill()

    def _start(self, share: Holding) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.extent.holding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
            preexec_fn=self._cluster.guardian.enlist,  # noqa: PLW1509 - one system call, no lock is taken
        )
        self._processes.append(process)
        _pipe(process.stdin).write(msgspec.json.encode(share) + b"\n")
        _pipe(process.stdin).flush()

    def _heard(self, process: subprocess.Popen[bytes], shape: type[T]) -> T:
        line = _pipe(process.stdout).readline()
        if not line:
            raise HoldersFailed(f"a process of clients ended with code {process.wait()}")
        return msgspec.json.decode(line, type=shape)

    def let_go(self) -> int:
        """Returns how many were still held."""
        for process in self._processes:
            _pipe(process.stdin).close()
        held = sum(self._heard(process, int) for process in self._processes)
        for process in self._processes:
            process.wait()
        self.kill()
        return held

    def kill(self) -> None:
        """At once, as a crash does: what was held runs out."""
        for process in self._processes:
            process.kill()
            self._cluster.guardian.drop(process.pid)
            for stream in (process.stdin, process.stdout):
                _pipe(stream).close()
            process.wait()
        self._processes.clear()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "started with pipes"
    return stream
