"""pottery's Redlock, asyncio: each lock is asked for at all masters, and a majority grants it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from pottery import AIORedlock
from pottery.exceptions import PotteryError
from redis.asyncio import Redis
from redis.exceptions import RedisError

TTL_S = 30.0
ERRORS = (PotteryError, RedisError)


class Pottery:
    def __init__(self, masters: set[Redis]) -> None:
        self._masters = masters

    async def acquire(self, name: str) -> AIORedlock:
        lock = AIORedlock(key=name, masters=self._masters, auto_release_time=TTL_S)
        await lock.acquire()
        return lock

    def release(self, held: AIORedlock) -> Awaitable[None]:
        released: Awaitable[None] = held.release()
        return released

    async def close(self) -> None:
        for master in self._masters:
            await master.aclose()


async def connect(target: Mapping[str, Any], workers: int) -> Pottery:
    return Pottery({Redis(host="127.0.0.1", port=port, max_connections=workers) for port in target["ports"]})
