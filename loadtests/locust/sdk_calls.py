"""The vocabulary, carried out by the asyncio SDK. Runs in the process ``host``."""

from __future__ import annotations

import re
import time

import holdfast
from holdfast.errors import HoldfastError

from .vocabulary import TTL_S, Grant, NotDone

LISTED_MAX = 100


class SdkCalls:
    def __init__(self, client: holdfast.Client) -> None:
        self._client = client
        self._locks: dict[tuple[str, int], holdfast.Lock] = {}
        self._sessions: dict[str, holdfast.Session] = {}
        self._of_session: dict[str, list[tuple[str, int]]] = {}

    async def acquire(self, name: str, wait_s: float, permits: int, capacity: int, session: str) -> Grant:
        within = self._sessions[session] if session else None
        lock: holdfast.Lock
        if capacity:
            lock = self._client.semaphore(name, capacity, permits, ttl=TTL_S, wait=wait_s, session=within)
        else:
            lock = self._client.lock(name, ttl=TTL_S, wait=wait_s, session=within)
        await lock.acquire()
        grant = Grant(name, lock.token, lock.id, time.monotonic() + lock.remaining())
        self._locks[name, grant.token] = lock
        if session:
            self._of_session[session].append((name, grant.token))
        return grant

    async def release(self, name: str, token: int, lock_id: str) -> None:
        # Asked again, there is nothing to do: a release that got no answer is carried on by the SDK itself.
        if lock := self._locks.pop((name, token), None):
            await lock.release()

    async def renew(self, name: str, token: int, lock_id: str) -> None:
        await self._locks[name, token].renew()

    async def check(self, name: str, token: int, lock_id: str) -> bool:
        return await self._client.check(name, token)

    async def get(self, name: str) -> int:
        return (await self._client.get(name)).holder_count

    async def list(self, prefix: str) -> int:
        found = 0
        async for _ in self._client.list(prefix, page=LISTED_MAX):
            found += 1
            if found == LISTED_MAX:
                break
        return found

    async def open_session(self) -> str:
        session = self._client.session(ttl=TTL_S)
        self._sessions[session.id] = session
        self._of_session[session.id] = []
        return session.id

    async def end_session(self, session: str) -> None:
        for held in self._of_session.pop(session):
            self._locks.pop(held, None)
        await self._sessions.pop(session).end()

    async def close(self) -> None:
        await self._client.close()


async def opened(address: str, api_key: str) -> SdkCalls:
    return SdkCalls(await holdfast.connect(address, api_key))


def explained(error: HoldfastError) -> NotDone:
    """Codes are the names of the SDK's errors, written with hyphens."""
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
    return NotDone(code, str(error), getattr(error, "retry_after_ms", 0))
