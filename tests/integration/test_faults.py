"""Nodes die under load: no two holders, no token that falls, no acknowledged grant lost, everybody goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast.cluster import LocalCluster
from tests.chaos.failover import kill_all, kill_leader, run, stop_leader, term_leader


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.mark.timeout(120)
async def test_the_leader_of_each_group_is_killed_and_comes_back(cluster: LocalCluster) -> None:
    report = await run(cluster, kill_leader, rounds=2, clients=32, names=100)
    assert report.violations() == []
    assert report.history.grants() > 500
    assert cluster.status().diverged() == []


@pytest.mark.timeout(120)
async def test_a_leader_that_is_told_to_stop_hands_over(cluster: LocalCluster) -> None:
    report = await run(cluster, term_leader, rounds=1, clients=32, names=100)
    assert report.violations() == []
    assert report.errors() == {}
    assert cluster.status().diverged() == []


@pytest.mark.timeout(120)
async def test_a_stopped_leader_is_replaced_and_does_no_harm_when_it_wakes(cluster: LocalCluster) -> None:
    report = await run(cluster, stop_leader, rounds=1, clients=32, names=100)
    assert report.violations() == []
    assert max(report.gaps()) < 4.0
    assert cluster.status().diverged() == []


@pytest.mark.timeout(120)
async def test_all_nodes_are_killed_at_once_and_restart_from_disk(cluster: LocalCluster) -> None:
    report = await run(cluster, kill_all, rounds=1, clients=32, names=100)
    assert report.violations() == []
    assert cluster.status().diverged() == []
