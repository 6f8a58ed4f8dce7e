"""What administrators ask: the one implementation, whichever front they come by.

Rights over tenants and keys are decided by the meta group, which alone knows them as they are; what is checked here is
what it never hears of: who may look, and who may break locks and end sessions.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from holdfast.wire import administration as asked
from holdfast.wire import changes
from holdfast.wire.administration import AdminRequest, AdminResult, Done, KeyMade, TenantInfo, info_of, key_info
from holdfast.wire.changes import CHANGE_ID_BYTES, Action, AuditFilter, Changed, json_of
from holdfast.wire.errors import Conflict, Forbidden, InvalidArgument, NotFound, Overloaded
from holdfast.wire.keys import new_key
from holdfast.wire.limits import AUDIT_FILTER_CHARS_MAX, AUDIT_PAGE_MAX, BUSY_RETRY_MS, LIST_PAGE_MAX
from holdfast.wire.tenants import OPERATOR, PLANS, ApiKey, KeyRole, Plan, Principal, Quotas, Tenant

from .admission.pace import Pace
from .changing import Changes
from .directory import Directory
from .inspecting import Inspection

FIRST_KEY: Final = "first"
REQUESTS_MAX: Final = 1024
"""Under way on one router, by whichever front; the operator is not kept out by tenants'."""


class _Call(msgspec.Struct, frozen=True):
    """Who asks, from where, under which id."""

    principal: Principal
    address: str
    number: bytes


