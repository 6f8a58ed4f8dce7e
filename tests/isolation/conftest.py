"""A node and a router with two tenants, and what each sees of the other: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

import holdfast
from tests.node.processes import Caller
from tests.router.test_process import OTHER_KEY, Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("tenants") / "cluster")
    yield service
    service.stop()


@pytest.fixture(autouse=True)
async def no_connection_is_left() -> AsyncIterator[None]:
    yield
    await Caller.close_all()


@dataclass(frozen=True)
class Two:
    """Clients of two tenants."""

    mine: holdfast.Client
    theirs: holdfast.Client


@pytest.fixture
async def two(service: Service) -> AsyncIterator[Two]:
    url = f"holdfast://{service.address}"
    async with asyncio.timeout(30):
        async with holdfast.connect(url, service.key) as mine, holdfast.connect(url, OTHER_KEY) as theirs:
            yield Two(mine, theirs)
