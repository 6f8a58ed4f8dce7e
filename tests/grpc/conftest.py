"""One cluster for all tests of the gRPC front, and stubs of a caller with its key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

import holdfast
from holdfast.cluster import LocalCluster, Shape
from tests.grpc.calling import Api


@pytest.fixture(scope="package")
def service() -> Iterator[LocalCluster]:
    with LocalCluster(shape=Shape(1, 2, 1)) as cluster:
        yield cluster


@pytest.fixture
async def channel(service: LocalCluster) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(service.grpc_address) as channel:
        yield channel


@pytest.fixture
def api(service: LocalCluster, channel: Any) -> Api:
    return Api(channel, service.api_key)


@pytest.fixture
async def sdk(service: LocalCluster) -> AsyncIterator[holdfast.Client]:
    async with holdfast.connect(service.url, service.api_key) as client:
        yield client
