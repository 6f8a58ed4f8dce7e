"""AdminService: each rpc is one administrators' request, translated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from holdfast.v1 import admin_pb2 as pb
from holdfast.wire import administration as asked

from ..operations import Caller, Operations
from . import admin_translation as translation
from .calls import request_of


class AdminService:
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["AdminService"]

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @property
    def methods(self) -> dict[str, Callable[..., Any]]:
        return {
            "CreateTenant": self.create_tenant,
            "ListTenants": self.list_tenants,
            "GetTenant": self.get_tenant,
            "UpdateTenant": self.update_tenant,
            "SuspendTenant": self.suspend_tenant,
            "ResumeTenant": self.resume_tenant,
            "DeleteTenant": self.delete_tenant,
            "CreateKey": self.create_key,
            "RotateKey": self.rotate_key,
            "RevokeKey": self.revoke_key,
            "ListTenantLocks": self.list_locks,
            "GetTenantLock": self.get_lock,
            "BreakTenantLock": self.break_lock,
            "ListTenantSessions": self.list_sessions,
            "EndTenantSession": self.end_session,
            "ListAuditRecords": self.list_audit_records,
        }

    async def _ask(self, caller: Caller, request: asked.AdminRequest) -> Any:
        """Which result belongs to which request is said where the request is described."""
        return await self._operations.administer(caller, request)

    async def _change(self, caller: Caller, request_id: str, request: asked.AdminRequest) -> Any:
        named = msgspec.structs.replace(caller, request=request_of(caller, request_id))
        return await self._operations.administer(named, request)

    # Tenants.

    async def create_tenant(self, caller: Caller, message: pb.CreateTenantRequest) -> pb.CreateTenantResponse:
        made = await self._change(caller, message.request_id, translation.create_tenant(message))
        return pb.CreateTenantResponse(tenant=translation.tenant_of(made.tenant), api_key=made.api_key)

    async def list_tenants(self, caller: Caller, message: pb.ListTenantsRequest) -> pb.ListTenantsResponse:
        page = await self._ask(caller, translation.list_tenants(message))
        tenants = [translation.tenant_of(tenant) for tenant in page.tenants]
        return pb.ListTenantsResponse(tenants=tenants, next_page_token=page.cursor)

    async def get_tenant(self, caller: Caller, message: pb.GetTenantRequest) -> pb.GetTenantResponse:
        found = await self._ask(caller, asked.ShowTenant(message.tenant))
        return pb.GetTenantResponse(tenant=translation.tenant_of(found))

    async def update_tenant(self, caller: Caller, message: pb.UpdateTenantRequest) -> pb.UpdateTenantResponse:
        changed = await self._change(caller, message.request_id, translation.set_tenant(message))
        return pb.UpdateTenantResponse(tenant=translation.tenant_of(changed))

    async def suspend_tenant(self, caller: Caller, message: pb.SuspendTenantRequest) -> pb.SuspendTenantResponse:
        changed = await self._change(caller, message.request_id, asked.SuspendTenant(message.tenant))
        return pb.SuspendTenantResponse(tenant=translation.tenant_of(changed))

    async def resume_tenant(self, caller: Caller, message: pb.ResumeTenantRequest) -> pb.ResumeTenantResponse:
        changed = await self._change(caller, message.request_id, asked.ResumeTenant(message.tenant))
        return pb.ResumeTenantResponse(tenant=translation.tenant_of(changed))

    async def delete_tenant(self, caller: Caller, message: pb.DeleteTenantRequest) -> pb.DeleteTenantResponse:
        await self._change(caller, message.request_id, asked.DeleteTenant(message.tenant))
        return pb.DeleteTenantResponse()

    # Keys.

    async def create_key(self, caller: Caller, message: pb.CreateKeyRequest) -> pb.CreateKeyResponse:
        made = await self._change(caller, message.request_id, translation.create_key(message))
        return pb.CreateKeyResponse(key=translation.key_of(made.key), api_key=made.api_key)

    async def rotate_key(self, caller: Caller, message: pb.RotateKeyRequest) -> pb.RotateKeyResponse:
        made = await self._change(caller, message.request_id, asked.RotateKey(message.key))
        return pb.RotateKeyResponse(key=translation.key_of(made.key), api_key=made.api_key)

    async def revoke_key(self, caller: Caller, message: pb.RevokeKeyRequest) -> pb.RevokeKeyResponse:
        await self._change(caller, message.request_id, asked.RevokeKey(message.key))
        return pb.RevokeKeyResponse()

    # Locks and sessions.

    async def list_locks(self, caller: Caller, message: pb.ListTenantLocksRequest) -> pb.ListTenantLocksResponse:
        page = await self._ask(caller, translation.list_locks(message))
        locks = [translation.lock_of(lock) for lock in page.locks]
        return pb.ListTenantLocksResponse(locks=locks, next_page_token=page.cursor)

    async def get_lock(self, caller: Caller, message: pb.GetTenantLockRequest) -> pb.GetTenantLockResponse:
        found = await self._ask(caller, asked.ShowLock(message.name, message.tenant))
        return pb.GetTenantLockResponse(lock=translation.lock_of(found))

    async def break_lock(self, caller: Caller, message: pb.BreakTenantLockRequest) -> pb.BreakTenantLockResponse:
        await self._change(caller, message.request_id, translation.break_lock(message))
        return pb.BreakTenantLockResponse()

    async def list_sessions(
        self, caller: Caller, message: pb.ListTenantSessionsRequest
    ) -> pb.ListTenantSessionsResponse:
        page = await self._ask(caller, translation.list_sessions(message))
        parts = [translation.part_of(part) for part in page.sessions]
        return pb.ListTenantSessionsResponse(parts=parts, next_page_token=page.cursor)

    async def end_session(self, caller: Caller, message: pb.EndTenantSessionRequest) -> pb.EndTenantSessionResponse:
        end = asked.EndSession(message.session_id, message.tenant, message.reason)
        await self._change(caller, message.request_id, end)
        return pb.EndTenantSessionResponse()

    # What was done.

    async def list_audit_records(
        self, caller: Caller, message: pb.ListAuditRecordsRequest
    ) -> pb.ListAuditRecordsResponse:
        page = await self._ask(caller, translation.list_audit(message))
        records = [translation.record_of(record) for record in page.records]
        return pb.ListAuditRecordsResponse(records=records, next_page_token=str(page.cursor or ""))
