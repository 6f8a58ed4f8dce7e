"""A node whose disk fills up: it says so and ends with code 4, the others serve on, and with room it comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast.cluster import LocalCluster, Shape

from ..chaos.damage import fill, small_disk
from ..chaos.events import now
from ..chaos.failover import Report, run
from ..chaos.faults import Need
from ..chaos.machine import needs
from ..cli.processes import wait_until


@needs(Need.MOUNT)
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
            before = report.history.grants()
            async with asyncio.timeout(30):
                while report.history.grants() <= before + 500:  # written on this loop
                    await asyncio.sleep(0.05)
            ballast.unlink()
            await asyncio.to_thread(cluster.restart, 2)
            await asyncio.to_thread(cluster.ready, all_nodes=True)

        report = await run(cluster, fault, rounds=1, clients=32, names=100)
        assert report.violations() == []
        assert report.errors() == {}
        assert cluster.status().diverged() == []
