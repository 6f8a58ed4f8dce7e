"""A leader's links are cut, both ways or one way, under load: no broken promise, and another leader soon."""

from __future__ import annotations

import pytest

from .faults import run
from .links import FAULTS, SeparatedCluster, cutting, possible

GAP_MAX_S = 3.0
"""Twice what is aimed at: this machine may be busy with other tests."""


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
