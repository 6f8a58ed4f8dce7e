"""Snapshot files: whole ones count; damaged, unfinished and unwanted ones never do."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_shard.consensus.disk import Disk, DiskError, DiskFull
from holdfast_shard.consensus.snapshots import Snapshot, SnapshotDamaged, SnapshotStore
from tests.simulation.disk import SimDisk

CHUNKS = (b"one", b"", b"three")


def taken(disk: Disk, index: int = 7, chunks: tuple[bytes, ...] = CHUNKS, group: int = 1) -> Snapshot:
    writer = SnapshotStore(disk, group).begin(index, 3)
    for chunk in chunks:
        writer.write(chunk)
    return writer.finish()


def found(disk: Disk, group: int = 1) -> Snapshot:
    snapshot = SnapshotStore(disk, group).latest()
    assert snapshot is not None
    return snapshot


@given(chunks=st.lists(st.binary(max_size=5_000), max_size=20), seed=st.integers(0, 2**32), huge=st.booleans())
def test_a_finished_snapshot_survives_a_crash(chunks: list[bytes], seed: int, huge: bool) -> None:
    disk = SimDisk()
    if huge:
        chunks.append(bytes(3 << 20))
    taken(disk, chunks=tuple(chunks))
    disk.crash(Random(seed))
    snapshot = found(disk)
    assert (snapshot.index, snapshot.term, list(snapshot.chunks())) == (7, 3, chunks)


@given(seed=st.integers(0, 2**32), parts=st.integers(0, 12))
def test_a_crash_at_any_point_leaves_the_old_or_the_new_one(seed: int, parts: int) -> None:
    disk = SimDisk()
    taken(disk, 7)
    writer = SnapshotStore(disk, 1).begin(9, 3)
    for number in range(parts):
        writer.write(Random(number).randbytes(100_000))
    if parts > 10:
        writer.finish()
    disk.crash(Random(seed))
    assert found(disk).index == (9 if parts > 10 else 7)


def test_an_unfinished_one_is_removed_at_the_next_start() -> None:
    disk = SimDisk()
    SnapshotStore(disk, 1).begin(7, 3).write(b"half")
    SnapshotStore(disk, 2).begin(7, 3).write(b"half")
    assert SnapshotStore(disk, 1).latest() is None
    assert len(disk.names()) == 1, "another group's draft is not this store's"


def test_an_aborted_one_leaves_nothing() -> None:
    disk = SimDisk()
    writer = SnapshotStore(disk, 1).begin(7, 3)
    writer.write(b"half")
    writer.abort()
    writer.abort()
    assert disk.names() == []


def test_a_draft_that_was_left_behind_is_written_anew() -> None:
    disk = SimDisk()
    store = SnapshotStore(disk, 1)
    store.begin(7, 3).write(bytes(300_000))
    writer = store.begin(7, 3)
    writer.write(b"anew")
    assert list(writer.finish().chunks()) == [b"anew"]
    assert len(disk.names()) == 1


def test_a_chunk_that_no_reader_would_take_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast_shard.consensus.snapshots.CHUNK_BYTES_MAX", 3)
    writer = SnapshotStore(SimDisk(), 1).begin(7, 3)
    writer.write(b"abc")
    with pytest.raises(ValueError, match="at most 3 bytes, this one 4"):
        writer.write(b"abcd")


def test_a_newer_one_replaces_the_older_and_groups_do_not_meet() -> None:
    disk = SimDisk()
    taken(disk, 7)
    taken(disk, 3, group=11)
    taken(disk, 9)
    assert len(disk.names()) == 2
    assert found(disk).index == 9
    assert found(disk, 11).index == 3


def test_one_that_is_being_sent_stays_readable_when_a_newer_one_replaces_it() -> None:
    disk = SimDisk()
    older = taken(disk, 7)
    raw = older.read(0, older.size)
    taken(disk, 9)
    assert older.read(0, older.size) == raw
    assert list(older.chunks()) == list(CHUNKS)


@given(position=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_changed_byte_is_seen_and_with_no_other_snapshot_refused(position: float, mask: int) -> None:
    disk = SimDisk()
    size = taken(disk, chunks=(bytes(60), bytes(20))).size
    disk.rot(disk.names()[0], int(position * size), mask)
    with pytest.raises(SnapshotDamaged, match="there is no other one: replace this node"):
        SnapshotStore(disk, 1).latest()


def test_a_damaged_newest_one_gives_way_to_an_older_that_is_still_there() -> None:
    disk = SimDisk()
    newer = taken(disk, 9)
    receiver = SnapshotStore(disk, 1).receive(7, 3, 1, 1)
    receiver.abort()
    source = SimDisk()
    sent = taken(source, 7)
    older = SnapshotStore(disk, 1).receive(7, 3, sent.size, sent.crc)
    older.write(sent.read(0, sent.size))
    older.finish()
    assert found(disk).index == 9
    disk.rot(disk.names()[-1], newer.size // 2)
    assert found(disk).index == 7


@pytest.mark.parametrize("cut", [1, 12, 50])
def test_a_shortened_file_is_seen(cut: int) -> None:
    disk = SimDisk()
    snapshot = taken(disk, chunks=(bytes(60),))
    disk.truncate(disk.names()[0], snapshot.size - cut)
    with pytest.raises(SnapshotDamaged):
        SnapshotStore(disk, 1).latest()


def test_a_renamed_file_is_seen() -> None:
    disk = SimDisk()
    taken(disk, 7)
    disk.rename(disk.names()[0], disk.names()[0].replace("7.", "8."))
    with pytest.raises(SnapshotDamaged, match="renamed"):
        SnapshotStore(disk, 1).latest()
    disk.rename(disk.names()[0], "snapshot-2-0000000000000007.snap")
    with pytest.raises(SnapshotDamaged, match="group 1, not 2"):
        SnapshotStore(disk, 2).latest()


def test_a_file_that_changes_while_it_is_read_is_noticed() -> None:
    disk = SimDisk()
    snapshot = taken(disk, chunks=(bytes(60), bytes(60)))
    disk.rot(disk.names()[0], 60)
    with pytest.raises(SnapshotDamaged, match="has changed"):
        list(snapshot.chunks())


# From a leader.


def test_a_received_one_counts_only_when_every_byte_is_right() -> None:
    source, disk = SimDisk(), SimDisk()
    sent = taken(source)
    raw = sent.read(0, sent.size)
    store = SnapshotStore(disk, 1)
    for wrong in (raw[:-1], raw[:30] + b"X" + raw[31:], raw + b"X", b""):
        receiver = store.receive(7, 3, sent.size, sent.crc)
        receiver.write(wrong)
        with pytest.raises(SnapshotDamaged):
            receiver.finish()
        assert disk.names() == []
    receiver = store.receive(7, 3, sent.size, sent.crc)
    for at in range(0, len(raw), 5):
        receiver.write(raw[at : at + 5])
    assert list(receiver.finish().chunks()) == list(CHUNKS)
    disk.crash(Random(1))
    assert list(found(disk).chunks()) == list(CHUNKS)


@pytest.mark.parametrize(("index", "term", "group"), [(8, 3, 1), (7, 4, 1), (7, 3, 2)])
def test_a_received_one_must_be_the_one_announced(index: int, term: int, group: int) -> None:
    sent = taken(SimDisk())
    disk = SimDisk()
    receiver = SnapshotStore(disk, group).receive(index, term, sent.size, sent.crc)
    receiver.write(sent.read(0, sent.size))
    with pytest.raises(SnapshotDamaged):
        receiver.finish()
    assert disk.names() == []


def test_a_received_one_that_cannot_be_used_leaves_the_older_one() -> None:
    disk = SimDisk()
    taken(disk, 5)
    sent = taken(SimDisk(), 7)
    store = SnapshotStore(disk, 1)
    for usable in (False, True):
        receiver = store.receive(7, 3, sent.size, sent.crc)
        receiver.write(sent.read(0, sent.size))
        snapshot = receiver.finish()
        assert len(disk.names()) == 2
        if not usable:
            snapshot.discard()
            assert found(disk).index == 5
    store.remove_older(snapshot.index)
    assert found(disk).index == 7
    assert len(disk.names()) == 1


# Trouble.


def test_a_full_disk_says_so_and_leaves_the_older_one() -> None:
    disk = SimDisk(capacity_bytes=100_000)
    taken(disk, 5)
    writer = SnapshotStore(disk, 1).begin(7, 3)
    writer.write(bytes(200_000))
    with pytest.raises(DiskFull, match="disk full"):
        writer.finish()
    assert found(disk).index == 5
    assert len(disk.names()) == 1, "what was written is removed, for it fills the disk"


def test_a_failed_sync_makes_no_snapshot() -> None:
    disk = SimDisk()
    taken(disk, 5)
    writer = SnapshotStore(disk, 1).begin(7, 3)
    disk.failing_syncs = 1
    with pytest.raises(DiskError, match="cannot sync"):
        writer.finish()
    assert found(disk).index == 5


def test_a_large_one_is_synced_piece_by_piece() -> None:
    disk = SimDisk()
    writer = SnapshotStore(disk, 1).begin(7, 3)
    for _ in range(20):
        writer.write(bytes(1 << 20))
    assert disk.syncs >= 4, "the last sync must not find everything still to be written"
