"""What a router checks and adds: tenant, slots, limits."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.errors import BadMessage, Forbidden, InvalidName, Moved, Rejected, TooLarge
from holdfast.wire.frames import Kind, Options, Section, decode_frame, encode
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX, SLOTS
from holdfast.wire.messages import Msg, SlotTable, WatchRequest
from holdfast.wire.names import slot_of
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router.stamping import Stamper

CALLER = Principal(1, "key", KeyRole.ADMIN)


def columns(names: list[str], kind: int = int(Kind.ACQUIRE), client: int = 5) -> bytes:
    n = len(names)
    return encode(
        Section(client, 1, bytes([kind]) * n, list(range(1, n + 1)), names, [0] * n, [0] * n, [0] * n, [0] * n, {})
    )


def stamper(owner: int = 1) -> Stamper:
    return Stamper(SlotTable(1, struct.pack("<H", owner) * SLOTS))


def test_a_section_is_stamped_with_tenant_and_slots_and_otherwise_as_it_was() -> None:
    names = ["a", "", "{tag}x", "{tag}y", "ü/ß", "{}z"]
    section = columns(names)
    body, shape = stamper().stamp(msgspec.structs.replace(CALLER, tenant=3), 1, Msg.OPS, section)
    assert shape.client == 5
    (stamped,) = decode_frame(b"\x91" + body)
    assert stamped.tenant == 3
    assert encode(stamped.section) == section
    slots = struct.unpack(f"<{len(names)}H", stamped.slots)
    assert list(slots) == [slot_of(3, name) if name else 0xFFFF for name in names]
    assert slots[2] == slots[3]


def test_a_name_of_another_group_is_moved() -> None:
    groups = [1] * SLOTS
    groups[slot_of(1, "theirs")] = 2
    table = Stamper(SlotTable(1, struct.pack(f"<{SLOTS}H", *groups)))
    table.stamp(CALLER, 2, Msg.OPS, columns(["theirs"]))
    with pytest.raises(Moved, match="operation 1"):
        table.stamp(CALLER, 1, Msg.OPS, columns(["mine", "theirs"]))


def test_operations_per_section_at_the_limit_and_one_beyond() -> None:
    stamper().stamp(CALLER, 1, Msg.OPS, columns(["a"] * OPERATIONS_PER_SECTION_MAX))
    with pytest.raises(TooLarge):
        stamper().stamp(CALLER, 1, Msg.OPS, columns(["a"] * (OPERATIONS_PER_SECTION_MAX + 1)))
    with pytest.raises(TooLarge):
        stamper().stamp(CALLER, 1, Msg.OPS, columns([]))


@pytest.mark.parametrize("kind", [Kind.ALLOT, Kind.ANNOUNCE, Kind.GET, 0, 200])
def test_a_client_cannot_write_what_is_not_a_clients(kind: int) -> None:
    with pytest.raises(BadMessage, match="kind"):
        stamper().stamp(CALLER, 1, Msg.OPS, columns(["a"], kind))


def test_a_write_cannot_hide_among_reads() -> None:
    with pytest.raises(BadMessage, match="kind"):
        stamper().stamp(CALLER, 1, Msg.READ, columns(["a"], Kind.RELEASE))
    stamper().stamp(CALLER, 1, Msg.READ, columns(["a"], Kind.GET))


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(BadMessage, match="length"):
        stamper().stamp(CALLER, 1, Msg.OPS, encode(Section(1, 1, b"\x03\x03", [1], ["a"], [], [], [], [], {})))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    try:
        stamper().stamp(CALLER, 1, Msg.OPS, data)
    except (BadMessage, TooLarge, Moved):
        pass


WRITES = {Kind.REGISTER, Kind.OPEN, Kind.ACQUIRE, Kind.RELEASE, Kind.KEEPALIVE, Kind.CANCEL, Kind.FORCE, Kind.END}
READS = {Kind.GET, Kind.CHECK, Kind.LIST, Kind.HOLDS, Kind.TICKETS, Kind.SESSIONS}


def refused(principal: Principal, kind: Kind, name: str = "orders/1", options: Options | None = None) -> bool:
    """Whether the second of two operations makes the section refused."""
    section = Section(
        5, 1, bytes([kind, kind]), [1, 2], ["orders/0", name], [0] * 2, [0] * 2, [0] * 2, [0] * 2,
        {} if options is None else {1: options},
    )  # fmt: skip
    try:
        stamper().stamp(principal, 1, Msg.OPS if kind in WRITES else Msg.READ, encode(section))
    except Forbidden:
        return True
    return False


def test_each_role_does_what_it_may_and_nothing_else() -> None:
    may = {
        KeyRole.READ: {Kind.GET, Kind.CHECK, Kind.LIST, Kind.SESSIONS},
        KeyRole.LOCKS: (WRITES | READS) - {Kind.FORCE},
        KeyRole.ADMIN: WRITES | READS,
    }
    for role, kinds in may.items():
        assert {kind for kind in WRITES | READS if not refused(Principal(1, "key", role), kind)} == kinds


def test_only_an_admin_ends_anothers_session_or_does_not_wait_for_the_holder() -> None:
    another, now = Options(session=bytes(16)), Options(now=True)
    for role in (KeyRole.LOCKS, KeyRole.ADMIN):
        principal = Principal(1, "key", role)
        allowed = role == KeyRole.ADMIN
        assert refused(principal, Kind.END, "", another) != allowed
        assert refused(principal, Kind.ACQUIRE, options=now) != allowed
        assert not refused(principal, Kind.ACQUIRE, options=Options(steal=True))
        assert not refused(principal, Kind.OPEN, "", another)
        assert not refused(principal, Kind.END, "")


def test_a_prefix_is_asked_of_every_name_and_of_what_lists() -> None:
    narrow = Principal(1, "key", KeyRole.ADMIN, "orders/")
    for kind in (Kind.ACQUIRE, Kind.RELEASE, Kind.FORCE, Kind.GET, Kind.CHECK, Kind.LIST, Kind.KEEPALIVE):
        assert refused(narrow, kind, "order/1")
        assert refused(narrow, kind, "x")
        assert not refused(narrow, kind, "orders/")
    assert refused(narrow, Kind.LIST, "")
    assert refused(narrow, Kind.SESSIONS, "")
    assert refused(narrow, Kind.END, "", Options(session=bytes(16)))
    assert refused(narrow, Kind.HOLDS, "", Options(session=bytes(16)))
    assert not refused(narrow, Kind.HOLDS, "")
    assert not refused(narrow, Kind.END, "")
    assert not refused(narrow, Kind.HOLDS, "")


def test_the_operator_takes_no_locks() -> None:
    for kind in WRITES | READS:
        assert refused(Principal(0, "key", KeyRole.ADMIN), kind)


def test_a_watch_is_for_names_of_the_group_that_the_key_may_see() -> None:
    groups = [1] * SLOTS
    groups[slot_of(1, "theirs")] = 2
    table = Stamper(SlotTable(1, struct.pack(f"<{SLOTS}H", *groups)))
    narrow, operator = Principal(1, "key", KeyRole.READ, "orders/"), Principal(0, "key", KeyRole.ADMIN)

    def code(principal: Principal, name: str, prefix: bool = False) -> type[Exception] | None:
        try:
            table.watch(principal, 1, encode(WatchRequest(name, prefix)))
        except Rejected as error:
            return type(error)
        return None

    assert [code(CALLER, name) for name in ("mine", "theirs", "", "\n")] == [None, Moved, InvalidName, InvalidName]
    assert [code(CALLER, name, True) for name in ("theirs", "", "\n")] == [None, None, InvalidName]
    assert [code(narrow, name, True) for name in ("orders/", "orders", "")] == [None, Forbidden, Forbidden]
    assert [code(narrow, name) for name in ("orders/1", "mine")] == [None, Forbidden]
    assert code(operator, "mine") == Forbidden
    with pytest.raises(BadMessage):
        table.watch(CALLER, 1, b"\xc1")
