"""The audit log's tail: who changed what, when, from where, before and after."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from holdfast.wire.changes import AuditPage, AuditRecord
from holdfast.wire.limits import AUDIT_PAGE_MAX, AUDIT_TAIL_MAX
from holdfast.wire.tenants import OPERATOR, ApiKey, Tenant

View = dict[str, str | int]


class Audit:
    def __init__(self, seq: int = 0, records: Iterable[AuditRecord] = ()) -> None:
        self.seq = seq
        """Of the last record."""
        self.tail: deque[AuditRecord] = deque(records, maxlen=AUDIT_TAIL_MAX)
        """The last records; their seqs have no gaps and end at ``seq``."""

    def append(self, record: AuditRecord) -> None:
        """Under the next seq."""
        self.seq += 1
        self.tail.append(msgspec.structs.replace(record, seq=self.seq))

    def since(self, seq: int) -> list[AuditRecord]:
        """Those after ``seq``, oldest first, as far as they are still there."""
        missing = min(self.seq - seq, len(self.tail))
        return [self.tail[at] for at in range(len(self.tail) - missing, len(self.tail))]

    def page(self, tenant: int, below: int, limit: int) -> AuditPage:
        """Newest first, from ``below`` down, 0 for the newest: of all when ``tenant`` is the operator, else of what is
        about this tenant or was done with its keys."""
        limit = min(limit, AUDIT_PAGE_MAX) if limit > 0 else AUDIT_PAGE_MAX
        found: list[AuditRecord] = []
        for record in reversed(self.tail):
            if (not below or record.seq < below) and tenant in (OPERATOR, record.tenant, record.actor_tenant):
                if len(found) == limit:
                    return AuditPage(found, found[-1].seq)
                found.append(record if tenant in (OPERATOR, record.actor_tenant) else _without_where(record))
        return AuditPage(found, 0)


def _without_where(record: AuditRecord) -> AuditRecord:
    """Another tenant's keys and addresses are not this one's to see."""
    return msgspec.structs.replace(record, key="", key_name="", address="")


def view_of(tenant: Tenant) -> View:
    """A tenant as the log shows it, without its keys."""
    quotas = {f"quotas.{name}": value for name, value in msgspec.structs.asdict(tenant.quotas).items()}
    head = {"display": tenant.display, "state": str(tenant.state), "plan": tenant.plan, "weight": tenant.weight}
    return {**head, **quotas}


def view_of_key(key: ApiKey) -> View:
    """Without salt and hash."""
    return {"id": key.id, "name": key.name, "role": str(key.role), "prefix": key.prefix}
