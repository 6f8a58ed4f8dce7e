"""The faults of links and clocks themselves: what is said to be cut, slow, lossy, fast or off is so."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import DRIFTING, JUMPING, ChaosCluster, libfaketime
from .events import now
from .faults import Need
from .machine import needs
from .network import HUB, Network
from .proxy import Proxies

DATAGRAMS = 400
DATAGRAM_BYTES = 500
HOST = 1
SENDER = """
import socket, sys, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[3])):
    try:
        out.sendto(bytes(int(sys.argv[4])), (sys.argv[1], int(sys.argv[2])))
    except OSError:
        pass  # the sender may be told that a link is cut
    time.sleep(0.0005)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network(1)
    network.make()
    yield network
    network.unmake()


def _arrive(network: Network) -> tuple[int, float]:
    """How many datagrams from the host reach the hub, and for how long after the last was sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((network.address(HUB), 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        address, port = receiver.getsockname()
        words = [address, str(port), str(DATAGRAMS), str(DATAGRAM_BYTES)]
        subprocess.run([*network.prefix(HOST), sys.executable, "-c", SENDER, *words], check=True)
        sent = latest = now()
        receiver.settimeout(0.5)
        count = 0
        try:
            while count < DATAGRAMS:
                receiver.recv(DATAGRAM_BYTES)
                latest, count = now(), count + 1
        except TimeoutError:
            pass
        return count, latest - sent


@needs(Need.NETWORK)
def test_links_are_cut_mended_lossy_and_slow(network: Network) -> None:
    assert _arrive(network)[0] == DATAGRAMS
    network.cut(HOST, HUB)
    assert _arrive(network)[0] == 0
    network.mend(HOST, HUB)
    network.lose(HOST, 50)
    assert DATAGRAMS * 0.3 < _arrive(network)[0] < DATAGRAMS * 0.7
    network.keep(HOST)
    network.slow(HOST, rate_kbit=800, wait_max_ms=400)
    arrived, late_s = _arrive(network)
    assert 0 < arrived < DATAGRAMS
    assert late_s > 0.2
    network.quicken(HOST)
    assert _arrive(network)[0] == DATAGRAMS


@needs(Need.CLOCKS)
def test_one_node_is_fast_and_another_has_the_wrong_time(tmp_path: Path) -> None:
    cluster = ChaosCluster(tmp_path / "cluster", clocks=libfaketime())
    cluster.turn_clock("+1000000")
    show = [sys.executable, "-c", "import time; print(time.time(), time.monotonic())"]
    wall, monotonic = map(float, subprocess.check_output([*cluster.node_prefix(JUMPING), *show]).split())
    assert abs(wall - time.time() - 1_000_000) < 10
    assert abs(monotonic - time.monotonic()) < 10
    with subprocess.Popen(
        [*cluster.node_prefix(DRIFTING), sys.executable, "-uc", "import time\nwhile input(): print(time.monotonic())"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as fast:  # fmt: skip

        def ask() -> float:
            assert fast.stdin is not None
            assert fast.stdout is not None
            fast.stdin.write("?\n")
            fast.stdin.flush()
            return float(fast.stdout.readline())

        first, since = ask(), now()
        # What it gains adds up, 3 ms per second; how long it takes to answer does not.
        while ask() - first <= now() - since + 0.02:
            assert now() - since < 60
            time.sleep(0.2)
        fast.kill()


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    proxies = Proxies(2)
    proxies.make()
    yield proxies
    proxies.unmake()


REPLY_BYTES = 100_000
CALLER = """
import socket, sys
out = socket.create_connection((sys.argv[1], int(sys.argv[2])))
out.sendall(b"?")
print(len(out.makefile("rb").read(int(sys.argv[3]))))
"""


async def test_a_proxy_cuts_each_way_delays_and_knows_the_hosts(proxies: Proxies) -> None:
    heard, over = asyncio.Event(), asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1):
            heard.set()
            writer.write(bytes(REPLY_BYTES))
        writer.close()
        await writer.wait_closed()
        over.release()

    async def ask() -> float:
        heard.clear()
        began = now()
        writer.write(b"?")
        await reader.readexactly(REPLY_BYTES)
        return now() - began

    server = await asyncio.start_server(answer, *proxies.listen(HOST).split(":"))
    reader, writer = await asyncio.open_connection(*proxies.reach(HOST).split(":"))
    quick_s = await ask()
    proxies.cut(HUB, HOST)
    asked = asyncio.create_task(ask())
    await asyncio.sleep(0.2)
    assert not heard.is_set()
    other = [*proxies.prefix(2), sys.executable, "-c", CALLER, *proxies.reach(HOST).split(":"), str(REPLY_BYTES)]
    assert int(await asyncio.to_thread(subprocess.check_output, other)) == REPLY_BYTES
    proxies.mend(HUB, HOST)
    assert await asked >= 0.2
    proxies.cut(HOST, HUB)
    asked = asyncio.create_task(ask())
    await asyncio.wait_for(heard.wait(), 10)
    assert not asked.done()
    proxies.mend(HOST, HUB)
    await asked
    proxies.slow(HOST, rate_kbit=1600)
    assert await ask() > 0.4
    proxies.quicken(HOST)
    proxies.lose(HOST, 50)
    assert await ask() > quick_s + 0.2
    writer.close()
    await writer.wait_closed()
    server.close()
    for _ in range(2):
        await over.acquire()
