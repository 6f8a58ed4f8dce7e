"""Journals that are not what was written: a change of what was synced is refused, what was never synced is cut off."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import holdfast
from holdfast.cluster import Shape

from .cluster import ChaosCluster
from .disk_faults import flip_and_replace, flip_and_restore, tear_journal
from .scene import Scene
from .workers import Workers

LOCKS = 50


def _silent(what: str) -> None:
    pass


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    with ChaosCluster(tmp_path / "cluster", shape=Shape(3, 1, 3)) as cluster:
        workers = Workers(tmp_path, cluster.guardian, cluster.url, cluster.api_key, "none", 0)
        yield Scene(cluster, workers, random.Random(7), _silent)


@pytest.mark.timeout(180)
async def test_harm_to_one_journal_loses_nothing(scene: Scene) -> None:
    async with holdfast.connect(scene.cluster.url, scene.cluster.api_key, timeout=30) as client:
        held = [await client.lock(f"name/{number}", ttl=600).acquire() for number in range(LOCKS)]
        for fault in (tear_journal, flip_and_restore, flip_and_replace, tear_journal):
            await fault(scene)
            assert all([await client.check(lock.name, lock.token) for lock in held])
    assert scene.cluster.status().diverged() == []
