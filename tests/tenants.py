"""Tenants and keys as tests know them: the operator and one tenant, each with a key whose text is known."""

from __future__ import annotations

from typing import Final

from holdfast.wire.keys import SALT_BYTES, SECRET_CHARS, key_record
from holdfast.wire.limits import SLOTS
from holdfast.wire.messages import MetaRecord, SlotTable
from holdfast.wire.tenants import OPERATOR, PLANS, ApiKey, KeyRole, Tenant, TenantState


def key_text(number: str, secret: str = "s") -> str:
    """``number`` is the key's id, at most twelve of a-z and 2-7; it is filled up."""
    return f"hf_{number:a<12}_{secret * SECRET_CHARS}"


def key_of(text: str, role: KeyRole = KeyRole.ADMIN, prefix: str = "", name: str = "first") -> ApiKey:
    return key_record(text, name, role, prefix, 0, bytes(SALT_BYTES))


def tenant_of(number: int, *keys: ApiKey, version: int = 1, state: str = TenantState.ACTIVE, name: str = "") -> Tenant:
    plan = PLANS["unlimited"]
    text = name or ("operator" if number == OPERATOR else f"tenant{number}")
    return Tenant(number, text, text.title(), state, "unlimited", plan.weight, plan.quotas, keys, 0, 0, version)


OPERATOR_KEY: Final = key_text("operator")
TENANT_KEY: Final = key_text("tenant")
TENANTS: Final = (tenant_of(OPERATOR, key_of(OPERATOR_KEY)), tenant_of(1, key_of(TENANT_KEY)))


def meta_of(*tenants: Tenant, version: int = 1, cluster: str = "c", slots: bytes = bytes(2 * SLOTS)) -> MetaRecord:
    return MetaRecord(version, cluster, (), (), SlotTable(1, slots), tenants or TENANTS)
