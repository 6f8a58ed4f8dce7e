"""Loads a peer that runs, looks at it through one window, and says what was seen."""

from __future__ import annotations

import heapq
import itertools
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import psutil

from holdfast.bench.report import Quantiles, quantiles

from .loaders import Loader, Loaders, LoadFailed
from .parts import Mode, Part, Seen
from .peer import Fault, Kind, Peer, PeerFailed, Shape

NAMES_EACH = 8
FAIL_OVER_WORKERS = 16
BEFORE_FAULT_S = 1.0
AFTER_FAULT_S = 10.0


class Cell(msgspec.Struct, frozen=True, order=True):
    """One shape of load. ``apart``: every client has a connection of its own, where else those of a process share."""

    concurrency: int
    processes: int = 1
    apart: bool = False


class Sample(msgspec.Struct, frozen=True):
    """One measurement of a cell. Processor time in microseconds per cycle; ``foreign_cores``: what was busy on this
    machine besides; ``stolen``: the part of it that its host gave to others."""

    cycles_per_s: float
    acquire_ms: Quantiles | None
    cycle_ms: Quantiles | None
    servers_us: float
    clients_us: float
    foreign_cores: float
    stolen: float
    errors: dict[str, int]


class Gap(msgspec.Struct, frozen=True):
    """Seconds. ``nobody_s``: the longest time without a grant to anybody. ``longest_s``: the longest that one of the
    clients had none; it also counts where other leaders go on, and names of theirs are granted meanwhile."""

    nobody_s: float
    longest_s: float


class Bench:
    """Measures one peer. ``rawload``: the compiled program, None where there is no compiler."""

    def __init__(self, peer: Peer, rawload: Path | None, warm_up_s: float = 1.0) -> None:
        self._peer = peer
        self._rawload = rawload
        self._warm_up_s = warm_up_s

    def prove(self, kind: Kind) -> None:
        """That its grants exclude and its releases release. Raises :class:`LoadFailed`. A program proves it itself,
        whenever it starts."""
        if kind.shape is not Shape.PROGRAM:
            self._alone(self._part(kind, Mode.PROOF))

    def warm_up(self, kind: Kind, seconds: float) -> None:
        with self._loaders(kind, Cell(min(64, kind.workers_max))) as loaders:
            time.sleep(seconds)
            loaders.collect(0.0, 0.0)

    def cycles(self, kind: Kind, cell: Cell, seconds: float) -> Sample:
        """Raises :class:`LoadFailed`, and `PeerFailed` when a server has ended."""
        with self._loaders(kind, cell) as loaders:
            time.sleep(self._warm_up_s)
            servers = self._peer.pids()
            before = _Used.now(servers, loaders.pids())
            time.sleep(seconds)
            after = _Used.now(servers, loaders.pids())
            every = loaders.collect(before.at, after.at)
        if self._peer.pids() != servers:
            raise PeerFailed("a server ended while it was measured")
        return _sample(before, after, every)

    def hand_offs(self, kind: Kind, hold_s: float, seconds: float) -> list[float]:
        """Seconds each, sorted. Raises :class:`LoadFailed`."""
        part = msgspec.structs.replace(self._part(kind, Mode.HAND_OFF), hold_s=hold_s, seconds=seconds)
        return sorted(self._alone(part).handoffs)

    def fail_over(self, kind: Kind, number: int, fault: Fault) -> Gap:
        """Kill or stop a leader under load. All serve afterwards.

        Raises :class:`LoadFailed`, and `PeerFailed` when the peer does not recover.
        """
        with self._loaders(kind, Cell(FAIL_OVER_WORKERS), names_each=0) as loaders:
            time.sleep(self._warm_up_s + BEFORE_FAULT_S)
            hurt = time.monotonic()
            self._peer.hurt_leader(number, fault)
            time.sleep(AFTER_FAULT_S)
            every = loaders.collect(hurt - BEFORE_FAULT_S, time.monotonic())
        self._peer.restore()
        return gap_of([granted for seen in every for granted in seen.granted], hurt)

    def _alone(self, part: Part) -> Seen:
        with Loaders([Loader.of(part)]) as loaders:
            return loaders.collect_unasked()

    def _loaders(self, kind: Kind, cell: Cell, names_each: int = NAMES_EACH) -> Loaders:
        if kind.shape is Shape.PROGRAM:
            assert self._rawload is not None, "a kind that cannot run is left out"
            ports = ",".join(map(str, self._peer.target(kind)["ports"]))
            lines = min(kind.clients_max, cell.concurrency)
            words = [kind.module, ports, str(cell.concurrency), str(lines), str(names_each)]
            return Loaders([Loader.of_program([str(self._rawload), *words])])
        part = msgspec.structs.replace(self._part(kind, Mode.CYCLE), names_each=names_each)
        return Loaders([Loader.of(share) for share in shares(part, kind, cell)])

    def _part(self, kind: Kind, mode: Mode) -> Part:
        run = f"compare-{secrets.token_hex(4)}"
        return Part(mode, kind.module, kind.shape is Shape.THREADS, dict(self._peer.target(kind)), run)


