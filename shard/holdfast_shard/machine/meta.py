"""The meta machine: members of every group, the slot table, tenants and their keys, which routers watch; and how the
tenants' totals are split over the groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from holdfast.wire.changes import Changed, decode_audit_filter, decode_change
from holdfast.wire.errors import Code
from holdfast.wire.frames import Answers, Event, Kind, Options, Stamped, Status, decoder, encode
from holdfast.wire.limits import CHANGE_BYTES_MAX
from holdfast.wire.messages import MetaRecord, NodeRecord, decode_meta
from holdfast.wire.tenants import OPERATOR, Quotas

from .allotments import Allotments, decode_report, decode_share_rows
from .audit import ALL
from .envelope import Envelope, ReadBudget, all_answered, whole
from .tenancy import Tenancy

META_GROUP = 0
"""Its own number; every other group holds locks."""
SNAPSHOT_VERSION = 3
ADDRESS_BYTES_MAX = 256
SHARES_PER_CHUNK = 5000
_PLAIN = Options()


class MetaHead(msgspec.Struct, array_like=True):
    """What a snapshot says besides the rows; the version comes first for good."""

    version: int
    index: int
    term: int
    base_ms: int
    clock_ms: int
    digest: bytes
    digest_index: int


_decode_head = decoder(MetaHead)
_decode_count = decoder(int)
replace = msgspec.structs.replace


class MetaMachine(Envelope):
    def __init__(self, record: MetaRecord) -> None:
        super().__init__(encode(record))
        self._frame_record = replace(record, tenants=())
        """All but the tenants; its version is that of the whole."""
        self.tenancy = Tenancy(record.tenants)
        self.allotments = Allotments(*_shared_out(record, self.tenancy))

    @property
    def version(self) -> int:
        """Of the record; it only grows."""
        return self._frame_record.version

    @property
    def nodes(self) -> tuple[NodeRecord, ...]:
        return self._frame_record.nodes

    @property
    def record(self) -> MetaRecord:
        """As applied here, put together anew at every call."""
        tenants = self.tenancy.tenants
        return replace(self._frame_record, tenants=tuple(tenants[number] for number in sorted(tenants)))

    def _advance(self, clock_ms: int) -> None:
        """Nothing in the record runs out."""

    def _finish(self) -> list[Event]:
        return []

    def knows(self, tenant: int, client: int) -> bool:
        return False

    def due_ms(self) -> int | None:
        return None

    @property
    def backlog(self) -> bool:
        return False

    def _section(self, stamped: Stamped) -> Answers:
        section = stamped.section
        if not whole(stamped) or stamped.tenant != 0:
            return all_answered(len(section.kinds), Status.INVALID)
        statuses = bytearray()
        details: dict[int, Any] = {}
        for at, kind in enumerate(section.kinds):
            if kind == Kind.ANNOUNCE:
                statuses.append(self._announce(section.tokens[at], section.names[at]))
            elif kind == Kind.CHANGE:
                details[at] = changed = self._change(section.options.get(at, _PLAIN).change)
                statuses.append(Status.INVALID if changed.code else Status.OK)
            elif kind == Kind.REPORT:
                statuses.append(self._report(section.options.get(at, _PLAIN).change))
            else:
                statuses.append(Status.INVALID)
        return Answers(bytes(statuses), [0] * len(statuses), [0] * len(statuses), details)

    def _announce(self, node: int, address: str) -> int:
        """A node says where it listens. Saying it again changes nothing, so it needs no client and no seq."""
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or len(address) > ADDRESS_BYTES_MAX:
            return Status.INVALID
        record = self._frame_record
        known = {entry.node: entry for entry in record.nodes}
        if node not in known:
            return Status.INVALID
        if known[node].address != address:
            known[node] = NodeRecord(node, address, known[node].identity)
            self._frame_record = replace(record, version=record.version + 1, nodes=tuple(known.values()))
        return Status.OK

    def _change(self, encoded: bytes) -> Changed:
        if len(encoded) > CHANGE_BYTES_MAX:
            return Changed(0, 0, int(Code.TOO_LARGE), f"a change has at most {CHANGE_BYTES_MAX} bytes")
        try:
            change = decode_change(encoded)
        except msgspec.DecodeError as error:
            return Changed(0, 0, int(Code.BAD_MESSAGE), f"this is no change: {error}")
        version = self._frame_record.version + 1
        answer, touched = self.tenancy.change(change, version)
        if touched:
            self._frame_record = replace(self._frame_record, version=version)
            tenant = self.tenancy.tenants.get(answer.tenant)
            if tenant is None:
                self.allotments.remove(answer.tenant)
            elif tenant.number != OPERATOR:
                self.allotments.set_quotas(tenant.number, tenant.quotas)
        return answer

    def _report(self, encoded: bytes) -> int:
        try:
            report = decode_report(encoded)
        except msgspec.DecodeError:
            return Status.INVALID
        self.allotments.report(report)
        return Status.OK

    def _read(self, stamped: Stamped, budget: ReadBudget) -> Answers:
        """AUDIT: ``leases`` names the tenant that asks, ``tokens`` the seq below which to go on, options the limit and
        what is wanted."""
        section = stamped.section
        if not whole(stamped) or stamped.tenant != 0 or section.kinds != bytes([Kind.AUDIT]):
            return all_answered(len(section.kinds), Status.INVALID)
        options = section.options.get(0, _PLAIN)
        try:
            wanted = decode_audit_filter(options.change) if options.change else ALL
        except msgspec.DecodeError:
            return all_answered(1, Status.INVALID)
        page = self.tenancy.audit.page(section.leases[0], section.tokens[0], options.limit, wanted)
        return Answers(bytes([Status.OK]), [0], [0], {0: page})

    def export(self) -> Iterator[bytes]:
        head = MetaHead(
            SNAPSHOT_VERSION, self.applied_index, self.term, self.base_ms, self.clock_ms, self.digest,
            self.digest_index,
        )  # fmt: skip
        shares = self.allotments.export()
        parts = [shares[at : at + SHARES_PER_CHUNK] for at in range(0, len(shares), SHARES_PER_CHUNK)]
        return map(encode, [head, self._frame_record, len(parts), *parts, *self.tenancy.rows()])

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state. Raises ``ValueError`` on anything that :meth:`export` did not write; the state stays."""
        try:
            first, second, third, *rows = chunks
            head, record = _decode_head(first), decode_meta(second)
            if head.version != SNAPSHOT_VERSION:
                raise ValueError(f"snapshots of version {head.version} of a meta machine are not known here")
            parts = _decode_count(third)
            shares = [row for chunk in rows[:parts] for row in decode_share_rows(chunk)]
            tenancy = Tenancy.of(rows[parts:])
            allotments = Allotments.restored(*_shared_out(record, tenancy), shares)
        except (ValueError, msgspec.DecodeError) as error:
            raise ValueError(f"this is no snapshot of a meta machine: {error}") from error
        self.applied_index, self.term, self.base_ms, self.clock_ms = head.index, head.term, head.base_ms, head.clock_ms
        self.digest, self.digest_index = head.digest, head.digest_index
        self._frame_record, self.tenancy, self.allotments = record, tenancy, allotments

    def rows_digest(self) -> bytes:
        digest = blake2b(encode(self._frame_record), digest_size=16)
        for row in self.tenancy.rows():
            digest.update(encode(row))
        digest.update(encode(self.allotments.export()))
        return digest.digest()

    def counts(self) -> dict[str, int]:
        return {"held": 0, "waiters": 0, "sessions": 0, "clients": 0, "slots": 0}


def _shared_out(record: MetaRecord, tenancy: Tenancy) -> tuple[list[int], dict[int, Quotas], int]:
    """The groups, the tenants whose totals are split over them, and the next tenant's number; the operator takes no
    locks."""
    quotas = {number: tenant.quotas for number, tenant in tenancy.tenants.items() if number != OPERATOR}
    return [entry.group for entry in record.groups if entry.group != META_GROUP], quotas, tenancy.next_number
