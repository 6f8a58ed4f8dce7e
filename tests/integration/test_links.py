"""Links are cut, both ways or one way: no broken promise, another leader soon, and a router that is back soon."""

from __future__ import annotations

import contextlib

import pytest

import holdfast
from holdfast.errors import HoldfastError

from ..chaos.cluster import ChaosCluster
from ..chaos.events import now
from ..chaos.failover import CUTS, run
from ..chaos.faults import Need
from ..chaos.machine import needs
from ..chaos.network import HUB, Network

GAP_MAX_S = 3.0
"""Twice what is aimed at: this machine may be busy with other tests."""
ROUTER_CUT_S = 14.0
"""By then TCP waits 12 s until it tries again."""
MENDED_MAX_S = 6.0


@needs(Need.NETWORK)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", sorted(CUTS))
async def test_a_leader_whose_links_are_cut_is_replaced(fault: str) -> None:
    with ChaosCluster(links=Network(3)) as cluster:
        report = await run(cluster, CUTS[fault], rounds=1, clients=32, names=100)
        assert report.violations() == []
        assert report.errors() == {}
        assert max(report.gaps()) < GAP_MAX_S
        assert cluster.status().diverged() == []


@needs(Need.NETWORK)
@pytest.mark.timeout(120)
async def test_a_router_serves_again_soon_after_its_links_to_the_nodes_are_mended() -> None:
    network = Network(3)
    with ChaosCluster(links=network) as cluster:
        async with holdfast.connect(cluster.url, cluster.api_key, timeout=1.0) as client:
            names = [f"name/{number}" for number in range(8)]
            for name in names:
                await client.get(name)
            for node in cluster.nodes:
                network.cut(HUB, node)
                network.cut(node, HUB)
            ends = now() + ROUTER_CUT_S
            while now() < ends:
                # Something must be under way, or TCP would have nothing to wait for.
                for name in names:
                    with contextlib.suppress(HoldfastError):
                        await client.get(name)
            for node in cluster.nodes:
                network.mend(HUB, node)
                network.mend(node, HUB)
            mended = now()
            for name in names:
                await _until_answered(client, name, mended + MENDED_MAX_S)


async def _until_answered(client: holdfast.Client, name: str, deadline: float) -> None:
    while True:
        try:
            await client.get(name)
        except HoldfastError:
            assert now() < deadline
        else:
            return