class Administration:
    def __init__(self, directory: Directory, changes: Changes, inspection: Inspection, pace: Pace) -> None:
        self._directory = directory
        self._pace = pace
        self._changes = changes
        self._inspection = inspection
        self._under_way = 0
        self._handlers: dict[type, Callable[[Any, _Call], Awaitable[AdminResult]]] = {
            asked.CreateTenant: self._create_tenant,
            asked.ListTenants: self._list_tenants,
            asked.ShowTenant: self._show_tenant,
            asked.SetTenant: self._set_tenant,
            asked.SuspendTenant: self._suspend,
            asked.ResumeTenant: self._resume,
            asked.DeleteTenant: self._delete,
            asked.CreateKey: self._create_key,
            asked.RotateKey: self._rotate_key,
            asked.RevokeKey: self._revoke_key,
            asked.ListLocks: self._locks,
            asked.ShowLock: self._lock,
            asked.BreakLock: self._break,
            asked.ListSessions: self._sessions,
            asked.EndSession: self._end,
            asked.ListAudit: self._audit,
        }

    async def execute(
        self, principal: Principal, request: AdminRequest, address: str, number: bytes = b""
    ) -> AdminResult:
        """Do it and say what came of it. ``number`` (16 bytes, or empty) is that of a request which may come again: it
        is done once and answered as at first.

        Raises :class:`Forbidden`, :class:`NotFound`, :class:`Conflict`, :class:`InvalidArgument`,
        :class:`Throttled`, :class:`Overloaded`, :class:`Unavailable` and :class:`OutcomeUnknown`.
        """
        if self._under_way >= REQUESTS_MAX and principal.tenant != OPERATOR:
            raise Overloaded(f"{REQUESTS_MAX} requests of administrators are under way", BUSY_RETRY_MS)
        self._pace.check(principal.tenant)
        if len(number) not in (0, CHANGE_ID_BYTES):
            raise InvalidArgument(f"the id of a request has {CHANGE_ID_BYTES} bytes")
        self._directory.check_fresh()
        self._under_way += 1
        try:
            return await self._handlers[type(request)](request, _Call(principal, address, number))
        finally:
            self._under_way -= 1

    # Tenants.

    async def _create_tenant(self, request: asked.CreateTenant, call: _Call) -> asked.TenantMade:
        _operator(call)
        plan = _plan(request.plan)
        weight = plan.weight if request.weight is None else request.weight
        key, text = new_key(FIRST_KEY, KeyRole.ADMIN, "", _now_ms())
        action = changes.CreateTenant(
            request.id, request.display or request.id, request.plan, weight, _quotas(plan, request.quotas), key
        )
        changed = await self._made(action, call, key)
        return asked.TenantMade(info_of(self._numbered(changed.tenant)), text)

    async def _list_tenants(self, request: asked.ListTenants, call: _Call) -> asked.TenantPage:
        limit = _limit(request.limit)
        seen = self._directory.tenants if call.principal.tenant == OPERATOR else [self._tenant("", call)]
        later = sorted((tenant for tenant in seen if tenant.id > request.cursor), key=lambda tenant: tenant.id)
        page = later[:limit]
        return asked.TenantPage([info_of(tenant) for tenant in page], page[-1].id if len(later) > limit else "")

    async def _show_tenant(self, request: asked.ShowTenant, call: _Call) -> TenantInfo:
        return info_of(self._tenant(request.tenant, call))

    async def _set_tenant(self, request: asked.SetTenant, call: _Call) -> TenantInfo:
        quotas, weight = request.quotas, request.weight
        if request.plan is not None:
            plan = _plan(request.plan)
            quotas = {**msgspec.structs.asdict(plan.quotas), **quotas}
            weight = plan.weight if weight is None else weight
        action = changes.SetTenant(request.tenant, request.display, request.plan, weight, quotas)
        return await self._changed(action, call, request.version)

    async def _suspend(self, request: asked.SuspendTenant, call: _Call) -> TenantInfo:
        return await self._changed(changes.SuspendTenant(request.tenant), call)

    async def _resume(self, request: asked.ResumeTenant, call: _Call) -> TenantInfo:
        return await self._changed(changes.ResumeTenant(request.tenant), call)

    async def _delete(self, request: asked.DeleteTenant, call: _Call) -> Done:
        await self._make(changes.DeleteTenant(request.tenant), call)
        return Done(request.tenant)

    # Keys.

    async def _create_key(self, request: asked.CreateKey, call: _Call) -> KeyMade:
        key, text = new_key(request.name, request.role, request.prefix, _now_ms())
        tenant = self._tenant(request.tenant, call)
        await self._made(changes.CreateKey(tenant.id, key), call, key)
        return KeyMade(key_info(key), text)

    async def _rotate_key(self, request: asked.RotateKey, call: _Call) -> KeyMade:
        key, text = new_key("", KeyRole.READ, "", _now_ms())
        changed = await self._made(changes.RotateKey(request.key, key.id, key.salt, key.digest), call, key)
        tenant = self._numbered(changed.tenant)
        made = next((known for known in tenant.keys if known.id == key.id), None)
        if made is None:
            raise Conflict("this key was changed again meanwhile: list the keys")
        return KeyMade(key_info(made), text)

    async def _revoke_key(self, request: asked.RevokeKey, call: _Call) -> Done:
        await self._make(changes.RevokeKey(request.key), call)
        return Done(request.key)

    # Locks and sessions.

    async def _locks(self, request: asked.ListLocks, call: _Call) -> asked.LockList:
        tenant = self._holder(request.tenant, call)
        _names(call, request.prefix)
        return await self._inspection.locks(tenant, request)

    async def _lock(self, request: asked.ShowLock, call: _Call) -> asked.LockDetail:
        tenant = self._holder(request.tenant, call)
        _names(call, request.name)
        return await self._inspection.lock(tenant, request)

    async def _break(self, request: asked.BreakLock, call: _Call) -> Done:
        tenant = self._holder(request.tenant, call)
        _admin(call)
        _names(call, request.name)
        return await self._inspection.break_lock(call.principal, call.address, tenant, request, call.number)

    async def _sessions(self, request: asked.ListSessions, call: _Call) -> asked.SessionList:
        tenant = self._holder(request.tenant, call)
        _names(call, "")
        return await self._inspection.sessions(tenant, request)

    async def _end(self, request: asked.EndSession, call: _Call) -> Done:
        tenant = self._holder(request.tenant, call)
        _admin(call)
        _names(call, "")
        return await self._inspection.end_session(call.principal, call.address, tenant, request, call.number)

    async def _audit(self, request: asked.ListAudit, call: _Call) -> asked.AuditList:
        _admin(call)
        _names(call, "")
        if not 1 <= request.limit <= AUDIT_PAGE_MAX:
            raise InvalidArgument(f"a limit is 1 to {AUDIT_PAGE_MAX}, not {request.limit}")
        wanted = self._wanted(request, call)
        page = await self._changes.page(call.principal.tenant, request.cursor, request.limit, wanted)
        return asked.AuditList([json_of(record) for record in page.records], page.cursor)

    def _wanted(self, request: asked.ListAudit, call: _Call) -> AuditFilter:
        for text in (request.tenant, request.action, request.target, request.key):
            if len(text) > AUDIT_FILTER_CHARS_MAX:
                raise InvalidArgument(f"what records are chosen by has at most {AUDIT_FILTER_CHARS_MAX} characters")
        tenant = self._directory.named(request.tenant) if request.tenant else None
        if call.principal.tenant != OPERATOR and request.tenant:
            self._tenant(request.tenant, call)
        return AuditFilter(
            request.tenant, None if tenant is None else tenant.number, request.action, request.target, request.key,
            request.since_ms, request.until_ms,
        )  # fmt: skip

    # Parts.

    async def _make(self, action: Action, call: _Call, version: int = 0) -> Changed:
        return await self._changes.make(call.principal, call.address, action, number=call.number, expected=version)

    async def _changed(self, action: Action, call: _Call, version: int = 0) -> TenantInfo:
        changed = await self._make(action, call, version)
        return info_of(self._numbered(changed.tenant))

    async def _made(self, action: Action, call: _Call, key: ApiKey) -> Changed:
        """Of what makes a key: the secret is known only to who made it."""
        changed = await self._make(action, call)
        if changed.key != key.id:
            raise Conflict(
                f"this was done when it was first asked, and its answer was lost: rotate key {changed.key} to have a "
                "secret for it"
            )
        return changed

    def _holder(self, text: str, call: _Call) -> Tenant:
        """As :meth:`_tenant`, where it is about what a tenant holds."""
        tenant = self._tenant(text, call)
        if tenant.number == OPERATOR:
            raise InvalidArgument("the operator holds nothing: say whose locks or sessions are meant (--tenant NAME)")
        return tenant

    def _tenant(self, text: str, call: _Call) -> Tenant:
        """The one that is meant. Nobody but the operator learns which others there are."""
        home = call.principal.tenant
        tenant = self._directory.named(text) if text else self._directory.tenant(home)
        if tenant is None or home not in (OPERATOR, tenant.number):
            raise NotFound(f"there is no tenant {text!r}")
        return tenant

    def _numbered(self, number: int) -> Tenant:
        tenant = self._directory.tenant(number)
        if tenant is None:
            raise NotFound("this tenant was deleted meanwhile")
        return tenant


