"""The meta machine: members of every group, the slot table, tenants. Routers watch its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from holdfast.wire.frames import Answers, Event, Kind, Stamped, Status, decoder, encode
from holdfast.wire.messages import MetaRecord, NodeRecord, decode_meta

from .envelope import Envelope, ReadBudget, all_answered, whole

SNAPSHOT_VERSION = 1
ADDRESS_BYTES_MAX = 256


class MetaHead(msgspec.Struct, array_like=True):
    """What a snapshot says besides the record; the version comes first for good."""

    version: int
    index: int
    term: int
    base_ms: int
    clock_ms: int
    digest: bytes
    digest_index: int


_decode_head = decoder(MetaHead)


class MetaMachine(Envelope):
    def __init__(self, record: MetaRecord) -> None:
        super().__init__(encode(record))
        self.record = record
        """As applied here; its version only grows."""

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
        statuses = bytes(
            self._announce(section.tokens[at], section.names[at]) if kind == Kind.ANNOUNCE else Status.INVALID
            for at, kind in enumerate(section.kinds)
        )
        return Answers(statuses, [0] * len(statuses), [0] * len(statuses), {})

    def _announce(self, node: int, address: str) -> int:
        """A node says where it listens. Saying it again changes nothing, so it needs no client and no seq."""
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or len(address) > ADDRESS_BYTES_MAX:
            return Status.INVALID
        record = self.record
        known = {entry.node: entry for entry in record.nodes}
        if node not in known:
            return Status.INVALID
        if known[node].address != address:
            known[node] = NodeRecord(node, address, known[node].identity)
            self.record = msgspec.structs.replace(record, version=record.version + 1, nodes=tuple(known.values()))
        return Status.OK

    def _read(self, stamped: Stamped, budget: ReadBudget) -> Answers:
        return all_answered(len(stamped.section.kinds), Status.INVALID)

    def export(self) -> Iterator[bytes]:
        head = MetaHead(
            SNAPSHOT_VERSION, self.applied_index, self.term, self.base_ms, self.clock_ms, self.digest,
            self.digest_index,
        )  # fmt: skip
        return iter([encode(head), encode(self.record)])

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state. Raises ``ValueError`` on anything that :meth:`export` did not write; the state stays."""
        try:
            first, second = chunks
            head, record = _decode_head(first), decode_meta(second)
        except (ValueError, msgspec.DecodeError) as error:
            raise ValueError(f"this is no snapshot of a meta machine: {error}") from error
        if head.version != SNAPSHOT_VERSION:
            raise ValueError(f"snapshots of version {head.version} of a meta machine are not known here")
        self.applied_index, self.term, self.base_ms, self.clock_ms = head.index, head.term, head.base_ms, head.clock_ms
        self.digest, self.digest_index = head.digest, head.digest_index
        self.record = record

    def rows_digest(self) -> bytes:
        return blake2b(encode(self.record), digest_size=16).digest()

    def counts(self) -> dict[str, int]:
        return {"held": 0, "waiters": 0, "sessions": 0, "clients": 0, "slots": 0}
