"""The form of the journal's records; docs/journal-format.md describes it for readers of files."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

HEADER: Final = struct.Struct("<IIQQI4sQQ")
"""CRC, length of the whole record, number, highest number known to be synced, group, kind, index, term."""
_AFTER_CRC: Final = struct.Struct("<IQQI4sQQ")
HEADER_BYTES: Final = HEADER.size

_MAGIC: Final = b"HFR"
_MAGIC_OFFSET: Final = 28
SEGMENT: Final = b"HFRS"
ENTRY: Final = b"HFRE"
TRUNCATE: Final = b"HFRT"
VOTE: Final = b"HFRV"
START: Final = b"HFRB"
RELEASE: Final = b"HFRR"
CARRIED: Final = b"HFRC"
MARK: Final = b"HFRM"

_KINDS: Final = frozenset({SEGMENT, ENTRY, TRUNCATE, VOTE, START, RELEASE, CARRIED, MARK})
_NUMBERS_MAX: Final = 1 << 24
"""More records than that are not written between two syncs."""
_WORK_FACTOR: Final = 16
"""So many times its own length are read of what may be records."""
UNTOLD: Final = 1 << 63

KEPT: Final = b"\x01"
"""Payload of a start whose log held the snapshot's last entry and goes on behind it."""
REPLACED: Final = b"\x00"

_VERSION: Final = 1
_CHECKPOINT: Final = struct.Struct("<HI")
_GROUP: Final = struct.Struct("<IQqQQ")
_NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """What a segment's first record says of a group: all that is needed when earlier segments are gone."""

    group: int
    term: int
    voted_for: int | None
    released: int
    """Entries up to here may be missing."""
    last: int
    """Last index of the log; 0 when it has none yet."""


def place(segment: int, offset: int) -> int:
    """Start value of a record's CRC, so that a record counts only where it was written.

    Bytes inside a payload, which a client may choose, are thus never taken for a record.
    """
    return (segment * 0x9E3779B1 & 0xFFFFFFFF) ^ offset


def encode_header(
    kind: bytes, group: int, number: int, synced: int, index: int, term: int, payload: bytes, crc_start: int
) -> bytes:
    rest = _AFTER_CRC.pack(HEADER_BYTES + len(payload), number, synced, group, kind, index, term)
    return zlib.crc32(payload, zlib.crc32(rest, crc_start)).to_bytes(4, "little") + rest


def is_whole(data: bytes, offset: int, segment: int) -> bool:
    """Whether a record stands at `offset`, as it was written there."""
    if offset < 0 or offset + HEADER_BYTES > len(data):
        return False
    crc, length = struct.unpack_from("<II", data, offset)
    if length < HEADER_BYTES or offset + length > len(data):
        return False
    return bool(zlib.crc32(memoryview(data)[offset + 4 : offset + length], place(segment, offset)) == crc)


def highest_mark(data: bytes, offset: int, segment: int, lowest: int) -> int:
    """The highest "synced" of all whole records at or after `offset`, wherever they stand; 0 without any.

    `lowest` is the lowest number that such a record can have. When bytes that look like records are so many that
    looking at them all would take for ever, the answer is that there may be one: `UNTOLD`.
    """
    highest = 0
    work = _WORK_FACTOR * len(data)
    at = data.find(_MAGIC, offset)
    while at >= 0:
        start = at - _MAGIC_OFFSET
        after = at + 1
        if start >= offset and _may_be(data, start, lowest):
            _, length, _, synced, *_ = HEADER.unpack_from(data, start)
            work -= length
            if work < 0:
                return UNTOLD
            if is_whole(data, start, segment):
                highest = max(highest, synced)
                offset = after = start + length
        at = data.find(_MAGIC, after)
    return highest


def _may_be(data: bytes, start: int, lowest: int) -> bool:
    """A look at the header alone: a client may fill megabytes with what resembles its magic."""
    if start + HEADER_BYTES > len(data):
        return False
    _, length, number, synced, _, kind, _, _ = HEADER.unpack_from(data, start)
    fits = HEADER_BYTES <= length <= len(data) - start
    return bool(fits and kind in _KINDS and lowest <= number < lowest + _NUMBERS_MAX and synced < number)


def encode_checkpoint(summaries: list[GroupSummary]) -> bytes:
    parts = [_CHECKPOINT.pack(_VERSION, len(summaries))]
    for s in summaries:
        voted_for = _NOBODY if s.voted_for is None else s.voted_for
        parts.append(_GROUP.pack(s.group, s.term, voted_for, s.released, s.last))
    return b"".join(parts)


def decode_checkpoint(payload: bytes) -> list[GroupSummary]:
    """Raises ValueError for another version or length."""
    if len(payload) < _CHECKPOINT.size:
        raise ValueError("segment header too short")
    version, count = _CHECKPOINT.unpack_from(payload)
    if version != _VERSION:
        raise ValueError(f"journal version {version} is not the {_VERSION} that this release reads")
    if len(payload) != _CHECKPOINT.size + count * _GROUP.size:
        raise ValueError("segment header of wrong length")
    return [
        GroupSummary(group, term, None if voted_for == _NOBODY else voted_for, released, last)
        for group, term, voted_for, released, last in _GROUP.iter_unpack(payload[_CHECKPOINT.size :])
    ]


def encode_vote(voted_for: int | None) -> int:
    """A vote as a record's index field."""
    return 0 if voted_for is None else voted_for + 1


def decode_vote(index: int) -> int | None:
    return index - 1 if index else None
