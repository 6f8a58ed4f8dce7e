"""What administrators ask of a router, and what they are answered: maps with names, which read as JSON too.

``tenant`` is a tenant's id; empty means that of the caller's own key. Times are Unix milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from .frames import DecodeError, decoder
from .limits import TOKEN_MAX
from .tenants import DEFAULT_PLAN, ApiKey, KeyRole, Tenant

Whole = Annotated[int, Meta(ge=0, le=TOKEN_MAX)]
"""What may travel; what it may be is decided where it is used."""


class CreateTenant(Struct, frozen=True, tag="tenant.create", forbid_unknown_fields=True):
    """Answered with :class:`TenantMade`. Quotas that are not named are the plan's."""

    id: str
    display: str = ""
    plan: str = DEFAULT_PLAN
    weight: Whole | None = None
    quotas: dict[str, Whole] = {}


class ListTenants(Struct, frozen=True, tag="tenant.list", forbid_unknown_fields=True):
    """Answered with :class:`TenantPage`, by id; ``cursor`` is that of the page before."""

    cursor: str = ""
    limit: Whole = 100


class ShowTenant(Struct, frozen=True, tag="tenant.show", forbid_unknown_fields=True):
    """Answered with :class:`TenantInfo`."""

    tenant: str = ""


class SetTenant(Struct, frozen=True, tag="tenant.set", forbid_unknown_fields=True):
    """What is not named stays; another plan brings its weight and quotas, but for those named here. Answered with
    :class:`TenantInfo`.

    ``version`` is that of the tenant as it was looked at: should it have changed since, nothing is done (CONFLICT).
    """

    tenant: str
    display: str | None = None
    plan: str | None = None
    weight: Whole | None = None
    quotas: dict[str, Whole] = {}
    version: Whole = 0


class SuspendTenant(Struct, frozen=True, tag="tenant.suspend", forbid_unknown_fields=True):
    """Its connections are closed and it is admitted nowhere; what it holds runs out. Answered with
    :class:`TenantInfo`."""

    tenant: str


class ResumeTenant(Struct, frozen=True, tag="tenant.resume", forbid_unknown_fields=True):
    """A suspended one. Answered with :class:`TenantInfo`."""

    tenant: str


class DeleteTenant(Struct, frozen=True, tag="tenant.delete", forbid_unknown_fields=True):
    """A suspended one. Answered with :class:`Done`."""

    tenant: str


class CreateKey(Struct, frozen=True, tag="key.create", forbid_unknown_fields=True):
    """Answered with :class:`KeyMade`: the only time that the key is shown."""

    tenant: str = ""
    name: str = ""
    role: KeyRole = KeyRole.LOCKS
    prefix: str = ""


class RotateKey(Struct, frozen=True, tag="key.rotate", forbid_unknown_fields=True):
    """Another key in the place of this one, which ends at once. Answered with :class:`KeyMade`."""

    key: str


class RevokeKey(Struct, frozen=True, tag="key.revoke", forbid_unknown_fields=True):
    """Answered with :class:`Done`."""

    key: str


class ListLocks(Struct, frozen=True, tag="lock.list", forbid_unknown_fields=True):
    """Answered with :class:`LockList`."""

    tenant: str = ""
    prefix: str = ""
    cursor: str = ""
    limit: Whole = 100


class ShowLock(Struct, frozen=True, tag="lock.show", forbid_unknown_fields=True):
    """Answered with :class:`LockDetail`."""

    name: str
    tenant: str = ""


class BreakLock(Struct, frozen=True, tag="lock.break", forbid_unknown_fields=True):
    """Take it from its holder; ``token`` 0 means whoever holds it. Answered with :class:`Done`."""

    name: str
    tenant: str = ""
    token: Whole = 0
    reason: str = ""
    now: bool = False
    """Do not wait until the holder has let go: only tokens protect then."""


class ListSessions(Struct, frozen=True, tag="session.list", forbid_unknown_fields=True):
    """Answered with :class:`SessionList`."""

    tenant: str = ""
    cursor: str = ""
    limit: Whole = 100


class EndSession(Struct, frozen=True, tag="session.end", forbid_unknown_fields=True):
    """All its locks are released as they would be at its end. Answered with :class:`Done`."""

    session: str
    """32 hexadecimal digits."""
    tenant: str = ""
    reason: str = ""