def shares(part: Part, kind: Kind, cell: Cell) -> list[Part]:
    """Of each load process, as equal as can be."""
    found, first = [], 0
    for number in range(cell.processes):
        workers = (cell.concurrency - first) // (cell.processes - number)
        clients = workers if cell.apart else min(kind.clients_max, workers)
        found.append(msgspec.structs.replace(part, first_worker=first, workers=workers, clients=clients))
        first += workers
    return found


def gap_of(granted: Sequence[Sequence[float]], hurt: float) -> Gap:
    """``granted``: of each worker, when, in order. Raises :class:`LoadFailed`."""
    nobody_s = _longest(heapq.merge(*granted), hurt)
    if not nobody_s:
        raise LoadFailed("nothing was granted any more after the leader was hurt")
    return Gap(nobody_s, max(_longest(times, hurt) for times in granted))


def _longest(times: Iterable[float], since: float) -> float:
    """Between two of them, of what ended after ``since``; 0 when nothing did."""
    return max((later - earlier for earlier, later in itertools.pairwise(times) if later > since), default=0.0)


class _Used(msgspec.Struct, frozen=True):
    """Processor time until a moment, in seconds."""

    at: float
    servers: float
    clients: float
    machine: float
    stolen: float

    @classmethod
    def now(cls, servers: Iterable[int], clients: Iterable[int]) -> _Used:
        machine = psutil.cpu_times()
        idle = machine.idle + machine.iowait + machine.steal
        used = sum(map(_tree_s, servers)), sum(map(_tree_s, clients))
        # Guests' time is counted among the user's already.
        busy = sum(machine) - idle - machine.guest - machine.guest_nice
        return cls(time.monotonic(), *used, busy, machine.steal)


def _tree_s(pid: int) -> float:
    """Of a process, what it started, and what of that has ended."""
    process = psutil.Process(pid)
    ended = process.cpu_times()
    total = _own_s(process) + ended.children_user + ended.children_system
    for child in process.children(recursive=True):
        try:
            total += _own_s(child)
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue  # its time is its parent's now
    return total


def _own_s(process: psutil.Process) -> float:
    """To the nanosecond where there is one thread: hundreds of connections' processes use less than a tick each."""
    if process.num_threads() == 1:
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
    return sum(process.cpu_times()[:2])


def _sample(before: _Used, after: _Used, every: Sequence[Seen]) -> Sample:
    seconds = after.at - before.at
    acquires = list(heapq.merge(*(seen.acquires for seen in every)))
    cycles = list(heapq.merge(*(seen.cycles for seen in every)))
    errors: Counter[str] = Counter()
    for seen in every:
        errors.update(seen.errors)
    if not cycles:
        raise LoadFailed(f"not one cycle in {seconds:.1f} s; errors: {dict(errors)}")
    servers, clients = after.servers - before.servers, after.clients - before.clients
    return Sample(
        round(len(cycles) / seconds, 1),
        quantiles(acquires),
        quantiles(cycles),
        round(1e6 * servers / len(cycles), 1),
        round(1e6 * clients / len(cycles), 1),
        round(max(0.0, (after.machine - before.machine - servers - clients) / seconds), 2),
        round((after.stolen - before.stolen) / seconds / (psutil.cpu_count() or 1), 3),
        dict(errors),
    )
