"""One server process: started, awaited until it listens, signalled, reaped."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .guardian_client import Guardian

LOG_TAIL_LINES = 12


class ServerFailed(Exception):
    """A server ended, or did not come up in time; ``code`` is its exit code, ``None`` while it runs."""

    def __init__(self, name: str, code: int | None, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name
        self.code = code


class ServerProcess:
    """Runs ``python -m ARGUMENTS`` in a session of its own; its standard error goes to ``log``."""

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, guardian: Guardian, prefix: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.log = log
        self.arguments = list(arguments)
        self._prefix = list(prefix)
        self._guardian = guardian
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def running(self) -> bool:
        return self.exit_code() is None and self._process is not None

    def exit_code(self) -> int | None:
        """``None`` while it runs; minus the signal that killed it."""
        process = self._process
        if process is None or process.returncode is not None:
            return None if process is None else process.returncode
        # Seen to have ended, but not reaped: its number is still its own when the guardian forgets it.
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self._guardian.drop(process.pid)
        return process.wait()

    def start(self) -> None:
        assert not self.running(), f"{self.name} runs already"
        self._close_output()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._guardian.enlist,  # noqa: PLW1509 - one system call, no lock is taken
            )

    def await_listening(self, deadline: float) -> dict[str, Any]:
        """Its one line of output, once it listens. ``deadline`` is of ``time.monotonic``; raises ServerFailed."""
        assert self._process is not None
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise ServerFailed(self.name, None, f"did not listen in time{self.log_tail()}")
            data = os.read(output, 4096)
            if not data:
                code = self.wait(deadline)
                raise ServerFailed(self.name, code, f"ended with code {code}{self.log_tail()}")
            line += data
        found: dict[str, Any] = json.loads(line)
        return found

    def signal(self, number: int) -> None:
        """Nothing happens to a process that has ended."""
        if self.running():
            os.kill(self.pid, number)

    def wait(self, deadline: float) -> int | None:
        """Its exit code, ``None`` when it still runs at ``deadline`` (of ``time.monotonic``)."""
        while (code := self.exit_code()) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """End it for certain, stopped or not, and reap it."""
        if self.running():
            os.kill(self.pid, signal.SIGKILL)
            assert self._process is not None
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self.exit_code()
        self._close_output()

    def log_tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            return ""
        return "".join(f"\n  {line}" for line in lines)

    def _close_output(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
