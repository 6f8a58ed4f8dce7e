"""Journals of whole records that no journal would write together: refused with file and byte, and nothing is read."""

from __future__ import annotations

import pytest

from holdfast_shard.consensus.disk import DiskError
from holdfast_shard.consensus.records import ENTRY, RELEASE, SEGMENT, TRUNCATE, encode_checkpoint, encode_header, place
from holdfast_shard.consensus.recovery import JournalDamaged, Recovery
from holdfast_shard.consensus.segments import segment_name
from tests.simulation.disk import SimDisk


def disk_of(*records: tuple[bytes, int]) -> SimDisk:
    """One segment of a journal: (kind, index) of each record of group 1."""
    content = b""
    checkpoint = encode_checkpoint([])
    for number, (kind, index) in enumerate([(SEGMENT, 0), *records], start=1):
        payload = checkpoint if kind == SEGMENT else b""
        content += encode_header(kind, 1, number, number - 1, index, 1, payload, place(1, len(content))) + payload
    disk = SimDisk()
    disk.write_atomic(segment_name(1), content)
    return disk


def test_what_was_released_is_not_undone() -> None:
    entries = [(ENTRY, index) for index in (1, 2, 3)]
    assert Recovery(disk_of(*entries, (RELEASE, 2), (TRUNCATE, 3))).recovered()[1].released == 2
    with pytest.raises(JournalDamaged, match=r"byte \d+: group 1: 2 was committed and is undone"):
        Recovery(disk_of(*entries, (RELEASE, 2), (TRUNCATE, 2)))


def test_an_entry_that_leaves_a_gap_is_refused() -> None:
    with pytest.raises(JournalDamaged, match="3 follows 1"):
        Recovery(disk_of((ENTRY, 1), (ENTRY, 3)))


def test_a_record_of_a_kind_not_known_is_of_another_release() -> None:
    with pytest.raises(DiskError, match="another release"):
        Recovery(disk_of((b"HFR?", 1)))
