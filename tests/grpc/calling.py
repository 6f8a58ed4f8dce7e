"""Calls of holdfast.v1 as a client in any language makes them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from holdfast.v1 import locks_pb2 as pb
from holdfast.v1.admin_pb2_grpc import AdminServiceStub
from holdfast.v1.locks_pb2_grpc import LockServiceStub
from holdfast.v1.sessions_pb2_grpc import SessionServiceStub
from holdfast.v1.types_pb2 import Grant, GrantRef

PATIENCE_S = 20.0
DETAILS = "grpc-status-details-bin"
KINDS = {kind.DESCRIPTOR.full_name: kind for kind in (ErrorInfo, RetryInfo, QuotaFailure)}


class Api:
    """Every rpc as a method; its deadline and its key go along."""

    def __init__(self, channel: Any, key: str) -> None:
        self._locks: Any = LockServiceStub(channel)  # type: ignore[no-untyped-call]
        self._sessions: Any = SessionServiceStub(channel)  # type: ignore[no-untyped-call]
        self._admin: Any = AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        self.metadata = (("authorization", f"Bearer {key}"),)

    def locks(self, rpc: str, message: Any, timeout: float = PATIENCE_S) -> Any:
        return getattr(self._locks, rpc)(message, metadata=self.metadata, timeout=timeout)

    def sessions(self, rpc: str, message: Any, timeout: float = PATIENCE_S) -> Any:
        return getattr(self._sessions, rpc)(message, metadata=self.metadata, timeout=timeout)

    def admin(self, rpc: str, message: Any, timeout: float = PATIENCE_S) -> Any:
        return getattr(self._admin, rpc)(message, metadata=self.metadata, timeout=timeout)

    def attach(self, timeout: float = PATIENCE_S) -> Any:
        return self._sessions.Attach(metadata=self.metadata, timeout=timeout)

    async def acquire(self, name: str, **fields: Any) -> Grant:
        response: pb.AcquireResponse = await self.locks("Acquire", pb.AcquireRequest(name=name, **fields))
        return response.grant

    async def release(self, grant: Grant) -> None:
        await self.locks("Release", pb.ReleaseRequest(grant=GrantRef(lock_id=grant.lock_id)))

    async def held(self, grant: Grant) -> bool:
        ref = GrantRef(name=grant.name, token=grant.token)
        response: pb.CheckResponse = await self.locks("Check", pb.CheckRequest(grant=ref))
        return response.held


class Refusal:
    """What an error says: its status and the details of google.rpc."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.status = error.code()
        self.message = error.details() or ""
        self.details: dict[str, Any] = {}
        for key, value in error.trailing_metadata() or ():
            if key == DETAILS:
                assert isinstance(value, bytes)
                for box in Status.FromString(value).details:
                    kind = KINDS[box.TypeName()]
                    self.details[kind.DESCRIPTOR.name] = kind.FromString(box.value)

    @property
    def reason(self) -> str:
        reason: str = self.details["ErrorInfo"].reason
        return reason


async def refused(call: Awaitable[Any]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value)
