"""What a router adds to a section and checks of it: tenant, slots, limits, what the caller's key may do. Columns only,
no object per operation.

A section is decoded whole, though names and kinds are all that is used: what a node cannot read would spoil the frame
for the sections that travel with it.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from holdfast.wire.errors import BadMessage, Forbidden, Moved, TooLarge
from holdfast.wire.frames import FIRST_READ, Kind, Section, StampedRaw, decode_section, encode
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX, SLOTS
from holdfast.wire.messages import Msg, SlotTable, WatchRequest, decode_watch
from holdfast.wire.names import check_name, slot_of, tag_of
from holdfast.wire.rights import FOR_ADMINS, LOOKING, is_of_session, takes_anothers
from holdfast.wire.tenants import OPERATOR, KeyRole, Principal

NO_SLOT = b"\xff\xff"
_ALLOWED_WRITES = bytes(
    [
        Kind.REGISTER,
        Kind.OPEN,
        Kind.ACQUIRE,
        Kind.RELEASE,
        Kind.KEEPALIVE,
        Kind.CANCEL,
        Kind.FORCE,
        Kind.END,
        Kind.RENEW,
    ]
)
_ALLOWED_READS = bytes([Kind.GET, Kind.CHECK, Kind.LIST, Kind.HOLDS, Kind.TICKETS, Kind.SESSIONS])
_MAY: dict[KeyRole, bytes] = {
    KeyRole.READ: LOOKING,
    KeyRole.LOCKS: (_ALLOWED_WRITES + _ALLOWED_READS).translate(None, FOR_ADMINS),
    KeyRole.ADMIN: _ALLOWED_WRITES + _ALLOWED_READS,
}
_PREFIXED = (int(Kind.LIST),)
_MASK = SLOTS - 1
_OPERATORS = "the operator's keys take and show no locks of their own: use a tenant's key"


class Stamper:
    """Stamps by one slot table. Groups are looked up as bytes: two per slot, little endian."""

    def __init__(self, table: SlotTable) -> None:
        self.version = table.version
        self._groups = [table.groups[at : at + 2] for at in range(0, 2 * SLOTS, 2)]
        self._packed = [slot.to_bytes(2, "little") for slot in range(SLOTS)]

    def stamp(self, principal: Principal, group: int, kind: int, section: bytes) -> tuple[bytes, Section]:
        """The stamped section, ready for a frame, and what it says. Raises ``BadMessage``, ``TooLarge``, ``Moved``,
        ``Forbidden``."""
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
        check_right(principal, decoded)
        tenant = principal.tenant
        slots = self._slots(tenant, group, kinds, decoded.names)
        return encode(StampedRaw(tenant, slots, msgspec.Raw(section))), decoded

    def watch(self, principal: Principal, group: int, body: bytes) -> WatchRequest:
        """What a WATCH asks of this group. Raises ``BadMessage``, ``InvalidName``, ``Moved``, ``Forbidden``."""
        try:
            asked = decode_watch(body)
        except msgspec.DecodeError as error:
            raise BadMessage(f"this is no watch: {error}") from None
        if asked.name or not asked.prefix:
            check_name(asked.name)
        if principal.tenant == OPERATOR:
            raise Forbidden(_OPERATORS)
        if not asked.name.startswith(principal.prefix):
            raise Forbidden(f"this key is for names that begin with {principal.prefix!r}")
        slot = slot_of(principal.tenant, asked.name)
        if asked.on and not asked.prefix and self._groups[slot] != group.to_bytes(2, "little"):
            raise Moved(f"group {group} does not hold this name: fetch the slot table again")
        return asked

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


def check_right(principal: Principal, section: Section) -> None:
    """Raises ``Forbidden``, for the section as a whole, when the key may not do one of its operations."""
    if principal.tenant == OPERATOR:
        raise Forbidden(_OPERATORS)
    if section.kinds.translate(None, _MAY[principal.role]):
        raise Forbidden(f"a key with role {principal.role} may not do this")
    if principal.role != KeyRole.ADMIN:
        for at, options in section.options.items():
            if 0 <= at < len(section.kinds) and takes_anothers(section.kinds[at], options):
                raise Forbidden("what does not wait for the holder, and the end of another's session, need role admin")
    if principal.prefix:
        _check_prefix(principal.prefix, section)


def _check_prefix(prefix: str, section: Section) -> None:
    kinds = section.kinds
    for at, name in enumerate(section.names):
        if not name.startswith(prefix) and (name or kinds[at] == Kind.LIST):
            raise Forbidden(f"this key is for names that begin with {prefix!r}")
    if Kind.SESSIONS in kinds or any(
        0 <= at < len(kinds) and is_of_session(kinds[at], options) for at, options in section.options.items()
    ):
        raise Forbidden(f"sessions may hold more than what this key, for names that begin with {prefix!r}, may see")
