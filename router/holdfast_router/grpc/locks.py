"""LockService: each rpc is one operation of ``operations``, translated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from holdfast.errors import HoldfastError
from holdfast.v1 import locks_pb2 as pb

from ..operations import Caller, Operations
from ..operations import requests as op
from . import translation
from .calls import request_of
from .statuses import duration_of, message_of, reason_of, retry_after_ms, status_of


class LockService:
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["LockService"]

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @property
    def methods(self) -> dict[str, Callable[..., Any]]:
        return {
            "Acquire": self.acquire,
            "Release": self.release,
            "Renew": self.renew,
            "Get": self.get,
            "Check": self.check,
            "List": self.list,
            "Watch": self.watch,
            "ForceRelease": self.force_release,
            "Batch": self.batch,
        }

    async def acquire(self, caller: Caller, message: pb.AcquireRequest) -> pb.AcquireResponse:
        asked = translation.acquire(message)
        named = msgspec.structs.replace(caller, request=request_of(caller, message.request_id))
        return pb.AcquireResponse(grant=translation.grant_of(await self._operations.acquire(named, asked)))

    async def release(self, caller: Caller, message: pb.ReleaseRequest) -> pb.ReleaseResponse:
        await self._operations.release(caller, translation.release(message))
        return pb.ReleaseResponse()

    async def renew(self, caller: Caller, message: pb.RenewRequest) -> pb.RenewResponse:
        renewed = await self._operations.renew(caller, translation.renew(message))
        return pb.RenewResponse(expires_in=duration_of(renewed.expires_in_ms))

    async def get(self, caller: Caller, message: pb.GetRequest) -> pb.GetResponse:
        return pb.GetResponse(lock=translation.lock_of(await self._operations.get(caller, translation.get(message))))

    async def check(self, caller: Caller, message: pb.CheckRequest) -> pb.CheckResponse:
        checked = await self._operations.check(caller, translation.check(message))
        return pb.CheckResponse(held=checked.held)

    async def list(self, caller: Caller, message: pb.ListRequest) -> pb.ListResponse:
        page = await self._operations.list_locks(caller, translation.list_locks(message))
        return pb.ListResponse(locks=[translation.lock_of(lock) for lock in page.locks], next_page_token=page.cursor)

    async def force_release(self, caller: Caller, message: pb.ForceReleaseRequest) -> pb.ForceReleaseResponse:
        named = msgspec.structs.replace(caller, request=request_of(caller, message.request_id))
        await self._operations.break_lock(named, translation.force_release(message))
        return pb.ForceReleaseResponse()

    async def watch(self, caller: Caller, message: pb.WatchRequest) -> AsyncIterator[pb.WatchResponse]:
        async with aclosing(await self._operations.watch(caller, translation.watch(message))) as shown:
            async for lock in shown:
                yield pb.WatchResponse(lock=translation.lock_of(lock))

    async def batch(self, caller: Caller, message: pb.BatchRequest) -> pb.BatchResponse:
        operations = translation.batch(message)
        requests = [request_of(caller, _request_id(one)) for one in message.operations]
        results = await self._operations.batch(caller, operations, requests)
        pairs = zip(operations.operations, results, strict=True)
        return pb.BatchResponse(results=[_result(asked, result) for asked, result in pairs])


def _request_id(one: pb.BatchOperation) -> str:
    return one.acquire.request_id or one.force_release.request_id


def _result(asked: op.Operation, result: object) -> pb.BatchResult:
    """One field for each kind of result that a batched operation can have."""
    if isinstance(result, HoldfastError):
        return pb.BatchResult(error=_error(result))
    if isinstance(result, op.Grant):
        return pb.BatchResult(acquire=pb.AcquireResponse(grant=translation.grant_of(result)))
    if isinstance(result, op.Renewed):
        return pb.BatchResult(renew=pb.RenewResponse(expires_in=duration_of(result.expires_in_ms)))
    if isinstance(result, op.LockState):
        return pb.BatchResult(get=pb.GetResponse(lock=translation.lock_of(result)))
    if isinstance(result, op.Checked):
        return pb.BatchResult(check=pb.CheckResponse(held=result.held))
    if isinstance(asked, op.Break):
        return pb.BatchResult(force_release=pb.ForceReleaseResponse())
    return pb.BatchResult(release=pb.ReleaseResponse())


def _error(error: HoldfastError) -> pb.BatchError:
    wait_ms = retry_after_ms(error)
    return pb.BatchError(
        status=status_of(error).value[0],
        reason=reason_of(error),
        message=message_of(error),
        retry_after=duration_of(wait_ms) if wait_ms else None,
    )
