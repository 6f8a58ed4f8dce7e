"""Kills process groups when the process that started them is gone, or has not come back by a deadline.

Run as a program of its own, in a session of its own, so that neither ``kill -9`` nor a stop of its parent, nor a lost
terminal, touches it. Lines on standard input: ``add GROUP``, ``drop GROUP``, ``deadline SECONDS`` (on a clock that runs
through suspend; ``inf`` for none). At the end of input, or when the deadline passes, every group it knows is killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LOOK_AGAIN_S = 1.0
"""select() does not count time asleep: look at the clock at least this often while a deadline is set."""


def _kill(groups: set[int]) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    groups.clear()


def _obey(line: bytes, groups: set[int], deadline: float) -> float:
    word, _, value = line.partition(b" ")
    if word == b"add":
        groups.add(int(value))
    elif word == b"drop":
        groups.discard(int(value))
    elif word == b"deadline":
        return float(value)
    return deadline


def guard(source: int) -> None:
    groups: set[int] = set()
    deadline = float("inf")
    pending = b""
    while True:
        left = deadline - time.clock_gettime(_CLOCK)
        if left <= 0:
            _kill(groups)
            deadline, left = float("inf"), float("inf")
        timeout = None if left == float("inf") else min(left, _LOOK_AGAIN_S)
        if not select.select([source], [], [], timeout)[0]:
            continue
        data = os.read(source, 65536)
        if not data:
            _kill(groups)
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            deadline = _obey(line, groups, deadline)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin.fileno())
