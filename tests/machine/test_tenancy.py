"""Tenants and keys in the meta machine: who may change what, once, with the record it leaves."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from holdfast.wire.changes import (
    Action,
    AuditFilter,
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
from holdfast.wire.errors import Code
from holdfast.wire.frames import GONE, Kind, Options, Status, decode_answer_list, encode
from holdfast.wire.keys import DIGEST_BYTES, SALT_BYTES, digest_of, is_secret_of
from holdfast.wire.limits import (
    AUDIT_LOOKED_MAX,
    AUDIT_TAIL_MAX,
    CHANGE_BYTES_MAX,
    CHANGES_REMEMBERED_MAX,
    KEYS_PER_TENANT_MAX,
)
from holdfast.wire.messages import GroupRecord, MetaRecord
from holdfast.wire.tenants import PLANS, ApiKey, KeyRole, Quotas, Tenant
from holdfast_shard.machine import MetaMachine, build_entry
from holdfast_shard.machine.allotments import Report, Use
from tests.machine.driver import Op, frame, section
from tests.tenants import OPERATOR_KEY, TENANT_KEY, key_of, key_text, meta_of, tenant_of

RULER, OWNER = OPERATOR_KEY.split("_")[1], TENANT_KEY.split("_")[1]
QUOTAS = PLANS["standard"].quotas


class Meta:
    def __init__(self, record: MetaRecord | None = None) -> None:
        self.machine = MetaMachine(record or meta_of())
        self.machine.apply(1, 1, None)
        self.made = 0

    def send(self, change: Change) -> Changed:
        op = Op(Kind.CHANGE, options=Options(change=encode(change)))
        payload = build_entry(1, 10, [frame(0, section(0, 0, [op]))])
        result = self.machine.apply(self.machine.applied_index + 1, 1, payload)
        (answers,) = decode_answer_list(result.answers[0])
        changed = msgspec.convert(answers.details[0], Changed)
        assert (answers.statuses[0] == Status.OK) == (changed.code == 0)
        return changed

    def make(self, action: Action, key: str = RULER, expected: int = 0) -> Changed:
        self.made += 1
        number = self.made.to_bytes(16, "big")
        return self.send(Change(number, key, "10.0.0.1:5", 1_000 + self.made, action, expected))

    def code(self, action: Action, key: str = RULER, expected: int = 0) -> int:
        """Of the refusal, which changes nothing and leaves no record."""
        before = self.state()
        changed = self.make(action, key, expected)
        if changed.code:
            assert self.state() == before
        return changed.code

    def state(self) -> tuple[MetaRecord, list[AuditRecord]]:
        return self.machine.record, list(self.machine.tenancy.audit.tail)

    def tenant(self, number: int) -> Tenant:
        return self.machine.tenancy.tenants[number]

    @property
    def last(self) -> AuditRecord:
        return self.machine.tenancy.audit.tail[-1]

    def page(self, asker: int, /, below: int = 0, limit: int = 0, **wanted: Any) -> dict[str, Any]:
        asked = encode(AuditFilter(**wanted)) if wanted else b""
        op = Op(Kind.AUDIT, lease=asker, token=below, options=Options(limit=limit, change=asked))
        (answers,) = decode_answer_list(self.machine.read(frame(0, section(0, 0, [op]))))
        assert list(answers.statuses) == [Status.OK]
        records, cursor = answers.details[0]
        return {"seqs": [record[0] for record in records], "cursor": cursor, "records": records}


def create(name: str = "acme", key: ApiKey | None = None, quotas: Quotas = QUOTAS) -> CreateTenant:
    return CreateTenant(name, name.title(), "standard", 10, quotas, key)


def new(name: str, role: KeyRole = KeyRole.LOCKS, prefix: str = "") -> ApiKey:
    return key_of(key_text(name), role, prefix, name)


@pytest.fixture
def meta() -> Meta:
    return Meta()


def test_a_tenant_comes_changes_and_goes_and_its_number_is_not_used_again(meta: Meta) -> None:
    assert meta.make(create(key=new("acme"))) == Changed(2, 2, key=new("acme").id)
    made = meta.tenant(2)
    assert (made.id, made.state, made.quotas, made.version, made.created_ms) == ("acme", "active", QUOTAS, 2, 1_001)
    assert meta.make(SetTenant("acme", "ACME", "own", 7, {"held": 5, "rate": 1})) == Changed(3, 2)
    made = meta.tenant(2)
    assert (made.display, made.plan, made.weight, made.quotas.held, made.quotas.rate) == ("ACME", "own", 7, 5, 1)
    assert (made.quotas.sessions, made.created_ms, made.changed_ms) == (QUOTAS.sessions, 1_001, 1_002)
    assert meta.code(DeleteTenant("acme")) == Code.CONFLICT
    assert meta.make(SuspendTenant("acme")).code == 0
    assert meta.tenant(2).state == "suspended"
    assert meta.make(ResumeTenant("acme")).code == 0
    assert meta.tenant(2).state == "active"
    meta.make(SuspendTenant("acme"))
    assert meta.make(DeleteTenant("acme")) == Changed(7, 2)
    assert 2 not in meta.machine.tenancy.tenants
    assert meta.code(CreateKey("acme", new("late"))) == Code.NOT_FOUND
    assert meta.make(create(key=new("acme"))) == Changed(8, 3, key=new("acme").id)
    assert meta.machine.version == 8


def test_keys_are_made_turned_over_and_revoked(meta: Meta) -> None:
    assert meta.make(CreateKey("tenant1", new("worker", prefix="orders/"))).code == 0
    worker = new("worker").id
    secret = "n" * 43
    rotated = RotateKey(worker, "b" * 12, b"n" * SALT_BYTES, digest_of(b"n" * SALT_BYTES, secret))
    assert meta.make(rotated).code == 0
    first, second = meta.tenant(1).keys
    assert (second.id, second.name, second.role, second.prefix) == ("b" * 12, "worker", KeyRole.LOCKS, "orders/")
    assert is_secret_of(second, secret)
    assert meta.code(RevokeKey(worker)) == Code.NOT_FOUND
    assert meta.make(RevokeKey("b" * 12)).code == 0
    assert meta.tenant(1).keys == (first,)
    assert meta.tenant(1).version == meta.machine.version == 4


def test_a_tenants_admin_rules_its_own_keys_and_nothing_else(meta: Meta) -> None:
    meta.make(create(key=new("acme")))
    stranger = new("acme").id
    assert meta.make(CreateKey("tenant1", new("worker")), OWNER).code == 0
    operators: tuple[Action, ...] = (
        create("mine"), SetTenant("tenant1", weight=1_000), SuspendTenant("tenant1"), ResumeTenant("tenant1"),
        DeleteTenant("tenant1"), Note(2, "lock.break", "a"),
    )  # fmt: skip
    for action in operators:
        assert meta.code(action, OWNER) == Code.FORBIDDEN
    hidden: tuple[Action, ...] = (
        CreateKey("acme", new("spy")), SetTenant("acme"), RevokeKey(stranger), CreateKey("nobody", new("spy")),
        RotateKey(stranger, "b" * 12, bytes(SALT_BYTES), bytes(DIGEST_BYTES)), CreateKey("operator", new("spy")),
    )  # fmt: skip
    for action in hidden:
        assert meta.code(action, OWNER) == Code.NOT_FOUND, "nobody learns which other tenants and keys there are"
    assert meta.make(Note(1, "lock.break", "a"), OWNER).code == 0
    assert meta.make(RevokeKey(new("worker").id), OWNER).code == 0


def test_a_key_that_is_no_admins_was_revoked_or_whose_tenant_is_suspended_changes_nothing(meta: Meta) -> None:
    for role in (KeyRole.READ, KeyRole.LOCKS):
        meta.make(CreateKey("tenant1", new(role, role)))
        assert meta.code(CreateKey("tenant1", new("x")), new(role).id) == Code.FORBIDDEN
    assert meta.code(CreateKey("tenant1", new("x")), "stranger") == Code.NOT_FOUND
    assert meta.code(create("x"), "stranger") == Code.FORBIDDEN
    meta.make(SuspendTenant("tenant1"))
    assert meta.code(CreateKey("tenant1", new("x")), OWNER) == Code.FORBIDDEN
    assert meta.make(CreateKey("tenant1", new("x"))).code == 0, "the operator may"


def test_a_key_with_a_prefix_gives_no_more_than_it_has(meta: Meta) -> None:
    meta.make(CreateKey("tenant1", new("narrow", KeyRole.ADMIN, "a/")))
    narrow = new("narrow").id
    assert meta.code(CreateKey("tenant1", new("x")), narrow) == Code.FORBIDDEN
    assert meta.code(CreateKey("tenant1", new("x", prefix="a")), narrow) == Code.FORBIDDEN
    assert meta.code(RevokeKey(OWNER), narrow) == Code.FORBIDDEN
    rotated = RotateKey(OWNER, "b" * 12, bytes(SALT_BYTES), bytes(DIGEST_BYTES))
    assert meta.code(rotated, narrow) == Code.FORBIDDEN
    assert meta.make(CreateKey("tenant1", new("x", prefix="a/b")), narrow).code == 0
    assert meta.make(RevokeKey(new("x").id), narrow).code == 0


def test_the_operator_cannot_lock_itself_out_and_takes_no_locks(meta: Meta) -> None:
    assert meta.code(SuspendTenant("operator")) == Code.CONFLICT
    assert meta.code(DeleteTenant("operator")) == Code.CONFLICT
    assert meta.make(CreateKey("operator", new("viewer", KeyRole.READ))).code == 0
    assert meta.code(RevokeKey(RULER)) == Code.CONFLICT
    assert meta.code(CreateKey("operator", new("worker"))) == Code.INVALID
    assert meta.code(CreateKey("operator", new("narrow", KeyRole.ADMIN, "a"))) == Code.INVALID
    assert meta.make(CreateKey("operator", new("second", KeyRole.ADMIN))).code == 0
    assert meta.make(RevokeKey(RULER)).code == 0
    assert meta.code(create("x")) == Code.FORBIDDEN


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "ä", "a" * 64, "a\n"])
def test_a_tenants_id_outside_its_rules_is_refused(meta: Meta, name: str) -> None:
    assert meta.code(create(name)) == Code.INVALID


@pytest.mark.parametrize(
    "action",
    [
        SetTenant("tenant1", display="ä" * 65),
        SetTenant("tenant1", display="a\x00"),
        SetTenant("tenant1", plan="ä" * 33),
        SetTenant("tenant1", weight=0),
        SetTenant("tenant1", weight=1_001),
        SetTenant("tenant1", quotas={"rate": 0}),
        SetTenant("tenant1", quotas={"held": -1}),
        SetTenant("tenant1", quotas={"ttl_ms": 24 * 3_600_000 + 1}),
        SetTenant("tenant1", quotas={"metadata_bytes": 1_025}),
        SetTenant("tenant1", quotas={"nonsense": 1}),
        CreateKey("tenant1", new("a", prefix="p" * 129)),
        CreateKey("tenant1", msgspec.structs.replace(new("a"), role="king")),
        CreateKey("tenant1", msgspec.structs.replace(new("a"), salt=b"")),
        CreateKey("tenant1", msgspec.structs.replace(new("a"), id="short")),
        CreateKey("tenant1", msgspec.structs.replace(new("a"), name="n" * 65)),
    ],
)
def test_what_is_out_of_range_is_refused(meta: Meta, action: Action) -> None:
    assert meta.code(action) == Code.INVALID


def test_the_limits_are_what_fits(meta: Meta) -> None:
    assert meta.make(create("a" * 63)).code == 0
    assert meta.make(SetTenant("tenant1", display="ä" * 64, weight=1_000, quotas={"metadata_bytes": 1_024})).code == 0
    for at in range(KEYS_PER_TENANT_MAX - 1):
        name = "k" + "".join("bcdefghijk"[int(digit)] for digit in str(at))
        assert meta.make(CreateKey("tenant1", new(name))).code == 0
    assert meta.code(CreateKey("tenant1", new("toomany"))) == Code.CONFLICT


def test_names_and_key_ids_are_taken_once(meta: Meta) -> None:
    meta.make(create(key=new("acme")))
    assert meta.code(create()) == Code.CONFLICT
    assert meta.code(create("other", new("acme"))) == Code.CONFLICT
    assert meta.code(CreateKey("tenant1", new("acme"))) == Code.CONFLICT
    taken = RotateKey(OWNER, new("acme").id, bytes(SALT_BYTES), bytes(DIGEST_BYTES))
    assert meta.code(taken) == Code.CONFLICT


def test_who_looked_at_an_older_version_is_told_so(meta: Meta) -> None:
    meta.make(SetTenant("tenant1", weight=5))
    assert meta.code(SetTenant("tenant1", weight=6), expected=1) == Code.CONFLICT
    assert meta.make(SetTenant("tenant1", weight=6), expected=2) == Changed(3, 1)


def test_a_change_sent_again_is_made_once_and_answered_as_at_first(meta: Meta) -> None:
    change = Change(b"c" * 16, RULER, "", 1, create())
    refused = Change(b"r" * 16, RULER, "", 1, SuspendTenant("late"))
    first, no = meta.send(change), meta.send(refused)
    assert no.code == Code.NOT_FOUND
    meta.make(create("late"))
    before = meta.state()
    assert meta.send(change) == first
    assert meta.send(refused) == no, "what was refused once is not done by a late copy"
    other = Meta()
    other.machine.restore(list(meta.machine.export()))
    assert other.send(change) == first
    assert other.send(refused) == no
    assert meta.state() == other.state() == before


def test_so_many_changes_are_remembered(meta: Meta) -> None:
    change = Change(b"c" * 16, RULER, "", 1, SetTenant("tenant1", weight=2))
    meta.send(change)
    for _ in range(CHANGES_REMEMBERED_MAX - 1):
        meta.make(Note(1, "a", "b"))
    seq = meta.last.seq
    meta.send(change)
    assert meta.last.seq == seq
    meta.make(Note(1, "a", "b"))
    meta.send(change)
    assert meta.last.seq == seq + 2


def test_every_change_leaves_a_record_of_who_what_when_from_where_before_and_after(meta: Meta) -> None:
    meta.make(SetTenant("tenant1", weight=5, quotas={"held": 7}))
    unlimited = PLANS["unlimited"]
    assert meta.last == AuditRecord(
        1, 1_001, 0, "operator", RULER, "first", "10.0.0.1:5", "tenant.set", 1, "tenant tenant1",
        {"weight": unlimited.weight, "quotas.held": unlimited.quotas.held}, {"weight": 5, "quotas.held": 7},
    )  # fmt: skip
    meta.make(CreateKey("tenant1", new("worker")), OWNER)
    assert (meta.last.actor, meta.last.key, meta.last.before) == ("tenant1", OWNER, {})
    assert meta.last.after == {"id": new("worker").id, "name": "worker", "role": "locks", "prefix": ""}
    meta.make(RevokeKey(OWNER), OWNER)
    assert (meta.last.actor, meta.last.key_name, meta.last.action) == ("tenant1", "first", "key.revoke")
    assert (meta.last.before["id"], meta.last.after) == (OWNER, {})
    meta.make(create(key=new("acme")))
    assert (meta.last.before, meta.last.after["quotas.held"]) == ({}, QUOTAS.held)
    text = repr(meta.machine.tenancy.audit.tail)
    assert "digest" not in text
    assert repr(new("acme").digest) not in text


def test_the_end_of_what_was_begun_is_noted_also_when_the_key_was_revoked_meanwhile(meta: Meta) -> None:
    meta.make(CreateKey("tenant1", new("helper", KeyRole.ADMIN)))
    helper = new("helper").id
    assert meta.make(Note(1, "lock.break", "a", {"token": "5"}, before={"holders": "b"}), helper).code == 0
    assert (meta.last.before, meta.last.after) == ({"holders": "b"}, {"token": "5"})
    version = meta.machine.version
    meta.make(RevokeKey(helper))
    assert meta.code(Note(1, "lock.break", "a"), helper) == Code.FORBIDDEN
    assert meta.make(Note(1, "lock.break", "a", {"token": "5"}, "done"), helper).code == 0
    assert meta.last.after == {"token": "5", "outcome": "done"}
    assert (meta.last.actor_tenant, meta.last.key) == (-1, helper)
    assert meta.machine.version == version + 1, "a note is no change that routers have to hear of"


def test_the_log_is_read_by_pages_each_tenant_its_own(meta: Meta) -> None:
    meta.make(create(key=new("acme", KeyRole.ADMIN)))
    for _ in range(3):
        meta.make(Note(1, "a", "b"), OWNER)
        meta.make(Note(2, "a", "b"), new("acme").id)
    meta.make(SetTenant("tenant1", weight=3))
    assert meta.page(0)["seqs"] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert meta.page(1)["seqs"] == [8, 6, 4, 2]
    assert meta.page(2)["seqs"] == [7, 5, 3, 1]
    first = meta.page(1, limit=3)
    assert (first["seqs"], first["cursor"]) == ([8, 6, 4], 4)
    assert meta.page(1, below=4, limit=3) == {"seqs": [2], "cursor": 0, "records": meta.page(1)["records"][3:]}
    theirs = meta.page(1)["records"][0]
    assert theirs[4:7] == ["", "", ""], "the operator's key and address are not the tenant's to see"
    assert meta.page(0)["records"][0][4:7] == [RULER, "first", "10.0.0.1:5"]


def test_records_are_chosen_by_tenant_action_target_key_and_time(meta: Meta) -> None:
    acme = new("acme", KeyRole.ADMIN)
    meta.make(create(key=acme))
    meta.make(CreateKey("acme", new("worker")), acme.id)
    meta.make(Note(2, "lock.break", "a, b"), acme.id)
    meta.make(Note(2, "lock.steal+session.end", "c, salt and 3 more"), acme.id)
    meta.make(Note(1, "lock.break", "tenant acme"), OWNER)
    meta.make(SuspendTenant("acme"))
    for wanted, seqs in (
        ({"tenant": "acme", "number": 2}, [6, 4, 3, 2, 1]), ({"tenant": "tenant1", "number": 1}, [5]),
        ({"tenant": "operator", "number": 0}, [6, 1]), ({"tenant": "no-such"}, []),
        ({"action": "lock.break"}, [5, 3]), ({"action": "lock"}, [5, 4, 3]), ({"action": "session.end"}, [4]),
        ({"action": "loc"}, []), ({"action": "tenant"}, [6, 1]),
        ({"target": "acme"}, [6, 5, 1]), ({"target": "b"}, [3]), ({"target": "salt"}, [4]), ({"target": "sal"}, []),
        ({"target": new("worker").id}, [2]), ({"target": "a, b"}, [3]),
        ({"key": acme.id}, [4, 3, 2]), ({"key": RULER}, [6, 1]),
        ({"since_ms": 1_003}, [6, 5, 4, 3]), ({"until_ms": 1_003}, [2, 1]),
        ({"since_ms": 1_002, "until_ms": 1_005, "action": "lock"}, [4, 3]),
    ):  # fmt: skip
        assert meta.page(0, **wanted)["seqs"] == seqs, wanted
    assert meta.page(2, tenant="tenant1", number=1)["seqs"] == [6, 4, 3, 2, 1], "its own, whatever it asks"
    assert meta.page(2, key=RULER)["seqs"] == [], "nor whose key it was"
    assert meta.page(2, key=acme.id)["seqs"] == [4, 3, 2]
    first = meta.page(0, limit=2, action="lock")
    assert (first["seqs"], first["cursor"]) == ([5, 4], 4)
    assert meta.page(0, below=first["cursor"], limit=2, action="lock")["seqs"] == [3]


def test_what_was_done_to_a_tenant_is_found_by_its_id_when_it_is_deleted_and_another_has_it(meta: Meta) -> None:
    acme = new("acme", KeyRole.ADMIN)
    meta.make(create(key=acme))
    meta.make(Note(2, "lock.break", "a"), acme.id)
    meta.make(SuspendTenant("acme"))
    meta.make(DeleteTenant("acme"))
    assert meta.page(0, tenant="acme")["seqs"] == [4, 3, 2, 1]
    meta.make(create())
    assert meta.page(0, tenant="acme", number=3)["seqs"] == [5, 4, 3, 2, 1]


def test_a_page_looks_at_so_many_records_and_the_next_goes_on(meta: Meta) -> None:
    """One in a hundred is wanted: no page is full, and all are found, each once."""
    for at in range(AUDIT_TAIL_MAX + 100):
        meta.make(Note(1, "a" if at % 100 else "b", "c"))
    found, below, pages = [], 0, 0
    while True:
        page = meta.page(0, below, 500, action="b")
        found += page["seqs"]
        pages += 1
        if not (below := page["cursor"]):
            break
    assert found == [seq for seq in range(AUDIT_TAIL_MAX + 100, 100, -1) if seq % 100 == 1]
    assert pages == AUDIT_TAIL_MAX / AUDIT_LOOKED_MAX
    assert meta.page(0, 50, action="b") == {"seqs": [], "cursor": 0, "records": []}, "long gone"


@pytest.mark.parametrize("asked", [b"\xc1", b"\x91" * 5_000, encode([1]), encode(["", None, "", "", "", 0, 0, 0])])
def test_what_is_no_choice_of_records_is_refused(meta: Meta, asked: bytes) -> None:
    read = meta.machine.read(frame(0, section(0, 0, [Op(Kind.AUDIT, options=Options(change=asked))])))
    assert list(decode_answer_list(read)[0].statuses) == [Status.INVALID]


def test_the_tail_is_bounded_and_what_came_after_a_seq_is_found(meta: Meta) -> None:
    for _ in range(AUDIT_TAIL_MAX + 2):
        meta.make(Note(1, "a", "b"))
    audit = meta.machine.tenancy.audit
    assert (len(audit.tail), audit.tail[0].seq, audit.seq) == (AUDIT_TAIL_MAX, 3, AUDIT_TAIL_MAX + 2)
    assert [record.seq for record in audit.since(AUDIT_TAIL_MAX)] == [AUDIT_TAIL_MAX + 1, AUDIT_TAIL_MAX + 2]
    assert len(audit.since(0)) == AUDIT_TAIL_MAX
    assert audit.since(audit.seq) == []


@pytest.mark.parametrize("data", [b"", b"\xc1", encode([b"short"]), bytes(CHANGE_BYTES_MAX + 1), b"\x91" * 5_000])
def test_any_bytes_are_a_change_or_refused(meta: Meta, data: bytes) -> None:
    before = meta.state()
    op = Op(Kind.CHANGE, options=Options(change=data))
    result = meta.machine.apply(2, 1, build_entry(1, 10, [frame(0, section(0, 0, [op, Op(Kind.CHANGE)]))]))
    (answers,) = decode_answer_list(result.answers[0])
    assert list(answers.statuses) == [Status.INVALID] * 2
    assert meta.state() == before
    assert meta.send(Change(b"short", RULER, "", 1, create())).code == Code.INVALID


def test_nobody_but_a_router_changes_or_reads_the_log(meta: Meta) -> None:
    op = Op(Kind.CHANGE, options=Options(change=encode(Change(b"c" * 16, RULER, "", 1, create()))))
    result = meta.machine.apply(2, 1, build_entry(1, 10, [frame(1, section(0, 0, [op]))]))
    assert list(decode_answer_list(result.answers[0])[0].statuses) == [Status.INVALID]
    read = meta.machine.read(frame(1, section(0, 0, [Op(Kind.AUDIT)])))
    assert list(decode_answer_list(read)[0].statuses) == [Status.INVALID]
    assert meta.machine.version == 1


def _random_action(rng: random.Random) -> Action:
    tenant, letter = f"t{rng.randrange(4)}", rng.choice("abcdefgh")
    key = new(letter, rng.choice(list(KeyRole)))
    actions: list[Action] = [
        create(tenant, key if rng.random() < 0.5 else None), SetTenant(tenant, weight=rng.randrange(3)),
        SuspendTenant(tenant), ResumeTenant(tenant), DeleteTenant(tenant), CreateKey(tenant, key), RevokeKey(key.id),
        RotateKey(key.id, new(rng.choice("abcdefgh")).id, key.salt, key.digest), Note(1, "a", tenant),
    ]  # fmt: skip
    return rng.choice(actions)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_indexes_agree_and_a_replica_from_a_snapshot_goes_on_alike(seed: int) -> None:
    rng = random.Random(seed)
    meta, other = Meta(), Meta()
    for at in range(200):
        number = rng.randrange(150).to_bytes(16, "big")
        actor = RULER if rng.random() < 0.8 else new(rng.choice("abcdefgh")).id
        change = Change(number, actor, "", at, _random_action(rng))
        assert meta.send(change) == other.send(change)
        tenancy = meta.machine.tenancy
        assert tenancy._by_id == {tenant.id: tenant.number for tenant in tenancy.tenants.values()}
        assert tenancy._by_key == {key.id: tenant.number for tenant in tenancy.tenants.values() for key in tenant.keys}
        assert max(tenant.version for tenant in tenancy.tenants.values()) <= meta.machine.version
        if rng.random() < 0.05:
            other = Meta()
            other.machine.restore(list(meta.machine.export()))
        assert other.machine.digest == meta.machine.digest
    assert other.machine.rows_digest() == meta.machine.rows_digest()
    assert meta.machine.record == other.machine.record
    assert tenant_of(1).number in meta.machine.tenancy.tenants


def test_totals_follow_tenants_and_a_report_moves_their_shares() -> None:
    record = msgspec.structs.replace(meta_of(), groups=tuple(GroupRecord(group, (1,)) for group in (0, 1, 2)))
    meta = Meta(record)
    acme = meta.make(create(quotas=msgspec.structs.replace(QUOTAS, held=10))).tenant
    shares = meta.machine.allotments
    groups = (1, 2)
    assert sum(shares.allotment(acme, group).held for group in groups) == 10
    first, last = groups[0], groups[-1]
    report = Report(last, [Use(acme, 1, (0, 0, 0), (0, 0, 0))])
    op = Op(Kind.REPORT, options=Options(change=encode(report)))
    payload = build_entry(1, 10, [frame(0, section(0, 0, [op, Op(Kind.REPORT, options=Options(change=b"x"))]))])
    (answers,) = decode_answer_list(meta.machine.apply(meta.machine.applied_index + 1, 1, payload).answers[0])
    assert answers.statuses == bytes([Status.OK, Status.INVALID])
    assert list(shares.unreported(last)) == []
    assert [allotment.tenant for allotment in shares.unreported(first)] == [acme]
    copy = Meta(record)
    copy.machine.restore(list(meta.machine.export()))
    assert copy.machine.rows_digest() == meta.machine.rows_digest()
    assert copy.machine.allotments.export() == shares.export()
    meta.make(SetTenant("acme", quotas={"held": 4, "ttl_ms": 5000}))
    assert [shares.allotment(acme, group).held for group in groups] == [0, 0], "nobody has said that it fits"
    assert {shares.allotment(acme, group).ttl_ms for group in groups} == {5000}
    meta.make(SuspendTenant("acme"))
    meta.make(DeleteTenant("acme"))
    assert {(row.group, row.version) for row in shares.export() if row.tenant == acme} == {(1, GONE), (2, GONE)}
