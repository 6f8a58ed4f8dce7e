"""``audit.jsonl``: every audit record that this node's replica of the meta group applied, one JSON line each.

The state keeps the last records only. The file only grows; what a crash cut off its end is appended again at the next
start, from the state.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.wire.changes import json_of

from ..consensus.disk import AppendFile, Disk
from ..machine.audit import Audit

AUDIT_FILE: Final = "audit.jsonl"
TAIL_BYTES: Final = 1 << 16
"""Read at a start: the longest line is well below it."""


class _Seq(msgspec.Struct):
    seq: int


_decode_seq = msgspec.json.Decoder(_Seq).decode


class AuditFile:
    """Raises what the disk raises."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._file: AppendFile | None = None
        self._seq, keep = _last_of(disk)
        if disk.exists(AUDIT_FILE) and keep < _size_of(disk):
            disk.truncate(AUDIT_FILE, keep)

    def follow(self, audit: Audit) -> None:
        """Append what is new. What the state has forgotten already (after a snapshot of another node) is said to be
        missing: those records are in the other nodes' files."""
        if audit.seq <= self._seq:
            return
        records = audit.since(self._seq)
        lines: list[bytes] = []
        first = records[0].seq if records else audit.seq + 1
        if first > self._seq + 1:
            lines.append(msgspec.json.encode({"seq": first - 1, "missing": [self._seq + 1, first - 1]}))
        lines += [msgspec.json.encode(json_of(record)) for record in records]
        if self._file is None:
            self._file = self._disk.append(AUDIT_FILE)
        self._file.write(b"".join(line + b"\n" for line in lines))
        self._seq = audit.seq

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _size_of(disk: Disk) -> int:
    file = disk.open(AUDIT_FILE)
    try:
        return file.size
    finally:
        file.close()


def _last_of(disk: Disk) -> tuple[int, int]:
    """The seq of the last whole line, 0 without one, and where that line ends."""
    if not disk.exists(AUDIT_FILE):
        return 0, 0
    file = disk.open(AUDIT_FILE)
    try:
        start = max(file.size - TAIL_BYTES, 0)
        tail = file.read(start, TAIL_BYTES)
    finally:
        file.close()
    while (end := tail.rfind(b"\n")) >= 0:
        begin = tail.rfind(b"\n", 0, end) + 1
        try:
            return _decode_seq(tail[begin:end]).seq, start + end + 1
        except msgspec.DecodeError:
            tail = tail[:begin]
    return 0, start
