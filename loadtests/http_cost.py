"""What HTTP costs: beside a bare endpoint of Starlette and uvicorn, one request at a time on each connection, and, for
batches of 100, beside the SDK with as many operations at once. All in one run, on a local cluster of three nodes.

``python -m loadtests.http_cost``; shorter: ``--connections 16 --batches 1 --repetitions 1 --seconds 2``. Prints two
tables, medians of the repetitions; ``--json`` keeps every one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import holdfast
from holdfast.bench.processes import seconds_of
from holdfast.cluster import ClusterError, LocalCluster
from holdfast_router.http.server import IDLE_S

from .http_client import HttpConnection, head_of, post
from .markdown import figure, numbers, table_of, whole
from .spread import Spread

CONNECTIONS = (1, 16, 64)
BATCHES = (1, 4)
BATCH = 100
WARM_UP_S = 0.5
TTL_MS = 30_000
WIDE = 240
"""Columns where nobody looks: no line of a table is to be broken in a file."""

BARE, HTTP, BATCHED, SDK = "bare", "http", "batch", "sdk"

# A bare endpoint: it reads JSON, awaits once, and answers JSON of the size of a grant.

GRANT = {
    "name": "http-cost/0123456789/12/345678", "token": 123456789, "lock_id": "hfl1_" + "A" * 86, "expires_in_ms": 29698,
    "session": "",
}  # fmt: skip


async def _granted(request: Request) -> JSONResponse:
    await request.json()
    await asyncio.sleep(0)
    return JSONResponse(GRANT)


def serve_bare() -> None:
    """Prints its port first. The settings are those of the router's server."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    app = Starlette(routes=[Route("/v1/acquire", _granted, methods=["POST"])])
    settings: dict[str, Any] = {
        "http": "httptools", "loop": "uvloop", "lifespan": "off", "log_config": None, "access_log": False,
        "ws": "none", "server_header": False, "proxy_headers": False, "timeout_keep_alive": IDLE_S,
    }  # fmt: skip
    uvicorn.Server(uvicorn.Config(app, **settings)).run([listening])


@contextlib.contextmanager
def bare_server(cluster: LocalCluster) -> Iterator[tuple[int, int]]:
    """Its process id and port. It ends with the cluster at the latest."""
    command = [sys.executable, "-m", "loadtests.http_cost", "--serve-bare"]
    enlist = cluster.guardian.enlist
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0, preexec_fn=enlist)  # noqa: PLW1509 - one system call, no lock is taken
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        cluster.guardian.drop(process.pid)
        process.communicate()


# Measuring.


class Measured(msgspec.Struct, frozen=True):
    """``what`` was asked by so many connections, or of the SDK: operations ``at_once``. CPU in microseconds of an
    operation (user and system): of the process that serves, of the nodes behind it, and of this one, which asks."""

    what: str
    at_once: int
    operations_per_s: float
    server_us: float
    nodes_us: float
    client_us: float

    @property
    def total_us(self) -> float:
        return self.server_us + self.nodes_us + self.client_us


@dataclass(frozen=True)
class Target:
    """``servers``: process ids of what serves, and of what stands behind."""

    address: tuple[str, int]
    key: str
    servers: list[int]
    nodes: list[int]


Cycle = Callable[[str], Awaitable[int]]
"""Takes and lets go of what has this prefix, for its own use alone; how many operations that was."""


