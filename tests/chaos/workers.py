"""The client processes of a run: started, killed, stopped, replaced, and asked to come to an end."""

from __future__ import annotations

import signal
import time
from itertools import count
from pathlib import Path
from typing import Final

from holdfast.cluster import Guardian, ServerProcess

CONNECT_S: Final = 30.0


class Workers:
    """``directory`` gets a history and a log of each. Blocking; the slots are numbered from 0."""

    def __init__(self, directory: Path, guardian: Guardian, url: str, api_key: str, seed: str, callers: int) -> None:
        self.directory = directory
        self.store = directory / "sets.sqlite"
        self._guardian = guardian
        self._environment = ["env", f"HOLDFAST_URL={url}", f"HOLDFAST_API_KEY={api_key}"]
        self._seed = seed
        self._callers = callers
        self._numbers = count(1)
        self.running: list[ServerProcess] = []
        self._fallen: list[str] = []

    def start(self, workers: int) -> None:
        self.running = [self._spawn() for _ in range(workers)]
        self._await(self.running)

    def kill(self, slot: int) -> None:
        worker = self.running[slot]
        if not worker.running():
            self._fallen.append(f"{worker.name} ended by itself with code {worker.exit_code()}{worker.log_tail()}")
        worker.kill()

    def replace(self, slot: int) -> None:
        """Another one for one that was killed, with a history of its own."""
        self.running[slot] = self._spawn()
        self._await([self.running[slot]])

    def signal(self, slot: int, number: int) -> None:
        self.running[slot].signal(number)

    def finish(self, timeout_s: float) -> list[str]:
        """Tell all to come to an end; what is wrong with those that do not, or that had ended by themselves."""
        for worker in self.running:
            worker.signal(signal.SIGCONT)
            worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        wrong = self._fallen
        for worker in self.running:
            code = worker.wait(deadline)
            if code != 0:
                what = f"did not end within {timeout_s:.0f} s" if code is None else f"ended with code {code}"
                wrong.append(f"{worker.name} {what}{worker.log_tail()}")
            worker.kill()
        return wrong

    def histories(self) -> list[Path]:
        return sorted(self.directory.glob("worker-*.jsonl"))

    def _spawn(self) -> ServerProcess:
        number = next(self._numbers)
        history = self.directory / f"worker-{number}.jsonl"
        arguments = ["tests.chaos.worker", "--number", str(number), "--seed", self._seed]
        arguments += ["--callers", str(self._callers), "--history", str(history), "--store", str(self.store)]
        log = self.directory / f"worker-{number}.log"
        worker = ServerProcess(f"worker {number}", arguments, log, self._guardian, self._environment)
        worker.start()
        return worker

    @staticmethod
    def _await(workers: list[ServerProcess]) -> None:
        deadline = time.monotonic() + CONNECT_S
        for worker in workers:
            worker.await_listening(deadline)
