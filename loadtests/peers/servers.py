"""One server process of a peer: started, awaited, killed, stopped."""

from __future__ import annotations

import enum
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast.cluster import Guardian

STOP_TIMEOUT_S = 10.0
LOG_TAIL_LINES = 8


class Fault(enum.StrEnum):
    KILL = "kill -9"
    STOP = "SIGSTOP"
    """It keeps its connections, and says nothing."""


class PeerFailed(Exception):
    """A server did not come up, or did not do right; the message has the end of its log."""


class Server:
    """``user``: whom it runs as, for servers that refuse to run as root; None for whoever we are. ``directory``: where
    it runs, by default where its log is."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        guardian: Guardian,
        *,
        user: str | None = None,
        directory: Path | None = None,
    ) -> None:
        self._command = list(command)
        self._log = log
        self._guardian = guardian
        self._user = user
        self._directory = directory or log.parent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it was never started"
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                user=self._user,
                process_group=0,
                preexec_fn=self._guardian.enlist,  # noqa: PLW1509 - one system call, no lock is taken
            )

    def hurt(self, fault: Fault) -> None:
        """After a kill it is gone when this returns."""
        if fault is Fault.KILL:
            self.kill()
        elif self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Nothing happens to one that was not stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; it is gone when this returns."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._guardian.drop(self._process.pid)
            self._process.wait()

    def stop(self) -> None:
        """Asks, and then makes sure. SIGINT is what every peer takes for an orderly end without waiting for clients."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        self.resume()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._guardian.drop(self._process.pid)

    def await_that(self, serves: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Until ``serves``, which may raise OSError for as long as nobody listens. Raises :class:`PeerFailed`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if serves():
                    return
            except OSError:
                pass  # nobody listens yet
            if not self.running():
                raise PeerFailed(f"{self._command[0]} ended{self._tail()}")
            if time.monotonic() > deadline:
                raise PeerFailed(f"{self._command[0]} did not serve within {timeout_s:g} s{self._tail()}")
            time.sleep(0.05)

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "".join(f"\n  {line}" for line in lines)


def free_ports(count: int) -> list[int]:
    """Of 127.0.0.1, all different, where nobody listened a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def ask(port: int, request: bytes, timeout_s: float = 2.0) -> bytes:
    """What a server answers to a line of its own text protocol, up to 64 KiB. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as stream:
        stream.sendall(request)
        return stream.recv(1 << 16)
