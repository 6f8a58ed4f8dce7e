"""A machine and three clients of one tenant."""

from __future__ import annotations

import pytest

from tests.machine.driver import Client, Cluster


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def one(cluster: Cluster) -> Client:
    return cluster.client()


@pytest.fixture
def two(cluster: Cluster) -> Client:
    return cluster.client()


@pytest.fixture
def three(cluster: Cluster) -> Client:
    return cluster.client()
