"""Waiters on one name: first come, first served, and one woken by each release."""

from __future__ import annotations

import asyncio
import secrets

import holdfast
from holdfast.cluster import LocalCluster

WAITERS = 100


async def test_first_come_first_served_and_one_wake_for_each_release(service: LocalCluster) -> None:
    name = f"queue/{secrets.token_hex(4)}"
    async with (
        holdfast.connect(service.url, service.api_key) as one,
        holdfast.connect(service.url, service.api_key) as two,
    ):
        locks = [(one, two)[number % 2].lock(name) for number in range(WAITERS)]
        last = await one.lock(name).acquire()
        waiting = []
        for number, lock in enumerate(locks, start=1):
            waiting.append(asyncio.create_task(lock.acquire()))
            # What comes through two connections is in order only once it has arrived.
            while (await one.get(name)).waiters < number:
                await asyncio.sleep(0)
        for number, lock in enumerate(locks):
            token = last.token
            await last.release()
            await waiting[number]
            # A round trip later nobody else has been woken.
            assert (await two.get(name)).waiters == WAITERS - number - 1
            assert [task.done() for task in waiting] == [True] * (number + 1) + [False] * (WAITERS - number - 1)
            assert lock.token > token
            last = lock
        await last.release()
        assert not (await one.get(name)).held
