"""One cluster for all tests of the fronts in a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from holdfast.cluster import LocalCluster, Shape


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(shape=Shape(1, 2, 1)) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: LocalCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(cluster, cluster.api_key) as client:
        yield client


def client_of(cluster: LocalCluster, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=cluster.http_url, headers={"Authorization": f"Bearer {key}"}, timeout=20)
