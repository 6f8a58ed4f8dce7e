"""A node whose disk fills up: it says so and ends with code 4, the others serve on, and with room it comes back."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.cluster import LocalCluster, Shape

from ..cli.processes import wait_until
from .faults import Report, run
from .history import now

DISK_BYTES = 64 << 20
LEFT_BYTES = 64 << 10


@contextmanager
def small_disk(at: Path) -> Iterator[None]:
    """A file system of its own under ``at``, with what was there."""
    aside = at.with_name(at.name + ".aside")
    at.rename(aside)
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "holdfast", str(at)], check=True)
    try:
        shutil.copytree(aside, at, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(directory: Path) -> Path:
    ballast = directory / "ballast"
    found = os.statvfs(directory)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - LEFT_BYTES)
    return ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
@pytest.mark.timeout(120)
async def test_a_full_disk_ends_its_node_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with LocalCluster(data, shape=Shape(3, 1, 3)):
        pass
    with small_disk(data / "node-2"), LocalCluster(data) as cluster:
        full = cluster.nodes[2]

        async def fault(cluster: LocalCluster, report: Report, number: int) -> None:
            ballast = fill(data / "node-2")
            report.instants.append(now())
            await asyncio.to_thread(wait_until, lambda: not full.running(), "the node to end", 30)
            assert full.exit_code() == 4
            assert "disk" in full.log_tail()
            before = len(report.history.holds)
            await asyncio.to_thread(wait_until, lambda: len(report.history.holds) > before + 500, "grants to go on")
            ballast.unlink()
            await asyncio.to_thread(cluster.restart, 2)
            await asyncio.to_thread(cluster.ready, all_nodes=True)

        report = await run(cluster, fault, rounds=1, clients=32, names=100)
        assert report.history.violations() == []
        assert report.errors == {}
        assert cluster.status().diverged() == []
