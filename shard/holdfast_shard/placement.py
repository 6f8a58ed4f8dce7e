"""Where slots stand: a consistent-hash ring over the shard groups, so that adding a group moves about 1/N of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from uhashring import HashRing

from holdfast.wire.limits import SLOTS

VIRTUAL_NODES = 160
"""Points of each group on the ring; the share of two groups then differs by about a tenth."""


def place_slots(groups: Iterable[int]) -> list[int]:
    """The group of each slot, by ketama's ring."""
    ring = HashRing(nodes=[f"group-{group}" for group in sorted(groups)], hash_fn="ketama", vnodes=VIRTUAL_NODES)
    return [int(str(ring.get_node(f"slot-{slot}")).removeprefix("group-")) for slot in range(SLOTS)]


def pack_slots(groups: Sequence[int]) -> bytes:
    return struct.pack(f"<{SLOTS}H", *groups)


def unpack_slots(packed: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{SLOTS}H", packed)
