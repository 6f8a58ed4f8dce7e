"""Load processes: started, awaited until their load runs, told the window, heard, gone."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from holdfast.cluster import Guardian

from .parts import Part, Seen

ANSWER_TIMEOUT_S = 60.0
LOAD_S_MAX = 600.0
"""Then a load process that hangs is killed, so that the rest of a comparison goes on."""
CHECKOUT = Path(__file__).parents[2]
_COUNT = struct.Struct("=Q")


class LoadFailed(Exception):
    """A load process did not do its part, or saw nothing; its own words are on standard error."""


@dataclass(frozen=True, slots=True)
class Loader:
    """One process to be. ``says``: its first line of input. ``program``: it is `rawload`, which answers in arrays."""

    command: Sequence[str]
    says: bytes
    program: bool

    @classmethod
    def of(cls, part: Part) -> Loader:
        return cls([sys.executable, "-m", "loadtests.peers.load"], msgspec.json.encode(part) + b"\n", program=False)

    @classmethod
    def of_program(cls, command: Sequence[str]) -> Loader:
        return cls(command, b"", program=True)

    def decode(self, output: bytes) -> Seen:
        if not self.program:
            return msgspec.msgpack.decode(output, type=Seen)
        (count,) = _COUNT.unpack_from(output)
        values = struct.unpack_from(f"={2 * count}d", output, _COUNT.size)
        return Seen(sorted(values[:count]), sorted(values[count:]))


class Loaders:
    """Running, connected and under load when entered; gone when left."""

    def __init__(self, loaders: Sequence[Loader]) -> None:
        self._loaders = loaders
        self._processes: list[subprocess.Popen[bytes]] = []
        self._guardian = Guardian()

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def __enter__(self) -> Self:
        self._guardian.deadline(time.clock_gettime(time.CLOCK_BOOTTIME) + LOAD_S_MAX)
        try:
            for loader in self._loaders:
                process = subprocess.Popen(
                    list(loader.command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,  # a write to a process that has ended fails at once, and not again when closed
                    cwd=CHECKOUT,
                    process_group=0,
                    preexec_fn=self._guardian.enlist,  # noqa: PLW1509 - one system call, no lock is taken
                )
                self._processes.append(process)
                _tell(process, loader.says)
            for process in self._processes:
                if _pipe(process.stdout).readline() != b"ready\n":
                    raise LoadFailed(f"a load process ended with code {process.wait(ANSWER_TIMEOUT_S)}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def collect(self, since: float, until: float) -> list[Seen]:
        """Tell them the window, in seconds of CLOCK_MONOTONIC. Raises :class:`LoadFailed`."""
        for process in self._processes:
            _tell(process, b"%r %r\n" % (since, until))
        return [self._answer(number) for number in range(len(self._processes))]

    def collect_unasked(self) -> Seen:
        """Of the one process, whose work ends by itself. Raises :class:`LoadFailed`."""
        return self._answer(0)

    def _answer(self, number: int) -> Seen:
        process = self._processes[number]
        output = _pipe(process.stdout).read()
        if process.wait(ANSWER_TIMEOUT_S) != 0:
            raise LoadFailed(f"a load process ended with code {process.returncode}")
        return self._loaders[number].decode(output)

    def _end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            self._guardian.drop(process.pid)
            process.wait()
            _pipe(process.stdin).close()
            _pipe(process.stdout).close()
        self._guardian.close()


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    try:
        _pipe(process.stdin).write(line)
    except BrokenPipeError:
        raise LoadFailed(f"a load process ended with code {process.wait(ANSWER_TIMEOUT_S)}") from None


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "started with pipes"
    return stream
