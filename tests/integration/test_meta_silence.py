"""The meta group is down: nobody new gets in, and nobody loses what they hold."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.cluster import LocalCluster, Shape
from holdfast.errors import HoldfastError, Unavailable
from holdfast.wire.names import slot_of

SILENCE_S = 1.5
TTL_S = 2.0


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """The meta group on nodes 1 to 3; group 4 on node 4 alone."""
    with LocalCluster(shape=Shape(nodes=4, groups=4, replicas=1)) as cluster:
        yield cluster


@contextlib.contextmanager
def router(formation: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast_router", "--formation", str(formation), "--listen", "127.0.0.1:0",
         "--meta-silence", str(SILENCE_S)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        try:
            yield f"holdfast://{json.loads(process.stdout.readline())['address']}"
        finally:
            process.terminate()
            assert process.wait(10) == 0


def in_group(formation: Path, group: int) -> Iterator[str]:
    """Names of tenant 1 that belong to it."""
    slots = base64.b64decode(json.loads(formation.read_text())["slots"])
    for at in range(100_000):
        slot = slot_of(1, f"name/{at}")
        if int.from_bytes(slots[2 * slot : 2 * slot + 2], "little") == group:
            yield f"name/{at}"


async def test_holders_keep_and_let_go_while_nobody_new_gets_in(cluster: LocalCluster) -> None:
    names = in_group(cluster.formation, 4)
    with router(cluster.formation) as url:
        async with holdfast.connect(url, cluster.api_key, timeout=1.0) as client:
            kept = await client.lock(next(names), ttl=TTL_S).acquire()
            given_back = await client.lock(next(names), ttl=TTL_S).acquire()
            for node in (1, 2):
                cluster.kill(node)
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(Unavailable):
                        async with holdfast.connect(url, cluster.api_key, timeout=0.2):
                            await asyncio.sleep(0.05)
                            continue
                    break
            with pytest.raises(Unavailable, match="not heard from the meta group"):
                await client.lock(next(names)).acquire()
            # Longer than its lease: it was kept alive all the while.
            await asyncio.sleep(1.5 * TTL_S)
            assert kept.held
            assert (await client.get(kept.name)).holders
            await given_back.release()
            assert not (await client.get(given_back.name)).holders
            for node in (1, 2):
                await asyncio.to_thread(cluster.restart, node)
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(HoldfastError):
                        await client.lock(next(names)).acquire()
                        break
            assert kept.held
