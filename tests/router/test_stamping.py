"""What a router checks and adds: tenant, slots, limits."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.errors import BadMessage, Moved, TooLarge
from holdfast.wire.frames import Kind, Section, decode_frame, encode
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX, SLOTS
from holdfast.wire.messages import Msg, SlotTable
from holdfast.wire.names import slot_of
from holdfast_router.stamping import Stamper


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
    body, shape = stamper().stamp(3, 1, Msg.OPS, section)
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
    table.stamp(1, 2, Msg.OPS, columns(["theirs"]))
    with pytest.raises(Moved, match="operation 1"):
        table.stamp(1, 1, Msg.OPS, columns(["mine", "theirs"]))


def test_operations_per_section_at_the_limit_and_one_beyond() -> None:
    stamper().stamp(1, 1, Msg.OPS, columns(["a"] * OPERATIONS_PER_SECTION_MAX))
    with pytest.raises(TooLarge):
        stamper().stamp(1, 1, Msg.OPS, columns(["a"] * (OPERATIONS_PER_SECTION_MAX + 1)))
    with pytest.raises(TooLarge):
        stamper().stamp(1, 1, Msg.OPS, columns([]))


@pytest.mark.parametrize("kind", [Kind.ALLOT, Kind.ANNOUNCE, Kind.GET, 0, 200])
def test_a_client_cannot_write_what_is_not_a_clients(kind: int) -> None:
    with pytest.raises(BadMessage, match="kind"):
        stamper().stamp(1, 1, Msg.OPS, columns(["a"], kind))


def test_a_write_cannot_hide_among_reads() -> None:
    with pytest.raises(BadMessage, match="kind"):
        stamper().stamp(1, 1, Msg.READ, columns(["a"], Kind.RELEASE))
    stamper().stamp(1, 1, Msg.READ, columns(["a"], Kind.GET))


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(BadMessage, match="length"):
        stamper().stamp(1, 1, Msg.OPS, encode(Section(1, 1, b"\x03\x03", [1], ["a"], [], [], [], [], {})))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    try:
        stamper().stamp(1, 1, Msg.OPS, data)
    except (BadMessage, TooLarge, Moved):
        pass
