"""The audit log's tail: who changed what, when, from where, before and after."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from holdfast.wire.changes import AuditFilter, AuditPage, AuditRecord
from holdfast.wire.limits import AUDIT_LOOKED_MAX, AUDIT_PAGE_MAX, AUDIT_TAIL_MAX
from holdfast.wire.tenants import OPERATOR, ApiKey, Tenant

View = dict[str, str | int]
ALL: Final = AuditFilter()
_AND_MORE: Final = re.compile(r" and \d+ more$")


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

    def page(self, tenant: int, below: int, limit: int, wanted: AuditFilter = ALL) -> AuditPage:
        """Newest first, from ``below`` down, 0 for the newest: of all when ``tenant`` is the operator, else of what is
        about this tenant or was done with its keys; of these, what is wanted."""
        limit = min(limit, AUDIT_PAGE_MAX) if limit > 0 else AUDIT_PAGE_MAX
        numbers = self._numbers_of(wanted) if wanted.tenant and tenant == OPERATOR else None
        newer = max(0, self.seq - below + 1) if below else 0
        found: list[AuditRecord] = []
        for record in islice(reversed(self.tail), newer, newer + AUDIT_LOOKED_MAX):
            seen = _seen(record, tenant)
            if seen is None or (numbers is not None and numbers.isdisjoint((record.tenant, record.actor_tenant))):
                continue
            if _is_wanted(seen, wanted):
                if len(found) == limit:
                    return AuditPage(found, found[-1].seq)
                found.append(seen)
        older = len(self.tail) - newer - AUDIT_LOOKED_MAX
        return AuditPage(found, self.seq - newer - AUDIT_LOOKED_MAX + 1 if older > 0 else 0)

    def _numbers_of(self, wanted: AuditFilter) -> frozenset[int]:
        """All tenants that the records know by this id, one after the other, and the one that has it now."""
        target = f"tenant {wanted.tenant}"
        named = (each for each in self.tail if each.target == target and each.action.startswith("tenant."))
        numbers = frozenset(each.tenant for each in named)
        return numbers if wanted.number is None else numbers | {wanted.number}


def _seen(record: AuditRecord, tenant: int) -> AuditRecord | None:
    """By this tenant, with nothing of another's keys and addresses; None when it is not this one's to see."""
    if tenant in (OPERATOR, record.actor_tenant):
        return record
    return msgspec.structs.replace(record, key="", key_name="", address="") if tenant == record.tenant else None


def _is_wanted(seen: AuditRecord, wanted: AuditFilter) -> bool:
    """Asked of what is seen: who may not see a key does not learn either whether it was this one."""
    return (
        (not wanted.key or seen.key == wanted.key)
        and seen.when_ms >= wanted.since_ms
        and (not wanted.until_ms or seen.when_ms < wanted.until_ms)
        and (not wanted.action or _is_action(seen.action, wanted.action))
        and (not wanted.target or _is_target(seen.target, wanted.target))
    )


def _is_action(done: str, wanted: str) -> bool:
    """``done`` may be several."""
    return any(each == wanted or each.startswith(f"{wanted}.") for each in done.split("+"))


def _is_target(target: str, wanted: str) -> bool:
    """``target`` may be several; a tenant or key is found by its id alone, too."""
    several = _AND_MORE.sub("", target).split(", ")
    return target == wanted or any(name in several for name in (wanted, f"tenant {wanted}", f"key {wanted}"))


def view_of(tenant: Tenant) -> View:
    """A tenant as the log shows it, without its keys."""
    quotas = {f"quotas.{name}": value for name, value in msgspec.structs.asdict(tenant.quotas).items()}
    head = {"display": tenant.display, "state": str(tenant.state), "plan": tenant.plan, "weight": tenant.weight}
    return {**head, **quotas}


def view_of_key(key: ApiKey) -> View:
    """Without salt and hash."""
    return {"id": key.id, "name": key.name, "role": str(key.role), "prefix": key.prefix}
