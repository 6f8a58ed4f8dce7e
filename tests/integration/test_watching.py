"""Watching a real cluster: what happens while its leader is killed is shown all the same."""

from __future__ import annotations

import asyncio
import secrets
import signal

import holdfast
from holdfast.cluster import LocalCluster
from tests.sdk.test_watch import until_shows


async def test_a_watch_outlives_the_leaders_of_every_group() -> None:
    with LocalCluster() as cluster:
        async with (
            holdfast.connect(cluster.url, cluster.api_key) as client,
            holdfast.connect(cluster.url, cluster.api_key) as other,
        ):
            stem = secrets.token_hex(4)
            names = [f"{stem}/{number}" for number in range(8)]
            one, several = client.watch(names[0]), client.watch(prefix=f"{stem}/")
            assert not (await anext(one)).held
            locks = {name: await other.lock(name).acquire() for name in names}
            seen = {(await until_shows(several)).name for _ in names}
            assert seen == set(names)
            assert (await until_shows(one, held=True)).holders[0].token == locks[names[0]].token
            for node in sorted(set(cluster.status().leaders().values())):
                cluster.kill(node, signal.SIGKILL)
                release = [asyncio.create_task(lock.release()) for lock in locks.values() if lock.held]
                await asyncio.to_thread(cluster.ready)
                await asyncio.gather(*release)
                cluster.restart(node)
                await asyncio.to_thread(cluster.ready)
                locks = {name: await other.lock(name).acquire() for name in names}
            latest: dict[str, int] = {}
            async with asyncio.timeout(10):
                while latest != {name: lock.token for name, lock in locks.items()}:
                    info = await anext(several)
                    latest[info.name] = info.holders[0].token if info.held else 0
            token = locks[names[0]].token
            async with asyncio.timeout(10):
                while not (info := await anext(one)).held or info.holders[0].token != token:
                    pass
