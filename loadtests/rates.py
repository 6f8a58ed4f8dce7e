"""One tenant's rate through three routers and one Redis, which is killed and comes back.

Run: ``python loadtests/rates.py [--window 30]``. Prints one JSON object: operations a second that callers got done, and
that routers admitted, over windows of so many seconds: Redis there; killed in the middle; gone; started again (empty)
in the middle; there again. Load, through the SDK, on all three routers, more than the quota in each window.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

import holdfast
from holdfast.errors import HoldfastError, Throttled

RATE, BURST = 1500, 3000
ROUTERS = 3
CLIENTS_PER_ROUTER = 4
WORKERS_PER_CLIENT = 32


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Processes:
    """One node, three routers, one Redis."""

    def __init__(self, root: Path) -> None:
        self.redis_port = free_port()
        self.redis = self.start_redis()
        cluster = root / "cluster"
        self._node_address = f"127.0.0.1:{free_port()}"
        formed = _holdfast_shard("form", "--nodes", self._node_address, "--groups", "2", "--replicas", "1",
                                 "--out", str(cluster))  # fmt: skip
        self.key: str = json.loads(formed.stdout)["api_key"]
        self.operator_key: str = json.loads(formed.stdout)["operator_key"]
        for path in (cluster / "formation.json", cluster / "node-1" / "formation.json"):
            _limit(path)
        self._log = (root / "log").open("w+")
        self._all = [self._start("holdfast_shard", "node", "--data", str(cluster / "node-1"))[0]]
        self.routers: list[str] = []
        for _ in range(ROUTERS):
            process, line = self._start(
                "holdfast_router", "--formation", str(cluster / "formation.json"), "--listen", "127.0.0.1:0"
            )
            self._all.append(process)
            self.routers.append(f"holdfast://{line['address']}")

    def _start(self, module: str, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        environment = {**os.environ, "HOLDFAST_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}"}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    def start_redis(self) -> subprocess.Popen[bytes]:
        arguments = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)

    def lines_about_redis(self) -> int:
        self._log.seek(0)
        return sum("Redis" in line for line in self._log)

    def stop(self) -> None:
        for process in (*self._all, self.redis):
            process.terminate()
        for process in (*self._all, self.redis):
            process.wait(10)
        self._log.close()


def _holdfast_shard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast_shard", *arguments], capture_output=True, text=True, check=True
    )


def _limit(formation: Path) -> None:
    """Give the default tenant the quota that is measured."""
    content = json.loads(formation.read_text())
    for tenant in content["tenants"]:
        if tenant[0] == 1:
            tenant[6][0:2] = [RATE, BURST]
    formation.write_text(json.dumps(content))


class Load:
    def __init__(self) -> None:
        self.done = 0
        self.throttled = 0
        self.errors: Counter[str] = Counter()
        self.numbers = iter(range(1 << 60))

    async def worker(self, client: holdfast.Client) -> None:
        while True:
            try:
                lock = client.lock(f"rates/{next(self.numbers)}", ttl=30)
                await lock.acquire()
                self.done += 1
                await lock.release()
                self.done += 1
            except Throttled as error:
                self.throttled += 1
                await asyncio.sleep(error.retry_after_ms / 1000)
            except HoldfastError as error:
                self.errors[f"{type(error).__name__}: {error}"] += 1


async def _admitted(clients: list[holdfast.Client]) -> int:
    statuses = [await client.status() for client in clients]
    return sum(status["router"]["admission"]["admitted"] for status in statuses)


async def _window(load: Load, routers: list[holdfast.Client], seconds: float) -> dict[str, float]:
    done, admitted, began = load.done, await _admitted(routers), time.monotonic()
    await asyncio.sleep(seconds)
    admitted_then, done_then, took = await _admitted(routers), load.done, time.monotonic() - began
    return {
        "done_per_s": round((done_then - done) / took, 1),
        "of_quota": round((done_then - done) / took / RATE, 3),
        "admitted_of_quota": round((admitted_then - admitted) / took / RATE, 3),
    }


async def run(processes: Processes, window_s: float) -> dict[str, object]:
    load = Load()
    clients = [
        await holdfast.connect(url, processes.key) for url in processes.routers for _ in range(CLIENTS_PER_ROUTER)
    ]
    one_of_each = [await holdfast.connect(url, processes.operator_key) for url in processes.routers]
    workers = [asyncio.create_task(load.worker(client)) for client in clients for _ in range(WORKERS_PER_CLIENT)]
    await asyncio.sleep(10)
    found: dict[str, object] = {
        "quota": RATE,
        "window_s": window_s,
        "there": await _window(load, one_of_each, window_s),
    }

    def kill() -> None:
        processes.redis.kill()

    def start() -> None:
        processes.redis = processes.start_redis()

    loop = asyncio.get_running_loop()
    loop.call_later(window_s / 2, kill)
    found["killed_in_the_middle"] = await _window(load, one_of_each, window_s)
    found["gone"] = await _window(load, one_of_each, window_s)
    loop.call_later(window_s / 2, start)
    found["started_in_the_middle"] = await _window(load, one_of_each, window_s)
    found["there_again"] = await _window(load, one_of_each, window_s)
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    for client in (*clients, *one_of_each):
        await client.close()
    found |= {"throttled": load.throttled, "errors": dict(load.errors), "log_lines": processes.lines_about_redis()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=float, default=30.0, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        processes = Processes(Path(root))
        try:
            print(json.dumps(uvloop.run(run(processes, options.window)), indent=2))
        finally:
            processes.stop()


if __name__ == "__main__":
    main()