async def measured(what: str, at_once: int, cycles: Sequence[Cycle], target: Target, seconds: float) -> Measured:
    """``cycles``: those that are gone round at the same time, each for itself."""
    done = 0
    run = secrets.token_hex(5)

    async def go_round(cycle: Cycle, number: int) -> None:
        nonlocal done
        for count in itertools.count():
            operations = await cycle(f"http-cost/{run}/{number}/{count}")
            done += operations

    going = [asyncio.create_task(go_round(cycle, number)) for number, cycle in enumerate(cycles)]
    try:
        await asyncio.sleep(WARM_UP_S)
        since, used, did = time.perf_counter(), _used_s(target), done
        await asyncio.wait(going, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        took_s, ended, counted = time.perf_counter() - since, _used_s(target), done - did
    finally:
        for task in going:
            task.cancel()
        results = await asyncio.gather(*going, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    cost_us = (1e6 * (after - before) / counted for after, before in zip(ended, used, strict=True))
    return Measured(what, at_once, counted / took_s, *cost_us)


def _used_s(target: Target) -> tuple[float, float, float]:
    servers, nodes = seconds_of(target.servers), seconds_of(target.nodes)
    assert servers is not None, "these processes are this machine's"
    assert nodes is not None, "these processes are this machine's"
    return servers, nodes, time.process_time()


class HttpClient:
    """One connection."""

    def __init__(self, connection: HttpConnection, target: Target) -> None:
        self._connection = connection
        self._head = head_of(target.address[0], target.key)

    async def one_by_one(self, name: str) -> int:
        """An acquire and a release."""
        granted = await self._post("/v1/acquire", {"name": name, "ttl_ms": TTL_MS})
        await self._post("/v1/release", {"lock_id": granted["lock_id"]})
        return 2

    async def bare(self, name: str) -> int:
        await self._post("/v1/acquire", {"name": name, "ttl_ms": TTL_MS})
        return 1

    async def batch(self, prefix: str) -> int:
        """``BATCH`` acquires, and as many releases."""
        acquires = [{"op": "acquire", "name": f"{prefix}/{at}", "ttl_ms": TTL_MS} for at in range(BATCH)]
        granted = await self._batch(acquires)
        await self._batch([{"op": "release", "lock_id": one["lock_id"]} for one in granted])
        return 2 * BATCH

    async def _batch(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answer = await self._post("/v1/batch", {"operations": operations})
        return [one["result"] for one in answer["results"]]

    async def _post(self, path: str, given: dict[str, Any]) -> Any:
        status, answer = await self._connection.ask(post(path, self._head, json.dumps(given)))
        if status != 200:
            raise RuntimeError(f"{path} was answered with {status}: {answer.decode()}")
        return json.loads(answer)


async def over_http(
    what: str, connections: int, cycle: Callable[[HttpClient, str], Awaitable[int]], target: Target, seconds: float
) -> Measured:
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(HttpConnection, *target.address))[1] for _ in range(connections)]
    clients = [HttpClient(connection, target) for connection in opened]
    try:
        cycles = [partial(cycle, client) for client in clients]
        return await measured(what, connections, cycles, target, seconds)
    finally:
        for connection in opened:
            connection.close()


async def through_sdk(url: str, at_once: int, target: Target, seconds: float) -> Measured:
    async with await holdfast.connect(url, target.key) as client:

        async def cycle(name: str) -> int:
            lock = client.lock(name, ttl=TTL_MS / 1000)
            await lock.acquire()
            await lock.release()
            return 2

        return await measured(SDK, at_once, [cycle] * at_once, target, seconds)


# The run.


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", nargs="*", type=int, default=CONNECTIONS, help="one request at a time each")
    parser.add_argument("--batches", nargs="*", type=int, default=BATCHES, help=f"connections, of {BATCH} at once each")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--serve-bare", action="store_true", help="nothing but the bare endpoint, until it is killed")
    return parser.parse_args(words)


async def repetition(cluster: LocalCluster, bare: Target, options: argparse.Namespace) -> list[Measured]:
    host, _, port = cluster.http_url.removeprefix("http://").rpartition(":")
    pids = cluster.pids
    router = pids.pop("router")
    target = Target((host, int(port)), cluster.api_key, [router], list(pids.values()))
    found = []
    for connections in options.connections:
        found.append(await over_http(BARE, connections, HttpClient.bare, bare, options.seconds))
        found.append(await over_http(HTTP, connections, HttpClient.one_by_one, target, options.seconds))
        found.append(await through_sdk(cluster.url, connections, target, options.seconds))
    for connections in options.batches:
        found.append(await over_http(BATCHED, connections, HttpClient.batch, target, options.seconds))
        found.append(await through_sdk(cluster.url, connections * BATCH, target, options.seconds))
    return found


def main(words: Sequence[str] | None = None) -> None:
    options = options_of(words)
    if options.serve_bare:
        serve_bare()
        return
    # So that a run that is told to end stops its servers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rounds: list[list[Measured]] = []
    try:
        with LocalCluster() as cluster, bare_server(cluster) as (pid, port):
            bare = Target(("127.0.0.1", port), cluster.api_key, [pid], [])
            every = range(options.repetitions)
            for _ in track(every, "measuring", console=Console(stderr=True), transient=True):
                rounds.append(uvloop.run(repetition(cluster, bare, options)))
                if options.json is not None:
                    options.json.parent.mkdir(parents=True, exist_ok=True)
                    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(rounds), indent=1))
    except ClusterError as error:
        sys.exit(str(error))
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    for table in (one_by_one_table(rounds, options.connections), batch_table(rounds, options.batches)):
        if table.row_count:
            console.print(table)


