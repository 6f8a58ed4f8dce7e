"""The ways in which administrators ask, and what they are told in one form whichever way it was."""

from __future__ import annotations

from typing import Any, Protocol

import grpc
import httpx
import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

import holdfast
import holdfast.admin
from holdfast.errors import HoldfastError
from holdfast.v1 import admin_pb2 as pb
from holdfast.wire.administration import KeyInfo, KeyMade, LockDetail, SessionDetail, TenantInfo
from holdfast_router.operations.problems import problem_of
from tests.grpc.calling import Api, Refusal

from .fronts import Failed

Told = dict[str, Any]


class Administrator(Protocol):
    async def ask(self, do: str, given: dict[str, Any]) -> Told:
        """One request, by the type that it has in JSON. Raises :class:`Failed`."""

    async def close(self) -> None: ...


def of_tenant(info: TenantInfo) -> Told:
    quotas = {name: info.quotas[name] for name in ("rate", "held", "ttl_ms")}
    keys = [(key.name, key.role, key.prefix) for key in info.keys]
    return {
        "id": info.id, "display": info.display, "state": info.state, "plan": info.plan, "weight": info.weight,
        "version": info.version, "keys": keys, **quotas,
    }  # fmt: skip


def of_key(info: KeyInfo, text: str) -> Told:
    return {"key": info.id, "name": info.name, "role": info.role, "prefix": info.prefix, "api_key": text}


def of_lock(detail: LockDetail) -> Told:
    holders = [(one.token > 0, one.mode, one.why, one.count, one.metadata, one.leaving) for one in detail.holders]
    return {"name": detail.name, "waiters": detail.waiters, "holders": holders}


def of_session(part: SessionDetail) -> Told:
    return {"session": part.session, "ttl_ms": part.ttl_ms, "held": part.held, "metadata": part.metadata}


def of_record(record: dict[str, Any]) -> Told:
    actor = record["actor"]
    return {
        "actor": (actor["tenant"], actor["key_name"]), "action": record["action"], "target": record["target"],
        "change": (record["before"].get("weight"), record["after"].get("weight")),
    }  # fmt: skip


class ByHttp:
    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20)

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, do: str, given: dict[str, Any]) -> Told:
        answer = await self._client.post("/v1/admin", json={"type": do, **given})
        found = answer.json()
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            raise Failed(found["code"])
        return self._told(do, found["result"])

    def _told(self, do: str, result: dict[str, Any]) -> Told:
        match do:
            case "tenant.create":
                return {**of_tenant(msgspec.convert(result["tenant"], TenantInfo)), "api_key": result["api_key"]}
            case "tenant.list":
                return {"tenants": [each["id"] for each in result["tenants"]], "cursor": result["cursor"]}
            case "tenant.show" | "tenant.set" | "tenant.suspend" | "tenant.resume":
                return of_tenant(msgspec.convert(result, TenantInfo))
            case "key.create" | "key.rotate":
                return of_key(msgspec.convert(result["key"], KeyInfo), result["api_key"])
            case "lock.list":
                locks = [of_lock(msgspec.convert(each, LockDetail)) for each in result["locks"]]
                return {"locks": locks, "cursor": result["cursor"]}
            case "lock.show":
                return of_lock(msgspec.convert(result, LockDetail))
            case "session.list":
                parts = [of_session(msgspec.convert(each, SessionDetail)) for each in result["sessions"]]
                return {"sessions": parts, "cursor": result["cursor"]}
            case "audit.list":
                return {"records": [of_record(record) for record in result["records"]]}
        return {}


class ByStream:
    """holdfast.admin."""

    def __init__(self, admin: holdfast.admin.Admin) -> None:
        self._admin = admin

    async def close(self) -> None:
        await self._admin.close()

    async def ask(self, do: str, given: dict[str, Any]) -> Told:
        try:
            return await self._ask(do, dict(given))
        except HoldfastError as error:
            code = problem_of(error).slug
            raise Failed(code) from error

    async def _ask(self, do: str, given: dict[str, Any]) -> Told:
        admin = self._admin
        match do:
            case "tenant.create":
                tenant = given.pop("id")
                made = await admin.create_tenant(tenant, **given.pop("quotas", {}), **given)
                return {**of_tenant(made.tenant), "api_key": made.api_key}
            case "tenant.list":
                return {"tenants": [tenant.id async for tenant in admin.tenants()], "cursor": ""}
            case "tenant.show":
                return of_tenant(await admin.tenant(**given))
            case "tenant.set":
                return of_tenant(await admin.set_tenant(**given.pop("quotas", {}), **given))
            case "tenant.suspend":
                return of_tenant(await admin.suspend_tenant(**given))
            case "tenant.resume":
                return of_tenant(await admin.resume_tenant(**given))
            case "tenant.delete":
                await admin.delete_tenant(**given)
            case "lock.list":
                return {"locks": [of_lock(lock) async for lock in admin.locks(**given)], "cursor": ""}
            case "lock.show":
                return of_lock(await admin.lock(**given))
            case "lock.break":
                await admin.break_lock(**given)
            case "session.list":
                return {"sessions": [of_session(part) async for part in admin.sessions(**given)], "cursor": ""}
            case "session.end":
                await admin.end_session(**given)
            case "audit.list":
                return {"records": [of_record(record) async for record in admin.audit(**given)]}
            case _:
                return await self._ask_of_keys(do, given)
        return {}

    async def _ask_of_keys(self, do: str, given: dict[str, Any]) -> Told:
        made: KeyMade
        match do:
            case "key.create":
                made = await self._admin.create_key(**given)
            case "key.rotate":
                made = await self._admin.rotate_key(**given)
            case _:
                await self._admin.revoke_key(**given)
                return {}
        return of_key(made.key, made.api_key)


