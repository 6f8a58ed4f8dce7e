"""Snapshot files: whole ones count, damaged and unfinished ones never do."""

from __future__ import annotations

import random

import pytest
from holdfast_shard.consensus.snapshots import Snapshot, SnapshotDamaged, SnapshotStore
from hypothesis import given
from hypothesis import strategies as st

from tests.consensus.disks import SimDisk


def taken(store: SnapshotStore, index: int = 7, chunks: tuple[bytes, ...] = (b"one", b"", b"three")) -> Snapshot:
    writer = store.begin(index, 3)
    for chunk in chunks:
        writer.write(chunk)
    return writer.finish()


def test_a_finished_snapshot_survives_a_crash() -> None:
    disk = SimDisk()
    taken(SnapshotStore(disk, 1))
    disk.crash(random.Random(1))
    found = SnapshotStore(disk, 1).latest()
    assert found is not None
    assert (found.index, found.term, list(found.chunks())) == (7, 3, [b"one", b"", b"three"])


def test_an_unfinished_one_never_counts_and_is_removed() -> None:
    disk = SimDisk()
    store = SnapshotStore(disk, 1)
    store.begin(7, 3).write(b"half")
    assert SnapshotStore(disk, 1).latest() is None
    assert disk.names() == []


def test_a_newer_one_replaces_the_older_and_groups_do_not_meet() -> None:
    disk = SimDisk()
    taken(SnapshotStore(disk, 1), 7)
    taken(SnapshotStore(disk, 2), 3)
    taken(SnapshotStore(disk, 1), 9)
    assert len(disk.names()) == 2
    found = SnapshotStore(disk, 1).latest()
    assert found is not None
    assert found.index == 9


@given(at=st.integers(0, 200), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_seen(at: int, bit: int) -> None:
    disk = SimDisk()
    taken(SnapshotStore(disk, 1), chunks=(bytes(60), bytes(20)))
    name = disk.names()[0]
    data = disk.read(name)
    at %= len(data)
    disk.overwrite(name, at, bytes([data[at] ^ (1 << bit)]))
    with pytest.raises(SnapshotDamaged):
        SnapshotStore(disk, 1).latest()


def test_a_received_snapshot_counts_only_when_every_byte_is_right() -> None:
    source, target = SimDisk(), SimDisk()
    sent = taken(SnapshotStore(source, 1))
    raw = sent.read(0, sent.size)
    store = SnapshotStore(target, 1)
    for wrong in (raw[:-1], raw[:30] + b"X" + raw[31:], b""):
        receiver = store.receive(7, 3, sent.size, sent.crc)
        receiver.write(wrong)
        with pytest.raises(SnapshotDamaged):
            receiver.finish()
        assert store.latest() is None
    receiver = store.receive(7, 3, sent.size, sent.crc)
    for at in range(0, len(raw), 5):
        receiver.write(raw[at : at + 5])
    assert list(receiver.finish().chunks()) == [b"one", b"", b"three"]
