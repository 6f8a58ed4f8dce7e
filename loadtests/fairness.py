"""A first tenant beside a second that asks at a hundred times its rate, against the same flood into a sink.

Run: ``python loadtests/fairness.py [--pairs 10]``. Both tenants have the same plan. In each pair the flood goes once to
the cluster and once to a sink, a process of its own that refuses everything, in turn first and second; so what asking
costs the machine is in both runs, and what being asked costs the first tenant is in one. Prints one JSON object; the
figure that counts is the median of the ratios of the first tenant's p99.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import msgspec
import uvloop
from lines import Line, Tally

import holdfast.admin
from holdfast.cluster import LocalCluster
from holdfast.wire.errors import Code
from holdfast.wire.frames import Answers, encode
from holdfast.wire.limits import PROTOCOL_VERSION, SLOTS
from holdfast.wire.messages import Msg, Refusal, SlotTable, Welcome
from holdfast.wire.stream import Connection

PATIENCE_S = 1.0
PLAN = "standard"
FIRST_LINES, SECOND_LINES = 8, 32
SECOND_SIZE = 8
"""Operations of a section of the flood; the first tenant's have one."""
TIMES = 100
TICK_S = 0.002
SETTLE_S = 1.0


async def pace(lines: list[Line], rate: float, seconds: float) -> Tally:
    """Begin so many cycles a second, at moments of a Poisson process."""
    tally = Tally()
    for line in lines:
        line.tally = tally
        line.obeys = False
    due = time.perf_counter()
    ends = due + seconds
    at = 0
    while (now := time.perf_counter()) < ends:
        while due <= now:
            lines[at % len(lines)].begin(due)
            at += 1
            due += random.expovariate(rate)
        await asyncio.sleep(TICK_S)
    return tally


async def opened(address: tuple[str, int], key: str, tenant: int, count: int, size: int) -> list[Line]:
    lines = [Line(number, size, PATIENCE_S, lambda line: None) for number in range(count)]
    for line in lines:
        await line.open(address, key)
        line.place(tenant)
    return lines


async def flood(address: tuple[str, int], key: str, tenant: int, rate: float, seconds: float) -> None:
    """The second tenant, in a process of its own: cycles of ``SECOND_SIZE`` at ``rate`` operations a second."""
    lines = await opened(address, key, tenant, SECOND_LINES, SECOND_SIZE)
    print("ready", flush=True)
    tally = await pace(lines, rate / (2 * SECOND_SIZE), seconds)
    await asyncio.sleep(2 * PATIENCE_S)
    print(
        json.dumps(
            {
                "begun": tally.begun,
                "done": tally.done,
                "refused": tally.refused,
                "releases_refused": tally.releases_refused,
                "retry_after_ms_max": max(tally.retry_after_ms, default=0),
            }
        )
    )


async def sink() -> None:
    """Welcomes and registers everybody, and refuses whatever they ask."""
    table = encode(SlotTable(1, (1).to_bytes(2, "little") * SLOTS))
    refusal = encode(Refusal(Code.THROTTLED, "this is a sink", 100, 0, "rate", 1))
    registered = encode(Answers(b"\x00", [1], [0], {}))
    seen: set[Connection] = set()

    def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        if kind == Msg.HELLO:
            connection.send(Msg.WELCOME, 0, 0, encode(Welcome(PROTOCOL_VERSION, "sink", 1)))
            connection.send(Msg.TABLE, 0, 0, table)
        elif connection not in seen:
            seen.add(connection)
            connection.send(Msg.ANSWERS, group, request, registered)
        else:
            connection.send(Msg.REFUSED, group, request, refusal)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(on_message, lambda c, e: seen.discard(c)), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


async def run_once(first: list[Line], target: list[str], options: argparse.Namespace) -> dict[str, object]:
    """The first tenant's times while the flood goes to ``target``."""
    seconds = options.seconds + 2 * SETTLE_S
    with child("--flood", *target, "--rate", str(options.rate), "--seconds", str(seconds)) as process:
        await asyncio.to_thread(next_line, process)
        await pace(first, options.rate / 2, SETTLE_S)
        tally = await pace(first, options.rate / 2, options.seconds)
        said = json.loads(await asyncio.to_thread(next_line, process))
    times = sorted(tally.took_s)
    return {
        "p50_ms": round(1000 * statistics.median(times), 2),
        "p99_ms": round(1000 * times[int(0.99 * len(times))], 2),
        "acquires": len(times),
        "refused": dict(Counter(tally.refused) + Counter(tally.releases_refused)),
        "flood": said,
    }


async def measure(cluster: LocalCluster, options: argparse.Namespace) -> dict[str, object]:
    async with holdfast.admin.connect(cluster.url, cluster.operator_key) as admin:
        one = await admin.create_tenant("first", plan=PLAN)
        two = await admin.create_tenant("second", plan=PLAN)
    first = await opened(cluster.address, one.api_key, one.tenant.number, FIRST_LINES, 1)
    with child("--sink") as process:
        at_sink = ["127.0.0.1", next_line(process).strip(), "none", "1"]
        host, port = cluster.address
        at_cluster = [host, str(port), two.api_key, str(two.tenant.number)]
        pairs = []
        for number in range(options.pairs):
            found: dict[str, dict[str, object]] = {}
            for name in ("cluster", "sink") if number % 2 else ("sink", "cluster"):
                found[name] = await run_once(first, at_cluster if name == "cluster" else at_sink, options)
            print(msgspec.json.encode(found).decode(), file=sys.stderr, flush=True)
            pairs.append(found)
    ratios = {
        what: [round(float(str(pair["cluster"][what])) / float(str(pair["sink"][what])), 3) for pair in pairs]
        for what in ("p50_ms", "p99_ms")
    }
    return {
        "first_operations_per_s": options.rate,
        "second_operations_per_s": options.rate * TIMES,
        "p99_ratios": ratios["p99_ms"],
        "p99_ratio_median": statistics.median(ratios["p99_ms"]),
        "p50_ratio_median": statistics.median(ratios["p50_ms"]),
        "pairs": pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=15, help="of each run")
    parser.add_argument("--rate", type=float, default=100, help="operations a second of the first tenant")
    parser.add_argument("--flood", nargs=4, metavar=("HOST", "PORT", "KEY", "TENANT"), help=argparse.SUPPRESS)
    parser.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sink:
        uvloop.run(sink())
    elif options.flood:
        host, port, key, tenant = options.flood
        uvloop.run(flood((host, int(port)), key, int(tenant), TIMES * options.rate, options.seconds))
    else:
        with LocalCluster() as cluster:
            print(json.dumps(uvloop.run(measure(cluster, options)), indent=1))


if __name__ == "__main__":
    main()
