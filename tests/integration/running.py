"""The command line as a user runs it: real processes, an own state directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from holdfast.cli.credentials import Credentials

from ..cli.processes import wait_until

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))


def holdfast(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout_s: float = 45.0
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [HOLDFAST, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def environment_in(directory: Path) -> dict[str, str]:
    """Of a user who has no settings and whose state directory is ``directory``."""
    hidden = {"HOLDFAST_URL", "HOLDFAST_API_KEY"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    # A killed "up" cannot remove its temporary directory: it goes with the test's.
    return {**kept, "XDG_STATE_HOME": str(directory), "TMPDIR": str(directory)}


class Up:
    """``holdfast up`` in the background, on a port of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.environment = environment_in(directory)
        self.state = directory / "holdfast"
        self._output = directory / "up.out"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [HOLDFAST, "up", "--listen", "127.0.0.1:0", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self._output.read_text()

    def await_said(self, text: str) -> None:
        wait_until(lambda: text in self.said() or self.process.poll() is not None, repr(text), 40)
        assert text in self.said(), self.said()

    def await_ready(self) -> None:
        self.await_said("Ctrl-C stops it")

    def credentials(self) -> Credentials:
        (path,) = self.state.glob("*.json")
        return msgspec.json.decode(path.read_bytes(), type=Credentials)

    def directory(self) -> Path:
        """Where its servers keep their data, from the command line of one of them."""
        arguments = next(line for pid in self.server_pids() if "--data" in (line := _command_line(pid)))
        return Path(arguments[arguments.index("--data") + 1]).parent

    def server_pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if any(word.startswith("holdfast_") for word in _command_line(int(pid)))]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
