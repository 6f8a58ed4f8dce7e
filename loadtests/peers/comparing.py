"""One comparison: each service started, warmed, measured and stopped, again and again, in alternating order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import msgspec
import psutil

from holdfast.bench import report
from holdfast.errors import HoldfastError

from .figures import Comparison
from .loaders import LoadFailed
from .measuring import Bench, Cell
from .peer import Fault, Kind, Peer, Shape
from .rawload import compiled
from .roster import PEERS
from .servers import PeerFailed

WORKERS_OF_A_PROCESS_MIN = 32
APART = 64


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds``: of each measurement, after ``warm_up_s`` of the same load. ``warm_servers``: load each service as
    long as it needs before anything counts. ``hold_ms``: of hand-offs, each measured. ``kills``, ``stops``: of leaders,
    in each repetition."""

    peers: tuple[str, ...] = tuple(PEERS)
    concurrency: tuple[int, ...] = (1, 16, 64, 256, 1024)
    processes: tuple[int, ...] = (1, 2)
    seconds: float = 4.0
    warm_up_s: float = 1.0
    warm_servers: bool = True
    repetitions: int = 3
    hold_ms: tuple[float, ...] = (20.0, 150.0)
    kills: int = 2
    stops: int = 1


def cells_of(kind: Kind, options: Options) -> Iterator[Cell]:
    """A program is one process. Others get a second where each has enough to do; and once no connection is shared."""
    for concurrency in options.concurrency:
        if concurrency > kind.workers_max:
            continue
        for processes in options.processes:
            enough = processes == 1 or concurrency >= processes * WORKERS_OF_A_PROCESS_MIN
            if not enough or (kind.shape is Shape.PROGRAM and processes > 1):
                continue
            yield Cell(concurrency, processes)
            if concurrency == APART and kind.shape is Shape.TASKS and kind.clients_max == 1:
                yield Cell(concurrency, processes, apart=True)


class Run:
    """``found`` fills while it goes on."""

    def __init__(self, options: Options, rawload: Path) -> None:
        self._options = options
        self._rawload = compiled(rawload)
        self.found = Comparison(report.machine(), report.commit(), report.now(), options.seconds, options.repetitions)
        self._present = [peer for name in options.peers if self._is_there(peer := PEERS[name])]

    def _is_there(self, peer: type[Peer]) -> bool:
        if missing := peer.missing():
            self._leave_out(f"{peer.title}: {missing}")
        for kind in peer.kinds:
            if not missing and (lacks := kind.missing()):
                self._leave_out(f"{peer.title}, {kind.name}: {lacks}")
        return not missing

    def repetition(self, number: int) -> None:
        """Every other one backwards, so that what drifts with time weighs on none."""
        for peer in self._present if number % 2 == 0 else reversed(self._present):
            try:
                with peer() as serving:
                    self._measure(serving, number)
            except (PeerFailed, HoldfastError, OSError, psutil.Error) as error:
                # A server that ended, or does not answer what it is asked of itself: the others go on.
                self._leave_out(f"{peer.title}, repetition {number + 1}: {error}")

    def _measure(self, peer: Peer, number: int) -> None:
        options = self._options
        self.found.servers[peer.name] = peer.version()
        kinds = [kind for kind in peer.kinds if not kind.missing()]
        bench = Bench(peer, self._rawload, options.warm_up_s)
        warm_up_s = peer.warm_up_s / max(1, len(kinds)) if options.warm_servers else 0.0
        for kind in kinds:
            if kind.library:
                self.found.libraries[kind.library] = version(kind.library)
            try:
                bench.prove(kind)
                bench.warm_up(kind, max(options.warm_up_s, warm_up_s))
            except LoadFailed as error:
                self._leave_out(f"{peer.title}, {kind.name}, repetition {number + 1}: {error}")
                continue
            self._cycles(bench, peer, kind, number)
            self._hand_offs(bench, peer, kind, number)
        if peer.fails_over and not peer.fails_over.missing():
            self._fail_overs(bench, peer, peer.fails_over, number)

    def _cycles(self, bench: Bench, peer: Peer, kind: Kind, number: int) -> None:
        for cell in cells_of(kind, self._options):
            self._say(f"{number + 1}/{self._options.repetitions} {peer.title}, {kind.name}: {cell}")
            entry = self.found.cycles_of(peer.name, kind.name, cell)
            entry.samples += [None] * (number - len(entry.samples))
            try:
                entry.samples.append(bench.cycles(kind, cell, self._options.seconds))
            except LoadFailed as error:
                entry.samples.append(None)
                self._leave_out(f"{peer.title}, {kind.name}, {cell}, repetition {number + 1}: {error}")

    def _hand_offs(self, bench: Bench, peer: Peer, kind: Kind, number: int) -> None:
        for hold_ms in self._options.hold_ms if kind.waits else ():
            entry = self.found.hand_offs_of(peer.name, kind.name, hold_ms / 1000)
            entry.times_s += [[] for _ in range(number - len(entry.times_s))]
            try:
                entry.times_s.append(bench.hand_offs(kind, hold_ms / 1000, self._options.seconds))
            except LoadFailed as error:
                self._leave_out(f"{peer.title}, {kind.name}, hand-off, repetition {number + 1}: {error}")

    def _fail_overs(self, bench: Bench, peer: Peer, kind: Kind, number: int) -> None:
        faults = [Fault.KILL] * self._options.kills + [Fault.STOP] * self._options.stops
        for turn, fault in enumerate(faults):
            self._say(f"{number + 1}/{self._options.repetitions} {peer.title}, {fault} of a leader")
            entry = self.found.fail_overs_of(peer.name, kind.name, fault)
            try:
                entry.gaps.append(bench.fail_over(kind, number * len(faults) + turn, fault))
            except LoadFailed as error:
                self._leave_out(f"{peer.title}, {fault} of a leader, repetition {number + 1}: {error}")

    def _leave_out(self, line: str) -> None:
        self.found.left_out.append(line)
        self._say(f"left out: {line}")

    @staticmethod
    def _say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
