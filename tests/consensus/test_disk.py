"""The real directory and the simulated one behave alike; the simulated one forgets what was not synced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from holdfast_shard.consensus.disk import DirectoryInUse, Disk, DiskError, DiskFull, RealDisk
from tests.simulation.disk import SECTOR_BYTES, SimDisk


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path / "data") if request.param == "real" else SimDisk()


def put(disk: Disk, name: str, data: bytes) -> None:
    file = disk.append(name)
    file.write(data)
    file.close()


def test_appends_continue_where_the_file_ends(disk: Disk) -> None:
    put(disk, "a", b"one")
    file = disk.append("a")
    assert file.size == 3
    file.write_all([b"", b" two", b" three"])
    assert file.size == 13
    file.sync()
    file.close()
    assert disk.read("a") == b"one two three"


def test_more_buffers_than_one_call_takes(disk: Disk) -> None:
    file = disk.append("a")
    buffers = [b"%d," % number for number in range(5_000)]
    file.write_all(buffers)
    assert disk.read("a") == b"".join(buffers)
    assert file.size == len(b"".join(buffers))
    file.close()


def test_reading_by_place(disk: Disk) -> None:
    put(disk, "a", b"0123456789")
    file = disk.open("a")
    assert (file.size, file.read(3, 4), file.read(8, 100), file.read(20, 5)) == (10, b"3456", b"89", b"")
    disk.remove("a")
    assert file.read(0, 2) == b"01", "an open file outlives its name"
    file.close()


def test_names(disk: Disk) -> None:
    for name in ("b", "a", "c"):
        put(disk, name, name.encode())
    disk.rename("c", "a")
    disk.remove("b")
    disk.sync_directory()
    assert disk.names() == ["a"]
    assert (disk.read("a"), disk.exists("a"), disk.exists("b")) == (b"c", True, False)


def test_replacing_a_file_whole(disk: Disk) -> None:
    disk.write_atomic("a", b"first")
    put(disk, "a.tmp", b"left behind by a crash")
    disk.write_atomic("a", b"second")
    assert disk.names() == ["a"]
    assert disk.read("a") == b"second"


def test_truncating(disk: Disk) -> None:
    put(disk, "a", b"0123456789")
    disk.truncate("a", 4)
    put(disk, "a", b"x")
    assert disk.read("a") == b"0123x"


def test_missing_names(disk: Disk) -> None:
    calls: list[Callable[[str], object]] = [disk.read, disk.open, disk.remove]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call("nothing")
    with pytest.raises(FileNotFoundError):
        disk.rename("nothing", "a")
    with pytest.raises(FileNotFoundError):
        disk.truncate("nothing", 0)


# The real one.


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    first, second = RealDisk(tmp_path), RealDisk(tmp_path)
    first.lock()
    first.lock()
    with pytest.raises(DirectoryInUse, match=f"{tmp_path} is in use by another process"):
        second.lock()
    first.close()
    second.lock()


def test_a_full_disk_has_its_own_error() -> None:
    file = RealDisk("/dev").append("full")
    for buffers in ([b"x"], [b"x", b"y"]):
        with pytest.raises(DiskFull, match="disk full: cannot write /dev/full: No space left on device; free space"):
            file.write_all(buffers)
    with pytest.raises(DiskFull):
        file.write(b"x")
    file.close()


def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(DiskError, match="cannot use directory"):
            RealDisk(path)


def test_other_trouble_says_what_and_where(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(DiskError, match=f"cannot open {tmp_path}/name: Is a directory"):
        RealDisk(tmp_path).append("name")


def test_files_are_private(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path / "data")
    put(disk, "a", b"x")
    assert os.stat(tmp_path / "data").st_mode & 0o077 == 0
    assert os.stat(tmp_path / "data" / "a").st_mode & 0o077 == 0


# The simulated one.


def outcomes(size: int, synced: int) -> set[bytes]:
    """What 200 crashes leave of a file of `size` bytes."""
    left = set()
    for seed in range(200):
        disk = SimDisk()
        file = disk.append("a")
        file.write(b"x" * synced)
        file.sync()
        disk.sync_directory()
        file.write(b"y" * (size - synced))
        disk.crash(Random(seed))
        left.add(disk.read("a"))
    return left


def test_a_crash_keeps_what_was_synced() -> None:
    assert outcomes(5_000, 5_000) == {b"x" * 5_000}
    assert all(data.startswith(b"x" * 3_000) for data in outcomes(5 * SECTOR_BYTES, 3_000))


def test_a_crash_keeps_any_sectors_of_the_rest() -> None:
    left = outcomes(4 * SECTOR_BYTES, 0)
    whole = [data for data in left if len(data) == 4 * SECTOR_BYTES]
    shapes = {tuple(data[at] == ord("y") for at in range(0, len(data), SECTOR_BYTES)) for data in whole}
    assert len(shapes) >= 12, "nearly every combination of four sectors"
    assert len({len(data) for data in left}) > 20, "and many lengths"


def test_a_crash_forgets_names_in_the_order_they_changed() -> None:
    left = set()
    for seed in range(50):
        disk = SimDisk()
        put(disk, "a", b"")
        disk.sync_directory()
        put(disk, "b", b"")
        disk.rename("a", "c")
        disk.crash(Random(seed))
        left.add(tuple(disk.names()))
    assert left == {("a",), ("a", "b"), ("b", "c")}


def test_a_failed_sync_is_not_mended_by_the_next() -> None:
    lost = 0
    for seed in range(20):
        disk = SimDisk(seed=seed)
        file = disk.append("a")
        file.write(b"x" * SECTOR_BYTES)
        disk.sync_directory()
        disk.failing_syncs = 1
        with pytest.raises(DiskError):
            file.sync()
        file.sync()
        assert disk.read("a") == b"x" * SECTOR_BYTES, "reading still shows it"
        disk.crash(Random(seed))
        lost += disk.read("a") != b"x" * SECTOR_BYTES
    assert lost > 0


def test_a_file_of_before_the_crash_is_not_written_after_it() -> None:
    disk = SimDisk()
    file = disk.append("a")
    disk.sync_directory()
    disk.crash(Random(1))
    with pytest.raises(AssertionError, match="after a crash"):
        file.write(b"x")


def test_the_simulated_directory_has_one_user_until_it_crashes() -> None:
    disk = SimDisk()
    disk.lock()
    with pytest.raises(DirectoryInUse):
        disk.lock()
    disk.crash(Random(1))
    disk.lock()
