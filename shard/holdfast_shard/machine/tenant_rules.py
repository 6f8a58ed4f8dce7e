"""What a tenant, its quotas and its keys may look like."""

from __future__ import annotations

import re
from typing import Final

from holdfast.wire.errors import InvalidArgument
from holdfast.wire.keys import DIGEST_BYTES, ID_CHARS, SALT_BYTES
from holdfast.wire.limits import (
    DISPLAY_BYTES_MAX,
    KEY_NAME_BYTES_MAX,
    KEY_PREFIX_BYTES_MAX,
    METADATA_BYTES_MAX,
    PLAN_BYTES_MAX,
    QUOTA_MAX,
    TENANT_ID_CHARS_MAX,
    TTL_MS_MAX,
    TTL_MS_MIN,
    WAITERS_PER_LOCK_MAX,
    WEIGHT_MAX,
)
from holdfast.wire.tenants import ApiKey, KeyRole, Quotas

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_ROLES: Final = frozenset(KeyRole)
QUOTA_RANGES: Final[dict[str, tuple[int, int]]] = {
    "rate": (1, QUOTA_MAX),
    "burst": (1, QUOTA_MAX),
    "in_flight": (1, QUOTA_MAX),
    "held": (0, QUOTA_MAX),
    "sessions": (0, QUOTA_MAX),
    "waiters": (0, QUOTA_MAX),
    "waiters_per_lock": (0, WAITERS_PER_LOCK_MAX),
    "ttl_ms": (TTL_MS_MIN, TTL_MS_MAX),
    "metadata_bytes": (0, METADATA_BYTES_MAX),
}


def check_tenant_id(text: str) -> None:
    """All of these raise :class:`InvalidArgument`."""
    if len(text) > TENANT_ID_CHARS_MAX or _ID.fullmatch(text) is None:
        raise InvalidArgument(f"a tenant's id is 1 to {TENANT_ID_CHARS_MAX} of a-z, 0-9 and hyphen, a hyphen not first")


def check_text(what: str, text: str, bytes_max: int) -> None:
    if not text.isprintable() or len(text.encode()) > bytes_max:
        raise InvalidArgument(f"{what} is printable text of at most {bytes_max} bytes")


def check_display(text: str) -> None:
    check_text("a tenant's display name", text, DISPLAY_BYTES_MAX)


def check_plan(text: str) -> None:
    """Which plans there are is the routers' business."""
    check_text("a plan's name", text, PLAN_BYTES_MAX)


def check_weight(weight: int) -> None:
    if not 1 <= weight <= WEIGHT_MAX:
        raise InvalidArgument(f"a weight is 1 to {WEIGHT_MAX}, not {weight}")


def check_quotas(quotas: Quotas) -> None:
    for name, (low, high) in QUOTA_RANGES.items():
        value = getattr(quotas, name)
        if not low <= value <= high:
            raise InvalidArgument(f"quota {name} is {low} to {high}, not {value}")


def check_key(key: ApiKey) -> None:
    check_text("a key's name", key.name, KEY_NAME_BYTES_MAX)
    check_text("a key's prefix", key.prefix, KEY_PREFIX_BYTES_MAX)
    if key.role not in _ROLES:
        raise InvalidArgument(f"a key's role is one of {', '.join(KeyRole)}")
    if len(key.id) != ID_CHARS or len(key.salt) != SALT_BYTES or len(key.digest) != DIGEST_BYTES:
        raise InvalidArgument("this is no API key")
