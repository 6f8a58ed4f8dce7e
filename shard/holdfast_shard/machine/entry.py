"""A log entry: frames as received, under one term and one reading of the leader's stopwatch."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.wire.frames import Event

ENTRY_VERSION = 1
_HEAD = struct.Struct("<BQQI")
_LENGTH = struct.Struct("<I")


def build_entry(term: int, elapsed_ms: int, frames: Sequence[bytes]) -> bytes:
    """``elapsed_ms``: whole milliseconds since the leader of ``term`` took office. No frames: only time passes."""
    parts = [_HEAD.pack(ENTRY_VERSION, term, elapsed_ms, len(frames))]
    for frame in frames:
        parts.append(_LENGTH.pack(len(frame)))
        parts.append(frame)
    return b"".join(parts)


def parse_entry(payload: bytes) -> tuple[int, int, list[bytes]] | None:
    """(term, elapsed_ms, frames); None for bytes that :func:`build_entry` did not make."""
    if len(payload) < _HEAD.size:
        return None
    version, term, elapsed_ms, count = _HEAD.unpack_from(payload)
    if version != ENTRY_VERSION:
        return None
    frames: list[bytes] = []
    at = _HEAD.size
    for _ in range(count):
        if at + 4 > len(payload):
            return None
        (length,) = _LENGTH.unpack_from(payload, at)
        at += 4
        if at + length > len(payload):
            return None
        frames.append(payload[at : at + length])
        at += length
    return (term, elapsed_ms, frames) if at == len(payload) else None


@dataclass(slots=True)
class EntryResult:
    """What an entry did. ``answers`` has one encoded ``list[Answers]`` for each frame, in order."""

    answers: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    refused: bool = False
    """The stamp was of another term, or the bytes were no entry: nothing was changed."""
