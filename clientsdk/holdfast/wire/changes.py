"""Changes of tenants and keys as the meta group applies them, and the audit records that they leave.

A change is decided by the state that it is applied to, the actor's own right to make it included; a router that knows
an older state cannot let anything through. Salts, secrets and wall-clock times are made before and carried as data.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .frames import decoder
from .tenants import ApiKey, Quotas

CHANGE_ID_BYTES = 16


class CreateTenant(Struct, frozen=True, tag="tenant.create", forbid_unknown_fields=True):
    id: str
    display: str
    plan: str
    weight: int
    quotas: Quotas
    key: ApiKey | None = None
    """Its first."""


class SetTenant(Struct, frozen=True, tag="tenant.set", forbid_unknown_fields=True):
    """What is None, and each quota that is not named, stays."""

    tenant: str
    display: str | None = None
    plan: str | None = None
    weight: int | None = None
    quotas: dict[str, int] = {}


class SuspendTenant(Struct, frozen=True, tag="tenant.suspend", forbid_unknown_fields=True):
    tenant: str


class ResumeTenant(Struct, frozen=True, tag="tenant.resume", forbid_unknown_fields=True):
    tenant: str


class DeleteTenant(Struct, frozen=True, tag="tenant.delete", forbid_unknown_fields=True):
    """A suspended one. Its number is never used again."""

    tenant: str


class CreateKey(Struct, frozen=True, tag="key.create", forbid_unknown_fields=True):
    tenant: str
    key: ApiKey


class RotateKey(Struct, frozen=True, tag="key.rotate", forbid_unknown_fields=True):
    """Another key with the name, role and prefix of the one with id ``old``, which ends."""

    old: str
    id: str
    salt: bytes
    digest: bytes


class RevokeKey(Struct, frozen=True, tag="key.revoke", forbid_unknown_fields=True):
    key: str


class Note(Struct, frozen=True, tag="note", forbid_unknown_fields=True):
    """Changes nothing here: says in the audit log what an admin is about to do to locks or sessions, or has done."""

    tenant: int
    """Whose lock or session it is."""
    action: str
    target: str
    detail: dict[str, str] = {}
    outcome: str = ""
    """Empty before it is done. With one, whose key it was is not asked again: it may have been revoked meanwhile."""
    under: dict[int, int] = {}
    """Group -> number of the client under which it is done there: a group answers a client's operation once."""
    before: dict[str, str] = {}
    """How what it is done to looked just before."""


Action = (
    CreateTenant | SetTenant | SuspendTenant | ResumeTenant | DeleteTenant | CreateKey | RotateKey | RevokeKey | Note
)


class Change(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    id: bytes
    """16 bytes of the caller's choice: the same change sent again is answered again and not made twice."""
    key: str
    """Id of the API key whose owner asks."""
    address: str
    when_ms: int
    """Unix time by the router's clock: said in the audit log, and in the tenant's and key's times; decides nothing."""
    action: Action
    expected: int = 0
    """The tenant's version as the caller saw it; 0 when it does not matter."""


class Changed(Struct, array_like=True, frozen=True):
    """Detail of the answer to CHANGE. A ``code`` other than 0 is that of the error, and nothing was changed."""

    version: int
    """Of the tenant after it."""
    tenant: int
    code: int = 0
    message: str = ""
    key: str = ""
    """Id of the key that was made: a repeated request tells by it whether the secret it has is the one that counts."""
    under: dict[int, int] = {}
    """Of a note, what the first one of this id said: what is repeated is done under the same clients, so once."""


class AuditRecord(Struct, array_like=True, frozen=True):
    seq: int
    """From 1, without gaps."""
    when_ms: int
    actor_tenant: int
    actor: str
    """Id of that tenant."""
    key: str
    key_name: str
    address: str
    action: str
    tenant: int
    """Whom it is about."""
    target: str
    before: dict[str, str | int]
    after: dict[str, str | int]


class AuditFilter(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """With AUDIT: which records are wanted; what is empty or 0 does not matter. A tenant that asks sees its own only,
    whatever is wanted."""

    tenant: str = ""
    """Id of whom it is about or with whose keys it was done; also one that was deleted."""
    number: int | None = None
    """Of the tenant that has this id now."""
    action: str = ""
    """Such as ``key.revoke``, or what stands before the dot."""
    target: str = ""
    """A lock's name, a session, the id of a tenant or key."""
    key: str = ""
    """Id of the key with which it was done."""
    since_ms: int = 0
    """Unix time; records from then on."""
    until_ms: int = 0
    """Unix time; records before then."""


class AuditPage(Struct, array_like=True, frozen=True):
    """Detail of AUDIT, newest first. ``cursor`` is the seq below which the next page goes on, 0 on the last one; a page
    with a cursor may have fewer records than were asked for, or none."""

    records: list[AuditRecord]
    cursor: int


decode_change = decoder(Change)
decode_audit_filter = decoder(AuditFilter)


def json_of(record: AuditRecord) -> dict[str, Any]:
    """A record as people and programs read it."""
    return {
        "seq": record.seq,
        "when_ms": record.when_ms,
        "actor": {"tenant": record.actor, "key": record.key, "key_name": record.key_name},
        "address": record.address,
        "action": record.action,
        "target": record.target,
        "before": record.before,
        "after": record.after,
    }
