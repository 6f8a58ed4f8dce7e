"""What a lease alone cannot promise, and what the fencing token adds: a holder that is stopped past its TTL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.cluster import LocalCluster

from .sets import Set, SetStore, StaleToken

TTL_S = 0.5
LATE_HOLDER = """
import asyncio, sys
import holdfast
from tests.chaos.sets import Set, SetStore, StaleToken

async def main(path, name, ttl_s):
    store = SetStore(path)
    async with holdfast.connect() as client:
        lock = await client.lock(f"set/{name}", ttl=float(ttl_s)).acquire()
        token = lock.token
        members = store.read(Set(name), token)
        print("read", flush=True)
        sys.stdin.readline()  # work that blocks: nothing in this process can interrupt it
        try:
            store.write(Set(name), token, [*members, "late"])
        except StaleToken:
            print("refused", flush=True)
        else:
            print("written", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


async def _add_while_the_holder_is_stopped(cluster: LocalCluster, path: Path, name: Set) -> tuple[str, list[str]]:
    """One process reads and is stopped past its TTL; another adds an element; the first one wakes and writes.

    What the store said to the first, and the set in the end.
    """
    store = SetStore(path)
    late = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LATE_HOLDER, path, name, str(TTL_S),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, **cluster.environment},
    )  # fmt: skip
    assert late.stdin is not None
    assert late.stdout is not None
    try:
        assert await late.stdout.readline() == b"read\n"
        late.send_signal(signal.SIGSTOP)
        async with (
            holdfast.connect(cluster.url, cluster.api_key) as client,
            client.lock(f"set/{name}") as lock,
        ):
            store.write(name, lock.token, [*store.read(name, lock.token), "prompt"])
        late.send_signal(signal.SIGCONT)
        said, _ = await late.communicate(b"\n")
    finally:
        if late.returncode is None:
            late.kill()
            await late.wait()
    members = store.members(name)
    store.close()
    return said.decode().strip(), members


async def test_without_a_guard_an_acknowledged_element_is_lost(cluster: LocalCluster, tmp_path: Path) -> None:
    said, members = await _add_while_the_holder_is_stopped(cluster, tmp_path / "sets", Set.UNGUARDED)
    assert (said, members) == ("written", ["late"])


async def test_the_token_keeps_it(cluster: LocalCluster, tmp_path: Path) -> None:
    said, members = await _add_while_the_holder_is_stopped(cluster, tmp_path / "sets", Set.GUARDED)
    assert (said, members) == ("refused", ["prompt"])


def test_a_reader_with_a_higher_token_keeps_an_earlier_writer_out(tmp_path: Path) -> None:
    """Else what it writes would be lost to the reader's own write."""
    store = SetStore(tmp_path / "sets")
    store.write(Set.GUARDED, 1, ["a"])
    assert store.read(Set.GUARDED, 2) == ["a"]
    with pytest.raises(StaleToken):
        store.write(Set.GUARDED, 1, ["a", "b"])
    with pytest.raises(StaleToken):
        store.read(Set.GUARDED, 1)
    assert store.members(Set.GUARDED) == ["a"]
    store.close()
