"""Everything that reads bytes of others, each as a function of any bytes: it raises only what it documents.

What is read is written and read again and must be the same. Nothing here is random: the same bytes do the same.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, get_args

import msgspec

from holdfast.wire import administration, changes, frames, messages
from holdfast.wire.errors import BadMessage, InvalidLockID, TooLarge
from holdfast.wire.frames import Allotment, encode
from holdfast.wire.limits import MESSAGE_BYTES_MAX
from holdfast.wire.lockid import PREFIX, LockID, parse_lock_id
from holdfast.wire.sealing import sealed
from holdfast.wire.stream import Splitter, pack
from holdfast_shard.consensus import messages as peers
from holdfast_shard.consensus.disk import DiskError
from holdfast_shard.consensus.records import (
    decode_checkpoint,
    encode_checkpoint,
    encode_header,
    highest_mark,
    place,
)
from holdfast_shard.consensus.recovery import JournalDamaged, Recovery
from holdfast_shard.consensus.segments import segment_name
from holdfast_shard.consensus.snapshots import SnapshotDamaged, SnapshotStore
from holdfast_shard.machine import Genesis, LockMachine, MetaMachine, build_entry
from holdfast_shard.machine.entry import parse_entry
from holdfast_shard.node.frame import read_frame
from tests.fuzz.targets_of_fronts import grpc_request, http_request, opaque
from tests.simulation.disk import SimDisk

Target = Callable[[bytes], None]

GENESIS: Final = Genesis("cluster", 1, tuple(range(4096)), (Allotment(1, 1, 1000, 1000, 1000),))
META: Final = messages.MetaRecord(1, "cluster", (), (), messages.SlotTable(1, b""), ())
_LENGTH: Final = struct.Struct("<I")


def _msgpack(decode: Callable[[bytes], Any]) -> Target:
    def target(data: bytes) -> None:
        try:
            found = decode(data)
        except msgspec.DecodeError:
            return
        again = encode(found)
        assert encode(decode(again)) == again

    return target


def admin_result(data: bytes) -> None:
    """As the answer to each administrators' request."""
    for kind in get_args(administration.AdminResult):
        try:
            found = administration.decode_result(data, kind)
        except msgspec.DecodeError:
            continue
        encode(found)


def lock_id(data: bytes) -> None:
    """Once as text, once as the body of a text whose seal is right."""
    key = b"key"
    for text in (data.decode("latin-1"), PREFIX + sealed(key, b"lock id", data)):
        try:
            found = parse_lock_id(text, 1, key)
        except InvalidLockID:
            continue
        assert parse_lock_id(found.text(key), 1, key) == found
        assert isinstance(found, LockID)


def frame_request(data: bytes) -> None:
    """However late it is looked at, each section that came is kept or named as left out."""
    try:
        came, senders = read_frame(None, 1, data, 0.0)
    except (BadMessage, TooLarge):
        return
    for now in (0.001, 5.0, 61.0):
        left = came.awaited(now)
        kept = frames.decode_raw_list(left.body)
        told = frames.decode_raw_list(left.complete(encode(kept)))
        assert [bytes(each) for each in told if bytes(each) != frames.DROPPED] == [bytes(each) for each in kept]
        assert len(told) == len(senders)


def stream(data: bytes) -> None:
    """However the bytes are cut, the same messages come of them; nothing is kept but one unfinished message."""
    for limit in (MESSAGE_BYTES_MAX, 8):
        whole, kept = _split([data], limit)
        middle = len(data) // 2
        assert _split([data[:middle], data[middle:]], limit)[0] == whole
        assert _split([data[at : at + 1] for at in range(len(data))], limit)[0] == whole
        assert kept <= len(data)
        if limit == MESSAGE_BYTES_MAX:
            assert data.startswith(b"".join(pack(*message) for message in whole if message is not None))


def _split(parts: list[bytes], limit: int) -> tuple[list[Any], int]:
    """The messages, None at their end when the stream is out of step, and how many bytes are kept."""
    splitter = Splitter(limit)
    found: list[Any] = []
    try:
        for part in parts:
            for message in splitter.feed(part):
                found.append(message)
    except (BadMessage, TooLarge):
        found.append(None)
    return found, len(splitter._buffer)


def entry(data: bytes) -> None:
    parsed = parse_entry(data)
    if parsed is not None:
        assert build_entry(*parsed) == data


def machine(data: bytes) -> None:
    """As an entry, as a frame of one, and as a frame of reads; whatever came of it can be written and read."""
    locks = LockMachine(GENESIS)
    locks.apply(1, 1, data)
    locks.apply(2, 1, build_entry(1, 5, [data]))
    locks.apply(3, 1, build_entry(1, 100_000, [data]))
    locks.read(data)
    LockMachine(GENESIS).restore(locks.export())
    meta = MetaMachine(META)
    meta.apply(1, 1, data)
    meta.apply(2, 1, build_entry(1, 5, [data]))
    meta.read(data)


