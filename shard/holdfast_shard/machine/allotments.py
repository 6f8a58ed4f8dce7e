"""How a tenant's totals are split over the groups: allotments, moved by demand, whose sum never exceeds the total."""

from __future__ import annotations

from holdfast.wire.frames import Allotment
from holdfast.wire.tenants import Quotas

GENESIS_VERSION = 1


def even_split(total: int, parts: int) -> list[int]:
    """Shares of as equal size as can be; what remains goes to the first."""
    share, rest = divmod(total, parts)
    return [share + (at < rest) for at in range(parts)]


def first_allotments(tenant: int, quotas: Quotas, groups: int) -> list[Allotment]:
    """What each of ``groups`` lock groups is given when nobody knows yet where it will be wanted."""
    shares = zip(
        even_split(quotas.held, groups), even_split(quotas.waiters, groups), even_split(quotas.sessions, groups),
        strict=True,
    )  # fmt: skip
    return [
        Allotment(
            tenant, GENESIS_VERSION, held, waiters, sessions, quotas.waiters_per_lock, quotas.ttl_ms,
            quotas.metadata_bytes,
        )
        for held, waiters, sessions in shares
    ]  # fmt: skip
