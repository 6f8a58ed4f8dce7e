"""Messages of AdminService to administrators' requests, and results back. Nothing is decided here."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.errors import InvalidArgument
from holdfast.v1 import admin_pb2 as pb
from holdfast.v1 import types_pb2 as tpb
from holdfast.wire import administration as asked
from holdfast.wire.tenants import KeyRole, Quotas, TenantState

from .statuses import duration_of
from .translation import MODES_BACK, REASONS, checked, milliseconds

_ROLES: Final = {
    pb.KEY_ROLE_UNSPECIFIED: KeyRole.LOCKS,
    pb.KEY_ROLE_READ: KeyRole.READ,
    pb.KEY_ROLE_LOCKS: KeyRole.LOCKS,
    pb.KEY_ROLE_ADMIN: KeyRole.ADMIN,
}
_ROLES_BACK: Final = {str(role): number for number, role in _ROLES.items() if number}
_STATES: Final = {
    str(TenantState.ACTIVE): pb.TENANT_STATE_ACTIVE,
    str(TenantState.SUSPENDED): pb.TENANT_STATE_SUSPENDED,
}
_COUNTS: Final = tuple(name for name in Quotas.__struct_fields__ if name != "ttl_ms")


def _quotas(message: pb.Quotas) -> dict[str, int]:
    """Those that are named."""
    found: dict[str, int] = {name: getattr(message, name) for name in _COUNTS if message.HasField(name)}
    ttl_ms = milliseconds(message.ttl, given=message.HasField("ttl"))
    return found if ttl_ms is None else {**found, "ttl_ms": ttl_ms}


def _weight(message: pb.CreateTenantRequest | pb.UpdateTenantRequest) -> int | None:
    return message.weight if message.HasField("weight") else None


def create_tenant(message: pb.CreateTenantRequest) -> asked.CreateTenant:
    return checked(
        asked.CreateTenant,
        id=message.id,
        display=message.display_name,
        plan=message.plan or None,
        weight=_weight(message),
        quotas=_quotas(message.quotas),
    )


def set_tenant(message: pb.UpdateTenantRequest) -> asked.SetTenant:
    return checked(
        asked.SetTenant,
        tenant=message.tenant,
        display=message.display_name if message.HasField("display_name") else None,
        plan=message.plan if message.HasField("plan") else None,
        weight=_weight(message),
        quotas=_quotas(message.quotas),
        version=message.version,
    )


def list_tenants(message: pb.ListTenantsRequest) -> asked.ListTenants:
    return checked(asked.ListTenants, cursor=message.page_token, limit=message.page_size or None)


def create_key(message: pb.CreateKeyRequest) -> asked.CreateKey:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidArgument(f"role is one of KeyRole, not {message.role}")
    return asked.CreateKey(message.tenant, message.name, role, message.prefix)


def list_locks(message: pb.ListTenantLocksRequest) -> asked.ListLocks:
    return checked(
        asked.ListLocks,
        tenant=message.tenant,
        prefix=message.prefix,
        cursor=message.page_token,
        limit=message.page_size or None,
    )


def break_lock(message: pb.BreakTenantLockRequest) -> asked.BreakLock:
    return checked(
        asked.BreakLock,
        name=message.name,
        tenant=message.tenant,
        token=message.token,
        reason=message.reason,
        now=message.now,
    )


def list_sessions(message: pb.ListTenantSessionsRequest) -> asked.ListSessions:
    limit = message.page_size or None
    return checked(asked.ListSessions, tenant=message.tenant, cursor=message.page_token, limit=limit)


def list_audit(message: pb.ListAuditRecordsRequest) -> asked.ListAudit:
    token = message.page_token
    if token and not (token.isascii() and token.isdecimal() and len(token) < 20):
        raise InvalidArgument("this page token was not given by a list")
    return checked(
        asked.ListAudit,
        cursor=int(token or 0),
        limit=message.page_size or None,
        tenant=message.tenant,
        action=message.action,
        target=message.target,
        key=message.key,
        since_ms=_unix_ms(message.since),
        until_ms=_unix_ms(message.until),
    )


# Results.


def tenant_of(info: asked.TenantInfo) -> pb.Tenant:
    quotas = {name: info.quotas[name] for name in _COUNTS}
    return pb.Tenant(
        id=info.id,
        number=info.number,
        display_name=info.display,
        state=_STATES.get(info.state),
        plan=info.plan,
        weight=info.weight,
        quotas=pb.Quotas(**quotas, ttl=duration_of(info.quotas["ttl_ms"])),
        keys=[key_of(key) for key in info.keys],
        created_at=_moment(info.created_ms),
        changed_at=_moment(info.changed_ms),
        version=info.version,
    )


def key_of(info: asked.KeyInfo) -> pb.ApiKey:
    role, created_at = _ROLES_BACK.get(info.role), _moment(info.created_ms)
    return pb.ApiKey(id=info.id, name=info.name, role=role, prefix=info.prefix, created_at=created_at)


def lock_of(detail: asked.LockDetail) -> tpb.Lock:
    return tpb.Lock(
        name=detail.name,
        capacity=detail.capacity,
        waiters=detail.waiters,
        holders=[_holder_of(holder) for holder in detail.holders],
        holder_count=detail.holder_count,
        closed_for=duration_of(detail.closed_ms),
    )


def _holder_of(detail: asked.HolderDetail) -> tpb.Holder:
    return tpb.Holder(
        token=detail.token,
        mode=MODES_BACK[detail.mode],
        permits=detail.permits,
        session_id=detail.session,
        metadata=detail.metadata.encode(),
        held_for=duration_of(detail.held_ms),
        remaining=duration_of(detail.remaining_ms),
        why=detail.why,
        leaving=REASONS.get(detail.leaving),
        count=detail.count,
    )


def part_of(detail: asked.SessionDetail) -> pb.TenantSessionPart:
    return pb.TenantSessionPart(
        session_id=detail.session,
        group=detail.group,
        ttl=duration_of(detail.ttl_ms),
        remaining=duration_of(detail.remaining_ms),
        held=detail.held,
        waiting=detail.waiting,
        metadata=detail.metadata,
    )


def record_of(record: dict[str, Any]) -> pb.AuditRecord:
    actor = record["actor"]
    before, after = Struct(), Struct()
    before.update(record["before"])
    after.update(record["after"])
    return pb.AuditRecord(
        sequence=record["seq"],
        at=_moment(record["when_ms"]),
        actor_tenant=actor["tenant"],
        actor_key=actor["key"],
        actor_key_name=actor["key_name"],
        address=record["address"],
        action=record["action"],
        target=record["target"],
        before=before,
        after=after,
    )


def _unix_ms(moment: Timestamp) -> int:
    """0 when it was left out, which is the moment 0, too."""
    return moment.seconds * 1000 + moment.nanos // 1_000_000


def _moment(unix_ms: int) -> Timestamp:
    return Timestamp(seconds=unix_ms // 1000, nanos=unix_ms % 1000 * 1_000_000)
