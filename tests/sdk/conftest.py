"""Fixtures: a service in this process, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import holdfast
from tests.sdk.service import KEY, Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[holdfast.Client]:
    async with holdfast.connect(service.url, KEY, timeout=2.0) as client:
        yield client


@pytest.fixture
async def other(service: Service) -> AsyncIterator[holdfast.Client]:
    async with holdfast.connect(service.url, KEY, timeout=2.0) as client:
        yield client
