"""etcd's own lock service: Lock waits for its turn, Unlock deletes the key that Lock gave."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from .etcd_calls import ERRORS, MESSAGES, Session, session

__all__ = ["ERRORS", "connect"]


class LockService:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = session.call("/v3lockpb.Lock/Lock", "LockRequest", "LockResponse")
        self._unlock = session.call("/v3lockpb.Lock/Unlock", "UnlockRequest", "UnlockResponse")

    async def acquire(self, name: str) -> bytes:
        request = MESSAGES.LockRequest(name=name.encode(), lease=self._session.lease)
        answer = await self._lock(request, timeout=self._session.call_timeout_s)
        key: bytes = answer.key
        return key

    def release(self, held: bytes) -> Awaitable[Any]:
        return self._unlock(MESSAGES.UnlockRequest(key=held), timeout=self._session.call_timeout_s)

    async def close(self) -> None:
        await self._session.close()


async def connect(target: Mapping[str, Any], workers: int) -> LockService:
    return LockService(await session(target))
