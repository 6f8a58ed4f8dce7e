"""One cluster for all tests of a process that do it no harm, and the environment of a user of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

import holdfast
from holdfast.cluster import LocalCluster


@pytest.fixture(scope="session")
def service() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def settings(service: LocalCluster) -> dict[str, str]:
    return {**os.environ, **service.environment}


@pytest.fixture
async def client(service: LocalCluster) -> AsyncIterator[holdfast.Client]:
    async with holdfast.connect(service.url, service.api_key) as client:
        yield client
