"""A world of messages and time, and two clients of it."""

from __future__ import annotations

import pytest

from tests.sdk.world import Peer, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer(world: World) -> Peer:
    return world.peer().register()


@pytest.fixture
def other(world: World) -> Peer:
    return world.peer().register()
