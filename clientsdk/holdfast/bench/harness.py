"""Starts load processes, measures them and the servers over one window, and puts the figures together."""

from __future__ import annotations

import contextlib
import heapq
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import msgspec

from holdfast.address import Address, parse_url
from holdfast.cluster import ClusterStatus, Guardian, fetch_status

from . import processes as counted
from . import report
from .report import CpuPerCycle, Report
from .spec import Part, Seen, Spec, Window
from .work import Counts, Work

WARM_UP_S = 1.0
ANSWER_TIMEOUT_S = 60.0


class BenchFailed(Exception):
    """A load process did not do its part; its own words are on standard error."""


def measure(url: str, api_key: str, spec: Spec, *, operator_key: str = "") -> Report:
    """Load the cluster at ``url`` as ``spec`` says. Without the operator's key the servers' processor time is unknown.

    Raises ``ValueError`` for a spec outside its ranges, :class:`BenchFailed`, and the service's errors.
    """
    spec.validate()
    address: Address = parse_url(url)
    status = fetch_status(address, api_key)
    if operator_key:
        status = fetch_status(address, operator_key)
    with contextlib.ExitStack() as stack:
        stamp = stack.enter_context(tempfile.NamedTemporaryFile(prefix="holdfast-bench-"))
        stamp.write(bytes(8))
        stamp.flush()
        parts = _parts(spec, url, api_key, stamp.name)
        processes = stack.enter_context(_load_processes(parts))
        time.sleep(WARM_UP_S)
        groups = _Groups.of(status, [process.pid for process in processes])
        before = _counts(address, operator_key, groups)
        window, used = _observe(spec.seconds, groups)
        after = _counts(address, operator_key, groups)
        seen = _collect(processes, window)
    rate = len(seen.cycles) / (window.until - window.since)
    work = before.until(after, rate) if before is not None and after is not None else None
    return _report(spec, status, window, used, seen, work)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Process ids by what they are; ``None`` when they are not this machine's."""

    client: list[int]
    router: list[int] | None
    nodes: list[int] | None

    @classmethod
    def of(cls, status: ClusterStatus, clients: list[int]) -> _Groups:
        def local(pids: list[int]) -> list[int] | None:
            return pids if pids and all(map(counted.server_is_local, pids)) else None

        return cls(clients, local([status.router.pid]), local([node.pid for node in status.nodes if node.up]))

    @property
    def servers(self) -> list[int] | None:
        return None if self.router is None or self.nodes is None else self.router + self.nodes

    def seconds(self) -> list[float | None]:
        return [None if pids is None else counted.seconds_of(pids) for pids in (self.client, self.router, self.nodes)]


def _counts(address: Address, operator_key: str, groups: _Groups) -> Counts | None:
    return Counts.of(fetch_status(address, operator_key), groups.servers) if operator_key else None


def _parts(spec: Spec, url: str, api_key: str, stamp: str) -> list[Part]:
    run, first, parts = secrets.token_hex(4), 0, []
    for number in range(spec.processes):
        workers = (spec.concurrency - first) // (spec.processes - number)
        parts.append(Part(url, api_key, spec.mode, run, first, workers, stamp))
        first += workers
    return parts


@contextlib.contextmanager
def _load_processes(parts: Sequence[Part]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Running, connected and under load when entered; gone when left."""
    guardian = Guardian()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for part in parts:
            process = subprocess.Popen(
                [sys.executable, "-m", "holdfast.bench.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
                preexec_fn=guardian.enlist,  # noqa: PLW1509 - one system call, no lock is taken
            )
            processes.append(process)
            _pipe(process.stdin).write(msgspec.json.encode(part) + b"\n")
            _pipe(process.stdin).flush()
        for process in processes:
            if _pipe(process.stdout).readline() != b"ready\n":
                raise BenchFailed(f"a load process ended with code {process.wait(ANSWER_TIMEOUT_S)}")
        yield processes
    finally:
        for process in processes:
            process.kill()
            guardian.drop(process.pid)
            process.communicate()
        guardian.close()


def _observe(seconds: float, groups: _Groups) -> tuple[Window, list[float | None]]:
    before, since = groups.seconds(), time.monotonic()
    time.sleep(seconds)
    after, until = groups.seconds(), time.monotonic()
    used = [None if a is None or b is None else a - b for a, b in zip(after, before, strict=True)]
    return Window(since, until), used


def _collect(processes: Sequence[subprocess.Popen[bytes]], window: Window) -> Seen:
    for process in processes:
        _pipe(process.stdin).write(msgspec.json.encode(window) + b"\n")
        _pipe(process.stdin).flush()
    every = []
    for process in processes:
        output = _pipe(process.stdout).read()
        if process.wait(ANSWER_TIMEOUT_S) != 0:
            raise BenchFailed(f"a load process ended with code {process.returncode}")
        every.append(msgspec.msgpack.decode(output, type=Seen))
    errors: Counter[str] = Counter()
    for seen in every:
        errors.update(seen.errors)
    return Seen(
        list(heapq.merge(*(seen.acquires for seen in every))),
        list(heapq.merge(*(seen.cycles for seen in every))),
        list(heapq.merge(*(seen.handoffs for seen in every))),
        dict(errors),
    )


def _report(
    spec: Spec, status: ClusterStatus, window: Window, used_s: list[float | None], seen: Seen, work: Work | None
) -> Report:
    cycles = len(seen.cycles)
    client, router, nodes = (None if used is None or not cycles else 1e6 * used / cycles for used in used_s)
    total = None if client is None or router is None or nodes is None else client + router + nodes
    return Report(
        spec,
        cycles,
        round(cycles / (window.until - window.since), 1),
        report.quantiles(seen.acquires),
        report.quantiles(seen.cycles),
        report.quantiles(seen.handoffs),
        CpuPerCycle(*map(_tenths, (client, router, nodes, total))),
        work,
        seen.errors,
        len(status.nodes),
        len({group.group for node in status.nodes for group in node.groups} - {0}),
        report.machine(),
        report.commit(),
        report.now(),
    )


def _tenths(cost_us: float | None) -> float | None:
    return None if cost_us is None else round(cost_us, 1)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "started with pipes"
    return stream
