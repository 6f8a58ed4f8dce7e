"""Processor time of the service and of the load, second by second."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import psutil

from .figures import Used

PERIOD_S = 1.0
OTHERS = "others"
"""What else ran on the machine."""


class ProcessorWatch:
    """Looks at the processes of ``named``, and at Locust's with all its children, while it is entered."""

    def __init__(self, named: dict[str, int], locust: int) -> None:
        self.used: list[Used] = []
        self._named = {pid: name for name, pid in named.items()}
        self._locust = psutil.Process(locust)
        self._seen: dict[psutil.Process, tuple[float, float]] = {}
        self._all: tuple[float, float] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="processor watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        servers = [psutil.Process(pid) for pid in self._named]
        while not self._over.wait(PERIOD_S):
            try:
                load = [self._locust, *self._locust.children(recursive=True)]
            except psutil.NoSuchProcess:
                load = []
            before = len(self.used)
            for process in (*servers, *load):
                self._look(process)
            self._look_at_all(sum(each.cores for each in self.used[before:]))

    def _look_at_all(self, ours: float) -> None:
        times, now_s = psutil.cpu_times(), time.time()
        busy_s = sum(times) - times.idle - getattr(times, "iowait", 0.0)
        if self._all is not None:
            cores = (busy_s - self._all[1]) / (now_s - self._all[0])
            self.used.append(Used(round(now_s, 2), OTHERS, round(max(cores - ours, 0.0), 3)))
        self._all = now_s, busy_s

    def _look(self, process: psutil.Process) -> None:
        try:
            times = process.cpu_times()
            name = self._named.get(process.pid) or self._name(process)
        except psutil.Error:
            return
        now_s, cpu_s = time.time(), times.user + times.system
        if before := self._seen.get(process):
            self.used.append(Used(round(now_s, 2), name, round((cpu_s - before[1]) / (now_s - before[0]), 3)))
        self._seen[process] = now_s, cpu_s

    def _name(self, process: psutil.Process) -> str:
        if "loadtests.locust.host" in process.cmdline():
            name = "clients"
        else:
            name = "locust" if process.pid == self._locust.pid else "locust worker"
        name = f"{name} {sum(each.startswith(name) for each in self._named.values()) + 1}"
        self._named[process.pid] = name
        return name