_STATES = {pb.TENANT_STATE_ACTIVE: "active", pb.TENANT_STATE_SUSPENDED: "suspended"}
_ROLES = {pb.KEY_ROLE_READ: "read", pb.KEY_ROLE_LOCKS: "locks", pb.KEY_ROLE_ADMIN: "admin"}
_MODES = ("", "exclusive", "shared", "permits")
_RPCS = {
    "tenant.create": "CreateTenant", "tenant.list": "ListTenants", "tenant.show": "GetTenant",
    "tenant.set": "UpdateTenant", "tenant.suspend": "SuspendTenant", "tenant.resume": "ResumeTenant",
    "tenant.delete": "DeleteTenant", "key.create": "CreateKey", "key.rotate": "RotateKey", "key.revoke": "RevokeKey",
    "lock.list": "ListTenantLocks", "lock.show": "GetTenantLock", "lock.break": "BreakTenantLock",
    "session.list": "ListTenantSessions", "session.end": "EndTenantSession", "audit.list": "ListAuditRecords",
}  # fmt: skip
_FIELDS = {"display": "display_name", "session": "session_id", "cursor": "page_token"}


class ByGrpc:
    def __init__(self, address: str, key: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._api = Api(self._channel, key)

    async def close(self) -> None:
        await self._channel.close()

    async def ask(self, do: str, given: dict[str, Any]) -> Told:
        rpc = _RPCS[do]
        fields = {_FIELDS.get(name, name): value for name, value in given.items()}
        if "role" in fields:
            fields["role"] = next(number for number, role in _ROLES.items() if role == fields["role"])
        if "quotas" in fields:
            quotas = dict(fields["quotas"])
            ttl_ms = quotas.pop("ttl_ms", None)
            ttl = Duration(seconds=ttl_ms // 1000) if ttl_ms is not None else None
            fields["quotas"] = pb.Quotas(**quotas, ttl=ttl)
        for name in {"since_ms", "until_ms"} & fields.keys():
            moment = fields[name[:5]] = Timestamp()
            moment.FromMilliseconds(fields.pop(name))
        try:
            return self._told(do, await self._api.admin(rpc, getattr(pb, f"{rpc}Request")(**fields)))
        except grpc.aio.AioRpcError as error:
            raise Failed(Refusal(error).reason.lower().replace("_", "-")) from error

    def _told(self, do: str, response: Any) -> Told:
        match do:
            case "tenant.create":
                return {**self._tenant(response.tenant), "api_key": response.api_key}
            case "tenant.list":
                return {"tenants": [each.id for each in response.tenants], "cursor": response.next_page_token}
            case "tenant.show" | "tenant.set" | "tenant.suspend" | "tenant.resume":
                return self._tenant(response.tenant)
            case "key.create" | "key.rotate":
                key = response.key
                assert abs(key.created_at.seconds - 1.7e9) < 1e9
                found = {"key": key.id, "name": key.name, "role": _ROLES[key.role], "prefix": key.prefix}
                return {**found, "api_key": response.api_key}
            case "lock.list":
                return {"locks": [self._lock(lock) for lock in response.locks], "cursor": response.next_page_token}
            case "lock.show":
                return self._lock(response.lock)
            case "session.list":
                parts = [self._session(part) for part in response.parts]
                return {"sessions": parts, "cursor": response.next_page_token}
            case "audit.list":
                return {"records": [self._record(record) for record in response.records]}
        return {}

    def _tenant(self, tenant: pb.Tenant) -> Told:
        quotas = {"rate": tenant.quotas.rate, "held": tenant.quotas.held, "ttl_ms": tenant.quotas.ttl.ToMilliseconds()}
        keys = [(key.name, _ROLES[key.role], key.prefix) for key in tenant.keys]
        return {
            "id": tenant.id, "display": tenant.display_name, "state": _STATES[tenant.state], "plan": tenant.plan,
            "weight": tenant.weight, "version": tenant.version, "keys": keys, **quotas,
        }  # fmt: skip

    def _lock(self, lock: Any) -> Told:
        holders = [
            (
                one.token > 0,
                _MODES[one.mode],
                one.why,
                one.count,
                one.metadata.decode(),
                "forced" if one.leaving else "",
            )
            for one in lock.holders
        ]
        return {"name": lock.name, "waiters": lock.waiters, "holders": holders}

    def _session(self, part: pb.TenantSessionPart) -> Told:
        ttl_ms = part.ttl.ToMilliseconds()
        return {"session": part.session_id, "ttl_ms": ttl_ms, "held": part.held, "metadata": part.metadata}

    def _record(self, record: pb.AuditRecord) -> Told:
        return {
            "actor": (record.actor_tenant, record.actor_key_name), "action": record.action, "target": record.target,
            "change": tuple(MessageToDict(view).get("weight") for view in (record.before, record.after)),
        }  # fmt: skip
