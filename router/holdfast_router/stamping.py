"""What a router adds to a section and checks of it: tenant, slots, limits. Columns only, no object per operation.

A section is decoded whole, though names and kinds are all that is used: what a node cannot read would spoil the frame
for the sections that travel with it.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from holdfast.wire.errors import BadMessage, Moved, TooLarge
from holdfast.wire.frames import FIRST_READ, Kind, Section, StampedRaw, decode_section, encode
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX, SLOTS
from holdfast.wire.messages import Msg, SlotTable
from holdfast.wire.names import tag_of

NO_SLOT = b"\xff\xff"
_ALLOWED_WRITES = bytes(
    [Kind.REGISTER, Kind.OPEN, Kind.ACQUIRE, Kind.RELEASE, Kind.KEEPALIVE, Kind.CANCEL, Kind.FORCE, Kind.END]
)
_ALLOWED_READS = bytes([Kind.GET, Kind.CHECK, Kind.LIST, Kind.HOLDS, Kind.TICKETS, Kind.SESSIONS])
_PREFIXED = (int(Kind.LIST),)
_MASK = SLOTS - 1


class Stamper:
    """Stamps by one slot table. Groups are looked up as bytes: two per slot, little endian."""

    def __init__(self, table: SlotTable) -> None:
        self.version = table.version
        self._groups = [table.groups[at : at + 2] for at in range(0, 2 * SLOTS, 2)]
        self._packed = [slot.to_bytes(2, "little") for slot in range(SLOTS)]

    def stamp(self, tenant: int, group: int, kind: int, section: bytes) -> tuple[bytes, Section]:
        """The stamped section, ready for a frame, and what it says. Raises ``BadMessage``, ``TooLarge``, ``Moved``."""
        try:
            decoded = decode_section(section)
        except msgspec.DecodeError as error:
            raise BadMessage(f"this is no section: {error}") from None
        kinds = decoded.kinds
        count = len(kinds)
        if not 0 < count <= OPERATIONS_PER_SECTION_MAX:
            raise TooLarge(f"a section has 1 to {OPERATIONS_PER_SECTION_MAX} operations, this one {count}")
        if not (
            count
            == len(decoded.seqs)
            == len(decoded.names)
            == len(decoded.leases)
            == len(decoded.tokens)
            == len(decoded.ttls)
            == len(decoded.waits)
        ):
            raise BadMessage("the columns of this section are not of one length")
        allowed = _ALLOWED_WRITES if kind == Msg.OPS else _ALLOWED_READS
        if kinds.translate(None, allowed):
            raise BadMessage("this section has operations of a kind that does not go with its message")
        slots = self._slots(tenant, group, kinds, decoded.names)
        return encode(StampedRaw(tenant, slots, msgspec.Raw(section))), decoded

    def _slots(self, tenant: int, group: int, kinds: bytes, names: list[str]) -> bytes:
        groups, packed = self._groups, self._packed
        wanted = group.to_bytes(2, "little")
        parts: list[bytes] = []
        for at, name in enumerate(names):
            if not name or (kinds[at] >= FIRST_READ and kinds[at] in _PREFIXED):
                parts.append(NO_SLOT)
                continue
            if "{" in name:
                name = tag_of(name)
            slot = crc32(name.encode(), tenant) & _MASK
            if groups[slot] != wanted:
                raise Moved(
                    f"operation {at} is about a name that group {group} does not hold: fetch the slot table again"
                )
            parts.append(packed[slot])
        return b"".join(parts)