# Showing.


def spread_of(rounds: Sequence[Sequence[Measured]], value: Callable[..., float], *named: tuple[str, int]) -> Spread:
    """Of ``value``, called in each round with what is named; so ratios are those of a round."""
    by_name = [{(one.what, one.at_once): one for one in some} for some in rounds]
    found = Spread.of(value(*(each[name] for name in named)) for each in by_name)
    assert found is not None, "there is a round"
    return found


def one_by_one_table(rounds: Sequence[Sequence[Measured]], connections: Sequence[int]) -> Table:
    table = table_of("HTTP one by one: acquire and release, beside a bare endpoint", [])
    numbers(table, ("connections", "bare requests/s", "router", "of bare", "bare CPU µs", "router", "bare/router"))
    numbers(table, ("nodes CPU µs", "client", "SDK operations/s", "SDK: router CPU µs", "all"))
    for at in connections:
        bare, http, sdk = (BARE, at), (HTTP, at), (SDK, at)
        table.add_row(
            f"{at:,}",
            whole(spread_of(rounds, lambda one: one.operations_per_s, bare)),
            whole(spread_of(rounds, lambda one: one.operations_per_s, http)),
            _percent(spread_of(rounds, lambda one, other: one.operations_per_s / other.operations_per_s, http, bare)),
            figure(spread_of(rounds, lambda one: one.server_us, bare), 1),
            figure(spread_of(rounds, lambda one: one.server_us, http), 1),
            _percent(spread_of(rounds, lambda one, other: other.server_us / one.server_us, http, bare)),
            figure(spread_of(rounds, lambda one: one.nodes_us, http), 1),
            figure(spread_of(rounds, lambda one: one.client_us, http), 1),
            whole(spread_of(rounds, lambda one: one.operations_per_s, sdk)),
            figure(spread_of(rounds, lambda one: one.server_us, sdk), 1),
            figure(spread_of(rounds, lambda one: one.total_us, sdk), 1),
        )
    return table


def batch_table(rounds: Sequence[Sequence[Measured]], batches: Sequence[int]) -> Table:
    table = table_of(f"/v1/batch of {BATCH}, beside the SDK with as many operations at once; per operation", [])
    numbers(table, ("connections", "operations/s", "router CPU µs", "nodes", "client", "all"))
    numbers(table, ("SDK operations/s", "router CPU µs", "nodes", "client", "all", "batch/SDK: router", "all"))
    values: tuple[Callable[[Measured], float], ...] = (
        lambda one: one.server_us,
        lambda one: one.nodes_us,
        lambda one: one.client_us,
        lambda one: one.total_us,
    )
    for at in batches:
        batch, sdk = (BATCHED, at), (SDK, at * BATCH)
        row = [f"{at:,}"]
        for name in (batch, sdk):
            row.append(whole(spread_of(rounds, lambda one: one.operations_per_s, name)))
            row += [figure(spread_of(rounds, value, name), 1) for value in values]
        row.append(figure(spread_of(rounds, lambda one, other: one.server_us / other.server_us, batch, sdk), 2))
        row.append(figure(spread_of(rounds, lambda one, other: one.total_us / other.total_us, batch, sdk), 2))
        table.add_row(*row)
    return table


def _percent(ratio: Spread) -> str:
    return f"{100 * ratio.median:.0f} %"


if __name__ == "__main__":
    main()
