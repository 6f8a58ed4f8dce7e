"""Bugs of the control plane: who may change what, what is still believed of keys, what is noted."""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Any

from holdfast.wire import lockid, sealing
from holdfast.wire.changes import AuditRecord, Change, Changed
from holdfast.wire.errors import HoldfastError
from holdfast.wire.messages import Beat
from holdfast.wire.tenants import ApiKey, Tenant
from holdfast_router import stamping
from holdfast_router.directory import Directory
from holdfast_router.front import Front
from holdfast_shard.machine.audit import Audit
from holdfast_shard.machine.tenancy import Tenancy
from holdfast_shard.node.audit_file import AuditFile

from .mutant import Mutant, Promise, Selection, patch

_TENANCY = Selection(("tests/machine/test_tenancy.py",))
_DIRECTORY = Selection(("tests/router/test_directory.py",))
_FRONT = Selection(("tests/router/test_front.py",))
_STAMPING = Selection(("tests/router/test_stamping.py",))
_AUDIT_FILE = Selection(("tests/node/test_audit_file.py",))
_BOUNDS = Selection(("tests/machine/test_tenant_bounds.py",))
_WIRE = Selection(("tests/wire/test_wire.py",))


def _forgets_what_it_made(self: Tenancy, change: Change, version: int) -> tuple[Changed, bool]:
    self._answers.clear()
    return _CHANGE(self, change, version)


def _believes_itself_fresh(self: Directory, beat: Beat) -> None:
    """Also when there is a change that it was not told."""
    self._heard_at = self._clock()


def _keeps_those_of_the_suspended(self: Directory, tenant: Tenant, key: ApiKey) -> HoldfastError | None:
    return _WHY_GONE(self, tenant, key) if key.id not in self._keys else None


def _numbers_anew(self: Audit, record: AuditRecord) -> None:
    self.tail.append(record)
    self.seq += 1


def _starts_anew(self: AuditFile, audit: Audit) -> None:
    self._seq = 0
    _FOLLOW(self, audit)


def _looks_at_no_seal(key: bytes, purpose: bytes, text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[sealing.SEAL_BYTES :]


def _one_key_for_all_tenants(data: bytes, **options: Any) -> Any:
    return blake2b(b"" if options["person"] == b"holdfast seal" else data, **options)


_CHANGE, _WHY_GONE, _FOLLOW = Tenancy.change, Directory._why_gone, AuditFile.follow

MUTANTS = (
    Mutant(
        "a change sent again made twice", Promise.ONCE, patch(Tenancy, "change", _forgets_what_it_made), (_TENANCY,)
    ),
    Mutant(
        "a tenant's admin told of other tenants", Promise.APART,
        patch(Tenancy, "_sees", lambda self, change, number: True), (_TENANCY,),
    ),
    Mutant(
        "a key gives prefixes beyond its own", Promise.APART,
        patch(Tenancy, "_check_prefix", lambda self, actor, prefix: None), (_TENANCY,),
    ),
    Mutant("audit records without a number", Promise.COUNTED, patch(Audit, "append", _numbers_anew), (_TENANCY,)),
    Mutant(
        "audit records written again at each turn", Promise.ONCE, patch(AuditFile, "follow", _starts_anew),
        (_AUDIT_FILE,),
    ),
    Mutant(
        "a router fresh that lacks a change", Promise.APART, patch(Directory, "beat", _believes_itself_fresh),
        (_DIRECTORY,),
    ),
    Mutant(
        "a router that hears nothing of the meta group admits", Promise.APART,
        patch(Directory, "is_fresh", property(lambda self: True)), (_DIRECTORY,),
    ),
    Mutant(
        "others' keys keep a tenant from its first", Promise.APART,
        patch(Tenancy, "_more_keys", property(lambda self: sum(len(t.keys) for t in self.tenants.values()))),
        (_BOUNDS,),
    ),
    Mutant(
        "keys without a bound", Promise.COUNTED, patch(Tenancy, "_more_keys", property(lambda self: 0)), (_BOUNDS,),
    ),
    Mutant(
        "a LockID that somebody made up taken", Promise.APART, patch(lockid, "unsealed", _looks_at_no_seal), (_WIRE,),
    ),
    Mutant(
        "a LockID of another tenant taken", Promise.APART, patch(sealing, "blake2b", _one_key_for_all_tenants),
        (_WIRE,),
    ),
    Mutant(
        "connections of a suspended tenant kept", Promise.APART,
        patch(Directory, "_why_gone", _keeps_those_of_the_suspended), (_DIRECTORY, _FRONT),
    ),
    Mutant(
        "connections of an ended key kept", Promise.APART, patch(Front, "_close_gone", lambda self, gone: None),
        (_FRONT,),
    ),
    Mutant(
        "roles and prefixes not looked at", Promise.APART,
        patch(stamping, "check_right", lambda principal, section: None), (_STAMPING,),
    ),
)  # fmt: skip
