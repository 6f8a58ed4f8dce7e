"""The parent's side of :mod:`holdfast.cluster.guardian`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = Path(__file__).with_name("guardian.py")


class Guardian:
    """Process groups enlisted here do not outlive this process, however it dies.

    ``alive`` is false once the guardian itself is gone: then nothing guards, and the caller has to decide.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def enlist(self) -> None:
        """To be called by a new process, leader of its group, before it runs its program (``preexec_fn``).

        So there is no moment at which it runs and is not guarded: the pipe, which it holds until its program runs,
        does not end before this line has been read.
        """
        os.write(self._pipe.fileno(), b"add %d\n" % os.getpid())

    def drop(self, group: int) -> None:
        """Call before the group's leader is reaped: afterwards its number may be another's."""
        self._tell(f"drop {group}")

    def deadline(self, at_s: float) -> None:
        """Kill the groups at this reading of CLOCK_BOOTTIME (CLOCK_MONOTONIC on macOS) unless told otherwise."""
        self._tell(f"deadline {at_s!r}")

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe.fileno(), line.encode() + b"\n")

    def close(self) -> None:
        """Kills what was enlisted and not dropped."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait()
