"""Processes given to the guardian end with their parent, however it ends, and at a deadline that is not moved on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from holdfast.cluster import Guardian

from .processes import gone, wait_until

PARENT = """
import subprocess, sys
from holdfast.cluster import Guardian
guardian = Guardian()
child = subprocess.Popen(["sleep", "60"], start_new_session=True, preexec_fn=guardian.enlist)
print(child.pid, flush=True)
sys.stdin.read()
"""


def _sleeper(guardian: Guardian) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], start_new_session=True, preexec_fn=guardian.enlist)  # noqa: PLW1509


def test_a_killed_parent_takes_its_processes_along() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: gone(child), "the child to be killed")


def test_closing_kills_what_was_not_dropped() -> None:
    guardian = Guardian()
    with _sleeper(guardian) as doomed, _sleeper(guardian) as spared:
        guardian.drop(spared.pid)
        guardian.close()
        assert doomed.wait(5) == -signal.SIGKILL
        assert spared.poll() is None
        spared.kill()


def test_the_deadline_kills_unless_it_is_moved_on() -> None:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    guardian = Guardian()
    with _sleeper(guardian) as doomed:
        began = time.clock_gettime(clock)
        guardian.deadline(began + 0.1)
        guardian.deadline(began + 0.4)
        assert doomed.wait(5) == -signal.SIGKILL
        assert time.clock_gettime(clock) - began >= 0.4
    guardian.close()
