"""Links are cut, both ways or one way: no broken promise, another leader soon, and a router that is back soon."""

from __future__ import annotations

import contextlib

import pytest

import holdfast
from holdfast.errors import HoldfastError

from .faults import run
from .history import now
from .links import FAULTS, SeparatedCluster, cutting, possible

GAP_MAX_S = 3.0
"""Twice what is aimed at: this machine may be busy with other tests."""
ROUTER_CUT_S = 14.0
"""By then TCP waits 12 s until it tries again."""
MENDED_MAX_S = 6.0


@pytest.mark.skipif(not possible(), reason="needs root and network namespaces")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_a_leader_whose_links_are_cut_is_replaced(fault: str) -> None:
    with SeparatedCluster() as cluster:
        report = await run(cluster, cutting(FAULTS[fault]), rounds=1, clients=32, names=100)
        assert report.history.violations() == []
        assert report.errors == {}
        assert max(report.gaps()) < GAP_MAX_S
        assert cluster.status().diverged() == []


@pytest.mark.skipif(not possible(), reason="needs root and network namespaces")
@pytest.mark.timeout(120)
async def test_a_router_serves_again_soon_after_its_links_to_the_nodes_are_mended() -> None:
    cluster = SeparatedCluster()
    with cluster:
        async with holdfast.connect(cluster.url, cluster.api_key, timeout=1.0) as client:
            names = [f"name/{number}" for number in range(8)]
            for name in names:
                await client.get(name)
            for node in cluster.nodes:
                cluster.cut_router(node)
            ends = now() + ROUTER_CUT_S
            while now() < ends:
                # Something must be under way, or TCP would have nothing to wait for.
                for name in names:
                    with contextlib.suppress(HoldfastError):
                        await client.get(name)
            for node in cluster.nodes:
                cluster.mend_router(node)
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
