"""PostgreSQL's advisory locks with asyncpg: a lock is the connection's, so each worker has a connection."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import asyncpg

ERRORS = (asyncpg.PostgresError, OSError)


class Advisory:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def acquire(self, name: str) -> int:
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
        await self._connection.fetchval("SELECT pg_advisory_lock($1)", key)
        return key

    async def release(self, held: int) -> None:
        released = await self._connection.fetchval("SELECT pg_advisory_unlock($1)", held)
        assert released, "the lock was not this connection's"

    async def close(self) -> None:
        await self._connection.close()


async def connect(target: Mapping[str, Any], workers: int) -> Advisory:
    return Advisory(await asyncpg.connect(host="127.0.0.1", port=target["port"], user="holdfast", database="postgres"))
