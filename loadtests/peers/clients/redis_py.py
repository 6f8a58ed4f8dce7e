"""redis-py's Lock, asyncio: SET NX PX and a script for the release; who waits asks again every 0.1 s."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError

TTL_S = 30.0
ERRORS = (RedisError,)


class RedisPy:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def acquire(self, name: str) -> Lock:
        lock = self._redis.lock(name, timeout=TTL_S)
        await lock.acquire()
        return lock

    def release(self, held: Lock) -> Awaitable[None]:
        return held.release()

    async def close(self) -> None:
        await self._redis.aclose()


async def connect(target: Mapping[str, Any], workers: int) -> RedisPy:
    # Its pool refuses what goes beyond, by default a hundred.
    return RedisPy(Redis(host="127.0.0.1", port=target["ports"][0], max_connections=workers))
