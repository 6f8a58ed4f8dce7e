"""Tenants, their quotas and their API keys: what the meta group holds and every router knows."""

from __future__ import annotations

import enum
from typing import Final

from msgspec import Struct

OPERATOR: Final = 0
"""The tenant that runs the cluster: its keys change tenants and see everything, and take no locks."""


class TenantState(enum.StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    """Nothing new is admitted and streams are closed; what is held runs out by itself."""


class KeyRole(enum.StrEnum):
    """What a key may do; each may do what those before it may."""

    READ = "read"
    """Look at locks and sessions."""
    LOCKS = "locks"
    """Take and let go of locks, hold sessions."""
    ADMIN = "admin"
    """Break others' locks, end others' sessions, make and revoke keys; of the operator's tenant: everything."""


class Quotas(Struct, array_like=True, frozen=True):
    """What a tenant may use. ``held``, ``sessions`` and ``waiters`` are totals over all groups and never exceeded."""

    rate: int
    """Operations per second over all routers."""
    burst: int
    """Operations at once after a rest."""
    in_flight: int
    """Operations under way over all routers; each admits its even share."""
    held: int
    sessions: int
    waiters: int
    waiters_per_lock: int
    ttl_ms: int
    metadata_bytes: int


class Plan(Struct, frozen=True):
    weight: int
    """Share of a busy group beside other tenants: 1 to 1,000."""
    quotas: Quotas


PLANS: Final[dict[str, Plan]] = {
    "free": Plan(1, Quotas(100, 200, 64, 1_000, 100, 1_000, 100, 3_600_000, 256)),
    "standard": Plan(10, Quotas(2_000, 4_000, 1_024, 100_000, 10_000, 20_000, 1_000, 24 * 3_600_000, 1_024)),
    "unlimited": Plan(
        100,
        Quotas(1_000_000, 2_000_000, 1_000_000, 10_000_000, 2_000_000, 2_000_000, 10_000, 24 * 3_600_000, 1_024),
    ),
}
"""Defaults by plan; each quota of a tenant may be set otherwise."""
DEFAULT_PLAN: Final = "standard"


class ApiKey(Struct, array_like=True, frozen=True):
    """The secret itself is shown once and kept nowhere."""

    id: str
    """Public: the middle part of ``hf_ID_SECRET``."""
    name: str
    role: str
    prefix: str
    """Of the lock names that the key may use; empty for all."""
    salt: bytes
    digest: bytes
    """blake2b-256 of salt and secret; secrets are 256 random bits, so that a fast hash cannot be searched."""
    created_ms: int
    """Unix time, milliseconds."""


class Tenant(Struct, array_like=True, frozen=True):
    number: int
    """As it stands in every row; 0 is the operator."""
    id: str
    """As people write it: 1 to 63 of a-z, 0-9 and hyphen."""
    display: str
    state: str
    plan: str
    weight: int
    quotas: Quotas
    keys: tuple[ApiKey, ...]
    created_ms: int
    changed_ms: int
    version: int
    """Of the meta record in which it last changed."""


class Principal(Struct, frozen=True):
    """Who asks: the tenant and what its key may do."""

    tenant: int
    key: str
    role: KeyRole
    prefix: str = ""
