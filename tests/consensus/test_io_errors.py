"""What the operating system refuses: each call of a disk says what failed and where, and the journal takes no more."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from holdfast_shard.consensus import disk as disk_module
from holdfast_shard.consensus.disk import AppendFile, DiskError, DiskFull, RealDisk
from holdfast_shard.consensus.journal import Journal, JournalFailed, JournalFull
from tests.simulation.disk import SimDisk

Fail = Callable[[str], None]
CALLS: tuple[tuple[str, str, Callable[[RealDisk, AppendFile], object]], ...] = (
    ("pwrite", "write", lambda disk, file: file.write(b"x")),
    ("pwritev", "write", lambda disk, file: file.write_all([b"x", b"y"])),
    ("fdatasync", "sync", lambda disk, file: file.sync()),
    ("ftruncate", "truncate", lambda disk, file: file.trim()),
    ("pread", "read", lambda disk, file: disk.read("a")),
    ("listdir", "list", lambda disk, file: disk.names()),
    ("unlink", "remove", lambda disk, file: disk.remove("a")),
    ("replace", "rename", lambda disk, file: disk.rename("a", "b")),
    ("fsync", "sync", lambda disk, file: disk.sync_directory()),
    ("pwrite", "write", lambda disk, file: disk.write_again("a", 0)),
    ("open", "open", lambda disk, file: disk.open("a")),
)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    def failing(name: str, number: int = errno.EIO) -> None:
        def call(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, call)
        if name == "fdatasync":
            monkeypatch.setattr(disk_module, "_sync_data", call)

    return failing


@pytest.mark.parametrize(("name", "what", "call"), CALLS)
def test_an_error_says_what_failed_and_where(
    tmp_path: Path, fail: Fail, name: str, what: str, call: Callable[[RealDisk, AppendFile], object]
) -> None:
    disk = RealDisk(tmp_path)
    file = disk.append("a", ahead=True)
    file.write(b"here")
    fail(name)
    with pytest.raises(DiskError, match=f"cannot {what} {tmp_path}.*: Input/output error") as raised:
        call(disk, file)
    assert not isinstance(raised.value, DiskFull)


def test_a_file_that_cannot_be_shortened_or_replaced(tmp_path: Path, fail: Fail) -> None:
    disk = RealDisk(tmp_path)
    disk.append("a").write(b"here")
    (tmp_path / "a.tmp").mkdir()
    with pytest.raises(DiskError, match=r"cannot remove .*a\.tmp"):
        disk.write_atomic("a", b"there")
    fail("fsync")
    with pytest.raises(DiskError, match="cannot truncate"):
        disk.truncate("a", 1)


def test_a_write_that_takes_only_a_part_goes_on_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwritev(descriptor: int, buffers: Sequence[bytes], offset: int) -> int:
        return real(descriptor, b"".join(buffers)[:5], offset)

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        return real(descriptor, bytes(data)[:2], offset)

    real = os.pwrite
    file = RealDisk(tmp_path).append("a")
    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "pwrite", pwrite)
    file.write_all([b"0123", b"4567", b"89"])
    assert file.size == 10
    assert RealDisk(tmp_path).read("a") == b"0123456789"


def test_zeros_are_written_ahead_until_the_file_is_trimmed(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    file = disk.append("a", ahead=True)
    sizes = set()
    for at in range(1000):
        file.write_all([b"%03d" % at, bytes(997)])
        assert file.size == 1000 * (at + 1) <= disk.open("a").size
        sizes.add(disk.open("a").size)
    assert len(sizes) < 10, "a sync seldom finds another size"
    content = disk.read("a")
    assert [content[at * 1000 : at * 1000 + 3] for at in range(1000)] == [b"%03d" % at for at in range(1000)]
    assert not content[1_000_000:].strip(b"\0")
    file.trim()
    assert disk.read("a") == content[:1_000_000]
    file.write(b"more")
    assert disk.read("a") == content[:1_000_000] + b"more"


def test_where_there_is_no_room_ahead_only_what_is_needed_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk = RealDisk(tmp_path)
    file = disk.append("a", ahead=True)
    monkeypatch.setattr(os, "pwrite", pwrite)
    file.write_all([b"here"])
    file.sync()
    assert disk.read("a") == b"here"


# The journal.


def grown(disk: SimDisk, *, group: int = 2) -> Journal:
    """One whose first segments are pinned by an idle group."""
    journal, _ = Journal.open(disk, segment_bytes=10_000)
    for index in range(1, 4):
        journal.append_entry(group, index, 1, b"idle %d" % index)
    commit(journal)
    return journal


def commit(journal: Journal) -> None:
    journal.flush()
    journal.sync()


def busy(journal: Journal, first: int, count: int) -> None:
    for index in range(first, first + count):
        journal.append_entry(1, index, 1, bytes(500))
        commit(journal)
        journal.release(1, index - 1)


def test_a_journal_that_cannot_be_written_again_at_the_start_is_not_opened() -> None:
    disk = SimDisk()
    commit(grown(disk))
    disk.kill()
    disk.failing_syncs = 1
    with pytest.raises(JournalFailed, match="input/output error"):
        Journal.open(disk)


def test_a_journal_that_cannot_begin_a_segment_takes_no_more() -> None:
    disk = SimDisk()
    journal = grown(disk)
    disk.failing = True
    with pytest.raises(JournalFailed, match="input/output error"):
        busy(journal, 1, 40)
    disk.failing = False
    with pytest.raises(JournalFailed, match="input/output error"):
        journal.append_vote(1, 2, None)
    journal.close()


def test_damage_that_carrying_meets_stops_the_journal_and_is_not_carried() -> None:
    disk = SimDisk()
    journal = grown(disk)
    disk.rot(disk.names()[0], 180)
    with pytest.raises(JournalFailed, match="was whole once and is damaged now"):
        busy(journal, 1, 2000)


def test_a_segment_that_cannot_be_read_to_be_carried_stops_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    journal = grown(disk)

    def refuse(name: str) -> None:
        raise DiskFull(f"cannot open {name}")

    monkeypatch.setattr(disk, "open", refuse)
    with pytest.raises(JournalFull, match="cannot open journal-"):
        busy(journal, 1, 2000)
