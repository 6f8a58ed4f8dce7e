"""What the operating system counts of processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def server_is_local(pid: int) -> bool:
    """Whether a process id that a server reported is that of a server on this machine."""
    try:
        return pid > 0 and b"holdfast_" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def seconds_of(pids: Iterable[int]) -> float | None:
    """User and system time of all of them together, children not counted; ``None`` where it cannot be had."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        total += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return total


class Moved(msgspec.Struct, frozen=True):
    """Reads and writes, and the bytes written, of sockets and files alike (``/proc/PID/io`` in proc(5))."""

    calls: int
    written_bytes: int

    def since(self, before: Moved) -> Moved:
        return Moved(self.calls - before.calls, self.written_bytes - before.written_bytes)


def moved_by(pids: Iterable[int]) -> Moved | None:
    """All of them together; ``None`` where it cannot be had: it takes the right to trace them."""
    calls = written_bytes = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        except OSError:
            return None
        counted = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
        calls += counted["syscr"] + counted["syscw"]
        written_bytes += counted["wchar"]
    return Moved(calls, written_bytes)
