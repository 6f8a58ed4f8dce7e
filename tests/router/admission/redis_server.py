"""A real Redis for tests: stopped, slowed, killed and started again on the same port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.node.processes import free_addresses

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None and "CI" not in os.environ, reason="redis-server is not installed"
)
"""In CI a missing redis-server is a failure."""
START_S_MAX = 10.0


class RedisServer:
    def __init__(self, directory: Path, password: str = "") -> None:
        self.directory = directory
        self.password = password
        (self.address,) = free_addresses(1)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}{self.address}/0"

    def start(self) -> None:
        host, port = self.address.split(":")
        options = ["--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        if self.password:
            options += ["--requirepass", self.password]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None, "redis-server has ended"
                assert time.monotonic() < give_up, "redis-server does not listen"
                time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)