def snapshot_rows(data: bytes) -> None:
    try:
        LockMachine(GENESIS).restore(_pieces(data))
    except ValueError:
        pass


def meta_rows(data: bytes) -> None:
    meta = MetaMachine(META)
    try:
        meta.restore(_pieces(data))
    except ValueError:
        return
    meta.apply(meta.applied_index + 1, meta.term + 1, None)
    MetaMachine(META).restore(meta.export())


def snapshot_file(data: bytes) -> None:
    """As it is, and with the checksum at its end made right."""
    for content in (data, data + zlib.crc32(data).to_bytes(4, "little")):
        disk = SimDisk()
        name = "snapshot-1-0000000000000001.snap"
        disk.write_atomic(name, content)
        try:
            found = SnapshotStore(disk, 1).verify(name)
        except SnapshotDamaged:
            continue
        for _ in found.chunks():
            pass


def peer_bundle(data: bytes) -> None:
    try:
        found = peers.decode(data)
    except msgspec.DecodeError:
        return
    assert peers.decode(peers.encode(found)) == found


def checkpoint(data: bytes) -> None:
    try:
        found = decode_checkpoint(data)
    except ValueError:
        return
    assert encode_checkpoint(found) == data


def journal(data: bytes) -> None:
    """As the bytes of one segment or two, and as the fields of whole records."""
    middle = len(data) // 2
    for files in ([data], [data[:middle], data[middle:]], [b"".join(_records(data))]):
        disk = SimDisk()
        for number, content in enumerate(files, start=1):
            disk.write_atomic(segment_name(number), content)
        try:
            found = Recovery(disk)
        except (JournalDamaged, DiskError):
            continue
        for group in found.recovered().values():
            indices = [index for index, _, _ in group.entries]
            assert indices == list(range(group.released + 1, group.released + 1 + len(indices)))
        found.unproved()
    highest_mark(data, 0, 1, 1)


def _records(data: bytes) -> Iterator[bytes]:
    """A segment of whole records, whose kinds, groups, indices and payloads come from the bytes. Index 0 is none."""
    kinds = [b"HFRS", b"HFRE", b"HFRT", b"HFRV", b"HFRB", b"HFRR", b"HFRC", b"HFRM", b"HFR?"]
    at = 0
    for number, piece in enumerate(_pieces(data), start=1):
        kind, group, index, term = (piece + bytes(4))[:4]
        chosen = kinds[kind % len(kinds)] if number > 1 else kinds[0]
        payload = piece[4:] if number > 1 else encode_checkpoint([])
        header = encode_header(chosen, group % 3, number, number - 1, 1 + index, term, payload, place(1, at))
        yield header + payload
        at += len(header) + len(payload)


def _pieces(data: bytes) -> list[bytes]:
    """The bytes as pieces, each behind its length."""
    found: list[bytes] = []
    at = 0
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        found.append(data[at : at + length])
        at += length
    return found


def in_pieces(chunks: list[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(chunk)) + chunk for chunk in chunks)


TARGETS: Final[dict[str, Target]] = {
    "section": _msgpack(frames.decode_section),
    "frame": _msgpack(frames.decode_frame),
    "answers": _msgpack(frames.decode_answers),
    "answer_list": _msgpack(frames.decode_answer_list),
    "raw_list": _msgpack(frames.decode_raw_list),
    "events": _msgpack(frames.decode_events),
    "hello": _msgpack(messages.decode_hello),
    "welcome": _msgpack(messages.decode_welcome),
    "refusal": _msgpack(messages.decode_refusal),
    "request": _msgpack(messages.decode_request),
    "frame_request": frame_request,
    "table": _msgpack(messages.decode_table),
    "roles": _msgpack(messages.decode_roles),
    "meta": _msgpack(messages.decode_meta),
    "delta": _msgpack(messages.decode_delta),
    "beat": _msgpack(messages.decode_beat),
    "watch": _msgpack(messages.decode_watch),
    "watched": _msgpack(messages.decode_watched),
    "audit_filter": _msgpack(changes.decode_audit_filter),
    "change": _msgpack(changes.decode_change),
    "admin_call": _msgpack(administration.decode_call),
    "admin_result": admin_result,
    "http_request": http_request,
    "grpc_request": grpc_request,
    "opaque": opaque,
    "lock_id": lock_id,
    "stream": stream,
    "entry": entry,
    "machine": machine,
    "snapshot_rows": snapshot_rows,
    "meta_rows": meta_rows,
    "snapshot_file": snapshot_file,
    "peer_bundle": peer_bundle,
    "checkpoint": checkpoint,
    "journal": journal,
}
"""By name; the order is the fuzzer's, whose first byte says which."""