class ListAudit(Struct, frozen=True, tag="audit.list", forbid_unknown_fields=True):
    """Newest first. Answered with :class:`AuditList`; the next page is asked with its ``cursor``. What is empty or 0
    does not matter; a text has at most 1,024 characters."""

    cursor: Whole = 0
    limit: Whole = 100
    tenant: Annotated[
        str,
        Meta(
            description="Whom it is about, or with whose keys it was done; also one that was deleted. Empty means all "
            "for the operator.",
            examples=["shop"],
        ),
    ] = ""
    action: Annotated[
        str, Meta(description="As it stands there, or what is before its dot.", examples=["key.revoke", "lock"])
    ] = ""
    target: Annotated[
        str, Meta(description="A lock, a session, the id of a tenant or key.", examples=["orders/7", "shop"])
    ] = ""
    key: Annotated[str, Meta(description="Id of the key with which it was done.", examples=["abcdefghijkl"])] = ""
    since_ms: Annotated[Whole, Meta(description="From then on.", examples=[1_790_000_000_000])] = 0
    until_ms: Annotated[Whole, Meta(description="Before then.", examples=[1_790_086_400_000])] = 0


AdminRequest = (
    CreateTenant
    | ListTenants
    | ShowTenant
    | SetTenant
    | SuspendTenant
    | ResumeTenant
    | DeleteTenant
    | CreateKey
    | RotateKey
    | RevokeKey
    | ListLocks
    | ShowLock
    | BreakLock
    | ListSessions
    | EndSession
    | ListAudit
)

LOOKS = (ListTenants, ShowTenant, ListLocks, ShowLock, ListSessions, ListAudit)
"""Those that change nothing."""


class KeyInfo(Struct, frozen=True):
    id: str
    name: str
    role: str
    prefix: str
    created_ms: int


class TenantInfo(Struct, frozen=True):
    id: str
    number: int
    display: str
    state: str
    plan: str
    weight: int
    quotas: dict[str, int]
    keys: list[KeyInfo]
    created_ms: int
    changed_ms: int
    version: int


class TenantPage(Struct, frozen=True):
    tenants: list[TenantInfo]
    cursor: str
    """Empty on the last page, as everywhere."""


class TenantMade(Struct, frozen=True):
    tenant: TenantInfo
    api_key: str
    """Its first, with role admin; shown only here."""


class KeyMade(Struct, frozen=True):
    key: KeyInfo
    api_key: str


class Done(Struct, frozen=True):
    target: str


class HolderDetail(Struct, frozen=True):
    token: int
    mode: str
    permits: int
    session: str
    metadata: str
    held_ms: int
    remaining_ms: int
    leaving: str
    why: str = ""
    """How it was had: free, queued or stolen."""
    count: int = 1
    """How many times its session holds it."""


class LockDetail(Struct, frozen=True):
    name: str
    capacity: int
    waiters: int
    holder_count: int
    holders: list[HolderDetail]
    closed_ms: int


class LockList(Struct, frozen=True):
    locks: list[LockDetail]
    cursor: str


class SessionDetail(Struct, frozen=True):
    """Of one group: a session has a part in each group in which it was used."""

    session: str
    group: int
    ttl_ms: int
    remaining_ms: int
    held: int
    waiting: int
    metadata: str


class SessionList(Struct, frozen=True):
    sessions: list[SessionDetail]
    cursor: str


class AuditList(Struct, frozen=True):
    records: list[dict[str, Any]]
    cursor: int
    """0 on the last page; a page before may have fewer records than its limit, or none."""


AdminResult = TenantInfo | TenantPage | TenantMade | KeyMade | Done | LockDetail | LockList | SessionList | AuditList


class AdminCall(Struct, frozen=True):
    """Body of ADMIN from its asker. ``id``: 16 bytes, its own for each thing to be done; the same when asked again."""

    id: bytes
    request: AdminRequest


decode_call = decoder(AdminCall)


def decode_result(body: bytes, kind: type[Any]) -> Any:
    """The answer to a request. Raises :class:`DecodeError`."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error)) from None


def info_of(tenant: Tenant) -> TenantInfo:
    return TenantInfo(
        tenant.id, tenant.number, tenant.display, str(tenant.state), tenant.plan, tenant.weight,
        msgspec.structs.asdict(tenant.quotas), [key_info(key) for key in tenant.keys], tenant.created_ms,
        tenant.changed_ms, tenant.version,
    )  # fmt: skip


def key_info(key: ApiKey) -> KeyInfo:
    return KeyInfo(key.id, key.name, str(key.role), key.prefix, key.created_ms)
