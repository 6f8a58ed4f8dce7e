"""Processor time of processes of this machine, as the operating system counts it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

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
