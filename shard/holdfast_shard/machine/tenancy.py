"""Tenants and their keys: every change of them, once, with the record that it leaves. Part of the meta machine.

Who may do what is decided here, by the state that the change meets: a key that was revoked an entry before makes
nothing any more, whatever the router that took its request knew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from holdfast.wire.changes import (
    CHANGE_ID_BYTES,
    Action,
    AuditRecord,
    Change,
    Changed,
    CreateKey,
    CreateTenant,
    DeleteTenant,
    Note,
    ResumeTenant,
    RevokeKey,
    RotateKey,
    SetTenant,
    SuspendTenant,
)
from holdfast.wire.errors import Code, Conflict, Forbidden, HoldfastError, InvalidArgument, NotFound
from holdfast.wire.frames import decoder
from holdfast.wire.limits import (
    CHANGES_REMEMBERED_MAX,
    KEYS_MAX,
    KEYS_PER_TENANT_MAX,
    TENANTS_MAX,
)
from holdfast.wire.tenants import OPERATOR, ApiKey, KeyRole, Tenant, TenantState

from .audit import Audit, View, view_of, view_of_key
from .tenant_rules import check_display, check_key, check_plan, check_quotas, check_tenant_id, check_weight

replace = msgspec.structs.replace
ID_SHOWN: Final = 64
"""Of a name that does not exist: callers may send any text."""


class _NextRow(msgspec.Struct, array_like=True, tag=0):
    next_number: int
    audit_seq: int


class _TenantRow(msgspec.Struct, array_like=True, tag=1):
    tenant: Tenant


class _AuditRow(msgspec.Struct, array_like=True, tag=2):
    record: AuditRecord


class _AnswerRow(msgspec.Struct, array_like=True, tag=3):
    id: bytes
    answer: Changed


_Row = _NextRow | _TenantRow | _AuditRow | _AnswerRow
_decode_row: Callable[[bytes], _Row] = decoder(_Row)  # type: ignore[arg-type]  # a union is one to msgspec


@dataclass(frozen=True, slots=True)
class _Making:
    """A change that is being made."""

    change: Change
    version: int
    """What a tenant that it touches gets."""
    key: ApiKey | None
    """The actor's; None when it is gone."""
    home: int
    home_id: str
    """The actor's tenant; -1 when its key is gone."""


