"""Holdfast's SDK: one client of the tasks of a process, as its users have it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import holdfast

TTL_S = 30.0
ERRORS = (holdfast.HoldfastError,)


class Sdk:
    def __init__(self, client: holdfast.Client) -> None:
        self._client = client

    async def acquire(self, name: str) -> holdfast.Lock:
        lock = self._client.lock(name, ttl=TTL_S)
        await lock.acquire()
        return lock

    def release(self, held: holdfast.Lock) -> Awaitable[object]:
        return held.release()

    async def close(self) -> None:
        await self._client.close()


async def connect(target: Mapping[str, Any], workers: int) -> Sdk:
    return Sdk(await holdfast.connect(target["url"], target["api_key"]))