def _operator(call: _Call) -> None:
    if call.principal.tenant != OPERATOR:
        raise Forbidden("this is the operator's to do")


def _admin(call: _Call) -> None:
    if call.principal.role != KeyRole.ADMIN:
        raise Forbidden("this needs a key with role admin")


def _names(call: _Call, name: str) -> None:
    """``name``, or what all names begin with."""
    prefix = call.principal.prefix
    if not name.startswith(prefix):
        raise Forbidden(f"this key is for names that begin with {prefix!r}")


def _limit(limit: int) -> int:
    if not 1 <= limit <= LIST_PAGE_MAX:
        raise InvalidArgument(f"a limit is 1 to {LIST_PAGE_MAX}, not {limit}")
    return limit


def _plan(name: str) -> Plan:
    if name not in PLANS:
        raise InvalidArgument(f"there is no plan {name!r}: plans are {', '.join(PLANS)}")
    return PLANS[name]


def _quotas(plan: Plan, named: dict[str, int]) -> Quotas:
    unknown = named.keys() - set(plan.quotas.__struct_fields__)
    if unknown:
        raise InvalidArgument(f"there is no quota {min(unknown)!r}: quotas are {', '.join(Quotas.__struct_fields__)}")
    return msgspec.structs.replace(plan.quotas, **named)


def _now_ms() -> int:
    return int(time.time() * 1000)
