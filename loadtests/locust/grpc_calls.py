"""The vocabulary, carried out over gRPC (holdfast.v1). Runs in the process ``host``."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from holdfast.v1 import locks_pb2 as pb
from holdfast.v1 import sessions_pb2, types_pb2
from holdfast.v1.locks_pb2_grpc import LockServiceStub
from holdfast.v1.sessions_pb2_grpc import SessionServiceStub

from .vocabulary import TTL_S, Grant, NotDone

LISTED_MAX: Final = 100
PATIENCE_S: Final = 5.0
"""Deadline of a call, beyond what it may wait for a lock."""
WITHOUT_REASON: Final = {grpc.StatusCode.RESOURCE_EXHAUSTED: "throttled", grpc.StatusCode.UNAVAILABLE: "unavailable"}
"""What gRPC itself refuses with at its limits, and when there is nobody to call."""


class GrpcCalls:
    """On a channel that shares its connection with no other."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self._locks = LockServiceStub(channel)
        self._sessions = SessionServiceStub(channel)

    async def acquire(self, name: str, wait_s: float, permits: int, capacity: int, session: str) -> Grant:
        request = pb.AcquireRequest(name=name, wait=_duration(wait_s), session=session)
        if not session:
            request.ttl.CopyFrom(_duration(TTL_S))
        if capacity:
            request.mode, request.permits, request.capacity = types_pb2.LOCK_MODE_PERMITS, permits, capacity
        sent_s = time.monotonic()
        grant = (await self._call(self._locks.Acquire, request, wait_s)).grant
        return Grant(name, grant.token, grant.lock_id, sent_s + grant.expires_in.ToTimedelta().total_seconds())

    async def release(self, name: str, token: int, lock_id: str) -> None:
        await self._call(self._locks.Release, pb.ReleaseRequest(grant=_of(lock_id)))

    async def renew(self, name: str, token: int, lock_id: str) -> None:
        await self._call(self._locks.Renew, pb.RenewRequest(grant=_of(lock_id), ttl=_duration(TTL_S)))

    async def check(self, name: str, token: int, lock_id: str) -> bool:
        return bool((await self._call(self._locks.Check, pb.CheckRequest(grant=_of(lock_id)))).held)

    async def get(self, name: str) -> int:
        return int((await self._call(self._locks.Get, pb.GetRequest(name=name))).lock.holder_count)

    async def list(self, prefix: str) -> int:
        return len((await self._call(self._locks.List, pb.ListRequest(prefix=prefix, page_size=LISTED_MAX))).locks)

    async def open_session(self) -> str:
        request = sessions_pb2.CreateRequest(ttl=_duration(TTL_S))
        return str((await self._call(self._sessions.Create, request)).session)

    async def end_session(self, session: str) -> None:
        await self._call(self._sessions.End, sessions_pb2.EndRequest(session=session))

    async def close(self) -> None:
        await self._channel.close()

    async def _call(self, method: Any, request: Any, wait_s: float = 0.0) -> Any:
        return await method(request, metadata=self._metadata, timeout=wait_s + PATIENCE_S)


async def opened(address: str, api_key: str) -> GrpcCalls:
    channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    return GrpcCalls(channel, api_key)


def explained(error: grpc.aio.AioRpcError) -> NotDone:
    status = status_pb2.Status()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status.ParseFromString(value)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    code = info.reason.lower().replace("_", "-") or WITHOUT_REASON.get(error.code(), error.code().name.lower())
    return NotDone(code, error.details() or "", retry.retry_delay.ToMilliseconds())


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def _of(lock_id: str) -> types_pb2.GrantRef:
    return types_pb2.GrantRef(lock_id=lock_id)