class Tenancy:
    def __init__(self, tenants: Iterable[Tenant]) -> None:
        self.tenants: dict[int, Tenant] = {}
        self.next_number = 1
        """Above every number that was ever given."""
        self.audit = Audit()
        self._answers: OrderedDict[bytes, Changed] = OrderedDict()
        """By change id, oldest first."""
        self._touched_any = False
        self._by_id: dict[str, int] = {}
        self._by_key: dict[str, int] = {}
        self._makers: dict[type, Callable[[Any, Any, _Making], None]] = {
            CreateTenant: self._create_tenant,
            SetTenant: self._set_tenant,
            SuspendTenant: self._suspend,
            ResumeTenant: self._resume,
            DeleteTenant: self._delete,
            CreateKey: self._create_key,
            RotateKey: self._rotate_key,
            RevokeKey: self._revoke_key,
            Note: self._note,
        }
        for tenant in tenants:
            self._put(tenant)
            self.next_number = max(self.next_number, tenant.number + 1)

    # Changing.

    def change(self, change: Change, version: int) -> tuple[Changed, bool]:
        """Make it, once, and say whether a tenant changed: it has this ``version`` then.

        A refusal is remembered like a success: what was refused once is not done by a late copy.
        """
        if len(change.id) != CHANGE_ID_BYTES:
            return Changed(0, 0, int(Code.INVALID), f"a change id has {CHANGE_ID_BYTES} bytes"), False
        known = self._answers.get(change.id)
        if known is not None:
            return known, False
        self._touched_any = False
        try:
            number = self._make(change, version)
            tenant = self.tenants.get(number)
            gone = version if self._touched_any else 0
            reached = tenant.version if tenant is not None else gone
            under = change.action.under if isinstance(change.action, Note) else {}
            answer = Changed(reached, number, key=_key_made(change.action), under=under)
        except HoldfastError as error:
            code = error.code if error.code is not None else Code.REJECTED
            answer = Changed(0, 0, int(code), str(error))
        self._answers[change.id] = answer
        if len(self._answers) > CHANGES_REMEMBERED_MAX:
            self._answers.popitem(last=False)
        return answer, self._touched_any

    def _make(self, change: Change, version: int) -> int:
        """Returns the number of the tenant that it is about. Checks all before it touches anything."""
        action = change.action
        number = self._subject(change)
        home = self._by_key.get(change.key, -1)
        home_id = self.tenants[home].id if home in self.tenants else ""
        making = _Making(change, version, self._right_of(change, number), home, home_id)
        tenant = self.tenants.get(number)
        if tenant is not None and change.expected not in (0, tenant.version):
            raise Conflict(f"tenant {tenant.id} has changed since: its version is {tenant.version}")
        self._makers[type(action)](action, tenant, making)
        return number

    def _subject(self, change: Change) -> int:
        """The number of the tenant that is changed."""
        action = change.action
        if isinstance(action, CreateTenant):
            return self.next_number
        if isinstance(action, Note):
            return action.tenant
        if isinstance(action, RotateKey | RevokeKey):
            key = action.old if isinstance(action, RotateKey) else action.key
            number = self._by_key.get(key)
            if number is None or not self._sees(change, number):
                raise NotFound(f"there is no key {key[:ID_SHOWN]}")
            return number
        number = self._by_id.get(action.tenant)
        if number is None or not self._sees(change, number):
            raise NotFound(f"there is no tenant {action.tenant[:ID_SHOWN]}")
        return number

    def _sees(self, change: Change, number: int) -> bool:
        """Nobody but the operator is told whether another tenant exists."""
        return self._by_key.get(change.key) in (OPERATOR, number)

    def _right_of(self, change: Change, number: int) -> ApiKey | None:
        """The actor's key. None when it is gone, and only what it began is told to its end."""
        action = change.action
        home = self._by_key.get(change.key)
        if isinstance(action, Note) and action.outcome:
            return None if home is None else self._key(home, change.key)
        if home is None:
            raise Forbidden("this key was revoked")
        key, tenant = self._key(home, change.key), self.tenants[home]
        if key.role != KeyRole.ADMIN:
            raise Forbidden("this needs a key with role admin")
        if tenant.state != TenantState.ACTIVE:
            raise Forbidden(f"tenant {tenant.id} is suspended")
        about_keys = isinstance(action, CreateKey | RotateKey | RevokeKey | Note)
        if home != OPERATOR and not (about_keys and number == home):
            raise Forbidden("this is the operator's to do")
        return key

    def _create_tenant(self, action: CreateTenant, tenant: Tenant | None, making: _Making) -> None:
        check_tenant_id(action.id)
        check_display(action.display)
        check_plan(action.plan)
        check_weight(action.weight)
        check_quotas(action.quotas)
        if action.id in self._by_id:
            raise Conflict(f"tenant {action.id} exists already")
        if len(self.tenants) >= TENANTS_MAX:
            raise Conflict(f"there are {TENANTS_MAX} tenants already: delete one that is not used")
        keys: tuple[ApiKey, ...] = ()
        if action.key is not None:
            self._check_new(action.key)
            keys = (action.key,)
        number, now = self.next_number, making.change.when_ms
        new = Tenant(
            number, action.id, action.display, TenantState.ACTIVE, action.plan, action.weight, action.quotas, keys,
            now, now, making.version,
        )  # fmt: skip
        self.next_number += 1
        self._put(new)
        self._record(making, number, f"tenant {action.id}", {}, view_of(new))

    def _set_tenant(self, action: SetTenant, tenant: Tenant | None, making: _Making) -> None:
        assert tenant is not None
        unknown = action.quotas.keys() - set(tenant.quotas.__struct_fields__)
        if unknown:
            raise InvalidArgument(f"there is no quota {min(unknown)[:ID_SHOWN]}")
        after = replace(
            tenant,
            display=tenant.display if action.display is None else action.display,
            plan=tenant.plan if action.plan is None else action.plan,
            weight=tenant.weight if action.weight is None else action.weight,
            quotas=replace(tenant.quotas, **action.quotas),
        )
        check_display(after.display)
        check_plan(after.plan)
        check_weight(after.weight)
        check_quotas(after.quotas)
        self._replace(tenant, after, making)

    def _suspend(self, action: SuspendTenant, tenant: Tenant | None, making: _Making) -> None:
        assert tenant is not None
        if tenant.number == OPERATOR:
            raise Conflict("the operator cannot be suspended: nobody could undo it")
        self._replace(tenant, replace(tenant, state=TenantState.SUSPENDED), making)

    def _resume(self, action: ResumeTenant, tenant: Tenant | None, making: _Making) -> None:
        assert tenant is not None
        self._replace(tenant, replace(tenant, state=TenantState.ACTIVE), making)

    def _delete(self, action: DeleteTenant, tenant: Tenant | None, making: _Making) -> None:
        assert tenant is not None
        if tenant.state != TenantState.SUSPENDED:
            raise Conflict(f"tenant {tenant.id} is {tenant.state}: suspend it first")
        self._forget(tenant)
        self._record(making, tenant.number, f"tenant {tenant.id}", view_of(tenant), {})

    def _create_key(self, action: CreateKey, tenant: Tenant | None, making: _Making) -> None:
        assert tenant is not None
        self._check_new(action.key)
        self._check_prefix(making.key, action.key.prefix)
        if len(tenant.keys) >= KEYS_PER_TENANT_MAX:
            raise Conflict(f"tenant {tenant.id} has {KEYS_PER_TENANT_MAX} keys already: revoke one")
        if tenant.keys and self._more_keys >= KEYS_MAX - TENANTS_MAX:
            raise Conflict("this cluster keeps no more keys beside each tenant's first: revoke one that is not used")
        if tenant.number == OPERATOR and (action.key.role == KeyRole.LOCKS or action.key.prefix):
            raise InvalidArgument("the operator's keys take no locks: their role is admin or read, without a prefix")
        self._put(self._touched(replace(tenant, keys=(*tenant.keys, action.key)), making))
        self._record(making, tenant.number, f"key {action.key.id}", {}, view_of_key(action.key))

    def _rotate_key(self, action: RotateKey, tenant: Tenant | None, making: _Making) -> None:
        assert tenant is not None
        old = self._key(tenant.number, action.old)
        new = replace(old, id=action.id, salt=action.salt, digest=action.digest, created_ms=making.change.when_ms)
        self._check_new(new)
        self._check_prefix(making.key, old.prefix)
        keys = tuple(new if key.id == old.id else key for key in tenant.keys)
        self._put(self._touched(replace(tenant, keys=keys), making))
        self._record(making, tenant.number, f"key {old.id}", view_of_key(old), view_of_key(new))

    def _revoke_key(self, action: RevokeKey, tenant: Tenant | None, making: _Making) -> None:
        assert tenant is not None
        old = self._key(tenant.number, action.key)
        self._check_prefix(making.key, old.prefix)
        keys = tuple(key for key in tenant.keys if key.id != old.id)
        if tenant.number == OPERATOR and not any(key.role == KeyRole.ADMIN for key in keys):
            raise Conflict("this is the operator's last admin key: create another first, or nobody rules any more")
        self._put(self._touched(replace(tenant, keys=keys), making))
        self._record(making, tenant.number, f"key {old.id}", view_of_key(old), {})

    def _note(self, action: Note, tenant: Tenant | None, making: _Making) -> None:
        after: View = {"outcome": action.outcome} if action.outcome else {}
        before: View = {**action.before}
        self._record(making, action.tenant, action.target, before, {**action.detail, **after}, action.action)

    # Parts.

    def _check_new(self, key: ApiKey) -> None:
        check_key(key)
        if key.id in self._by_key:
            raise Conflict("this key id is taken: make another key")

    @property
    def _more_keys(self) -> int:
        """Keys beside each tenant's first."""
        return sum(len(tenant.keys) - 1 for tenant in self.tenants.values() if tenant.keys)

    def _check_prefix(self, actor: ApiKey | None, prefix: str) -> None:
        if actor is not None and not prefix.startswith(actor.prefix):
            raise Forbidden(f"this key manages only keys whose prefix begins with {actor.prefix!r}")

    def _replace(self, before: Tenant, after: Tenant, making: _Making) -> None:
        if after != before:
            self._put(self._touched(after, making))
        was, is_ = view_of(before), view_of(after)
        changed = [name for name in was if was[name] != is_[name]]
        target = f"tenant {before.id}"
        self._record(
            making, before.number, target, {name: was[name] for name in changed}, {name: is_[name] for name in changed}
        )

    def _touched(self, tenant: Tenant, making: _Making) -> Tenant:
        return replace(tenant, version=making.version, changed_ms=making.change.when_ms)

    def _put(self, tenant: Tenant) -> None:
        before = self.tenants.get(tenant.number)
        if before is not None:
            self._forget(before)
        self._touched_any = True
        self.tenants[tenant.number] = tenant
        self._by_id[tenant.id] = tenant.number
        for key in tenant.keys:
            self._by_key[key.id] = tenant.number

    def _forget(self, tenant: Tenant) -> None:
        self._touched_any = True
        del self.tenants[tenant.number], self._by_id[tenant.id]
        for key in tenant.keys:
            del self._by_key[key.id]

    def _key(self, number: int, key: str) -> ApiKey:
        return next(known for known in self.tenants[number].keys if known.id == key)

    def _record(self, making: _Making, tenant: int, target: str, before: View, after: View, action: str = "") -> None:
        change = making.change
        self.audit.append(
            AuditRecord(
                0,
                change.when_ms,
                making.home,
                making.home_id,
                change.key,
                "" if making.key is None else making.key.name,
                change.address,
                action or str(type(change.action).__struct_config__.tag),
                tenant,
                target,
                before,
                after,
            )
        )

    # Snapshots.

    def rows(self) -> list[_Row]:
        """Everything, as of now, in rows that nothing changes afterwards."""
        return [
            _NextRow(self.next_number, self.audit.seq),
            *(_TenantRow(tenant) for tenant in self.tenants.values()),
            *(_AuditRow(record) for record in self.audit.tail),
            *(_AnswerRow(number, answer) for number, answer in self._answers.items()),
        ]

    @classmethod
    def of(cls, rows: Iterable[bytes]) -> Tenancy:
        """What :meth:`rows` gave, encoded one by one. Raises ``ValueError`` on anything else."""
        tenants: list[Tenant] = []
        records: list[AuditRecord] = []
        answers: list[tuple[bytes, Changed]] = []
        head: _NextRow | None = None
        for chunk in rows:
            row = _decode_row(chunk)
            if isinstance(row, _NextRow):
                head = row
            elif isinstance(row, _TenantRow):
                tenants.append(row.tenant)
            elif isinstance(row, _AuditRow):
                records.append(row.record)
            else:
                answers.append((row.id, row.answer))
        if head is None:
            raise ValueError("the row of the numbers is missing")
        found = cls(tenants)
        found.next_number, found.audit = head.next_number, Audit(head.audit_seq, records)
        found._answers.update(answers)
        return found


def _key_made(action: Action) -> str:
    match action:
        case CreateKey() | CreateTenant() if action.key is not None:
            return action.key.id
        case RotateKey():
            return action.id
    return ""
