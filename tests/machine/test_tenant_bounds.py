"""As many tenants and keys as may be: nobody is kept from a first key, and all that routers are told fits a message."""

from __future__ import annotations

import msgspec

from holdfast.wire.changes import CreateKey, RevokeKey, RotateKey
from holdfast.wire.errors import Code
from holdfast.wire.frames import encode
from holdfast.wire.keys import DIGEST_BYTES, ID_CHARS, SALT_BYTES
from holdfast.wire.limits import (
    DISPLAY_BYTES_MAX,
    KEY_NAME_BYTES_MAX,
    KEY_PREFIX_BYTES_MAX,
    KEYS_MAX,
    KEYS_PER_TENANT_MAX,
    MESSAGE_BYTES_MAX,
    PLAN_BYTES_MAX,
    QUOTA_MAX,
    TENANT_ID_CHARS_MAX,
    TENANTS_MAX,
    WEIGHT_MAX,
)
from holdfast.wire.messages import GroupRecord, MetaDelta, NodeRecord
from holdfast.wire.tenants import ApiKey, KeyRole, Quotas, Tenant, TenantState
from holdfast_shard.formation import GROUPS_MAX
from holdfast_shard.machine.meta import ADDRESS_BYTES_MAX
from tests.machine.test_tenancy import QUOTAS, Meta, create, new
from tests.tenants import TENANTS, meta_of

WIDE = "\U0001f512"
"""Four bytes in one character."""
LATE_MS = 1 << 62


def wide(bytes_max: int) -> str:
    return WIDE * (bytes_max // 4)


def large_key(number: int) -> ApiKey:
    number_text, name, prefix = f"{number:{WIDE}>{ID_CHARS}}", wide(KEY_NAME_BYTES_MAX), wide(KEY_PREFIX_BYTES_MAX)
    return ApiKey(number_text, name, KeyRole.ADMIN, prefix, bytes(SALT_BYTES), bytes(DIGEST_BYTES), LATE_MS)


def full(tenants: int, more_keys: int) -> Meta:
    """As many tenants, all with a key but the last, and as many keys more; everything as large as may be."""
    quotas = Quotas(*(QUOTA_MAX for _ in QUOTAS.__struct_fields__))
    numbers = iter(range(tenants + more_keys))
    made = []
    for number in range(2, tenants):
        more = min(KEYS_PER_TENANT_MAX - 1, more_keys)
        more_keys -= more
        keys = tuple(large_key(next(numbers)) for _ in range(1 + more)) if number < tenants - 1 else ()
        name, display, plan = f"{number:x<{TENANT_ID_CHARS_MAX}}", wide(DISPLAY_BYTES_MAX), wide(PLAN_BYTES_MAX)
        state = TenantState.SUSPENDED
        made.append(Tenant(number, name, display, state, plan, WEIGHT_MAX, quotas, keys, LATE_MS, LATE_MS, LATE_MS))
    assert more_keys == 0
    return Meta(meta_of(*TENANTS, *made))


def test_others_keys_keep_no_tenant_from_its_first_nor_from_another_for_one_that_leaked() -> None:
    meta = full(300, KEYS_MAX - TENANTS_MAX)
    last = meta.tenant(299).id
    assert meta.code(CreateKey(meta.tenant(298).id, new("second"))) == Code.CONFLICT
    assert meta.code(CreateKey("tenant1", new("mine"))) == Code.CONFLICT
    assert meta.code(CreateKey(last, new("first"))) == 0
    assert meta.code(CreateKey(last, new("second"))) == Code.CONFLICT
    assert meta.code(create(key=new("acme"))) == 0
    old = meta.tenant(2).keys[0].id
    assert meta.code(RotateKey(old, new("rotated").id, bytes(SALT_BYTES), bytes(DIGEST_BYTES))) == 0
    assert meta.code(RevokeKey(meta.tenant(2).keys[1].id)) == 0
    assert meta.code(CreateKey(last, new("second"))) == 0
    assert meta.code(CreateKey(last, new("third"))) == Code.CONFLICT


def test_the_largest_record_fits_a_message_with_room_for_the_largest_cluster() -> None:
    meta = full(TENANTS_MAX, KEYS_MAX - TENANTS_MAX)
    meta.make(CreateKey(meta.tenant(TENANTS_MAX - 1).id, new("last")))
    assert meta.code(create()) == Code.CONFLICT
    record = meta.machine.record
    assert sum(len(tenant.keys) for tenant in record.tenants) == KEYS_MAX
    nodes = tuple(NodeRecord(number, "a" * ADDRESS_BYTES_MAX, "i" * 64) for number in range(1, 1001))
    groups = tuple(GroupRecord(number, tuple(range(1000, 1009))) for number in range(GROUPS_MAX + 1))
    record = msgspec.structs.replace(record, nodes=nodes, groups=groups)
    assert len(encode(record)) < MESSAGE_BYTES_MAX
    gone = tuple(range(1 << 20, (1 << 20) + TENANTS_MAX))
    whole = MetaDelta(0, LATE_MS, record.tenants, gone, nodes, groups, record.table)
    assert len(encode(whole)) < MESSAGE_BYTES_MAX
