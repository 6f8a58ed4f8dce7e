"""The leanest lock on etcd: one transaction puts a key under the lease unless it is there, one deletes it if ours."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from . import Refused
from .etcd_calls import ERRORS, MESSAGES, Session, session

__all__ = ["ERRORS", "connect"]


class Transactions:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._transact = session.call("/etcdserverpb.KV/Txn", "TxnRequest", "TxnResponse")
        self._timeout_s = session.call_timeout_s

    async def acquire(self, name: str) -> tuple[bytes, int]:
        key = name.encode()
        request = MESSAGES.TxnRequest(
            compare=[MESSAGES.Compare(target=MESSAGES.Compare.CREATE, key=key, create_revision=0)],
            success=[MESSAGES.Operation(put=MESSAGES.PutRequest(key=key, lease=self._session.lease))],
        )
        answer = await self._transact(request, timeout=self._timeout_s)
        if not answer.succeeded:
            raise Refused(name)
        return key, answer.header.revision

    def release(self, held: tuple[bytes, int]) -> Awaitable[Any]:
        key, revision = held
        request = MESSAGES.TxnRequest(
            compare=[MESSAGES.Compare(target=MESSAGES.Compare.CREATE, key=key, create_revision=revision)],
            success=[MESSAGES.Operation(delete_range=MESSAGES.DeleteRangeRequest(key=key))],
        )
        return self._transact(request, timeout=self._timeout_s)

    async def close(self) -> None:
        await self._session.close()


async def connect(target: Mapping[str, Any], workers: int) -> Transactions:
    return Transactions(await session(target))
