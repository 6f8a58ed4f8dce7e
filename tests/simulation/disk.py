"""A disk in memory that keeps of a crash only what was synced, and of the rest whatever it likes.

Model: a sector (4 KiB) is written whole or not at all, and sectors that were not synced persist in any combination;
names persist in the order in which they were changed, up to any point after the last `sync_directory`. After a failed
sync the unsynced sectors may be gone although reading still shows them (fsyncgate).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from holdfast_shard.consensus.disk import TEMPORARY_SUFFIX, DirectoryInUse, DiskError, DiskFull

SECTOR_BYTES: Final = 4096
"""Unless told otherwise."""
AHEAD_BYTES: Final = 10_000


class _File:
    """Invariant: `dirty` holds the sectors in which `data` may differ from `durable`."""

    def __init__(self, sector_bytes: int) -> None:
        self._sector_bytes = sector_bytes
        self.data = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.ahead = False
        """Whether zeros stand behind `data`, which show when the process or the system dies."""

    def extend(self, data: bytes) -> None:
        before = len(self.data)
        self.data += data
        self.touch(before)

    def touch(self, offset: int) -> None:
        """What is from there on is to be written."""
        self.dirty.update(range(offset // self._sector_bytes, (len(self.data) - 1) // self._sector_bytes + 1))

    def sync(self) -> None:
        self._persist(self.dirty, len(self.data))
        self.dirty.clear()

    def cut(self, size: int) -> None:
        del self.data[size:]
        del self.durable[size:]
        self.sync()

    def lose(self, rng: random.Random) -> None:
        """A failed sync: some sectors were written, the others count as clean all the same."""
        self._persist({sector for sector in sorted(self.dirty) if rng.random() < 0.5}, len(self.durable))
        self.dirty.clear()

    def crash(self, rng: random.Random) -> None:
        """Now `data` is what a reader finds after the crash."""
        if self.dirty:
            size = rng.choice((len(self.durable), len(self.data), rng.randint(len(self.durable), len(self.data))))
            share = rng.choice((0.0, 0.5, 0.9, 1.0))
            self._persist({sector for sector in sorted(self.dirty) if rng.random() < share}, size)
        if self.ahead:
            self.durable += bytes(rng.choice((0, rng.randint(1, AHEAD_BYTES))))
            self.ahead = False
        self.data = bytearray(self.durable)
        self.dirty.clear()

    def kill(self) -> None:
        """Now `data` is what a reader finds after the process died."""
        if self.ahead:
            self.extend(bytes(AHEAD_BYTES))
            self.ahead = False

    def _persist(self, sectors: set[int], size: int) -> None:
        if len(self.durable) < size:
            self.durable += bytes(size - len(self.durable))
        for sector in sectors:
            at, end = sector * self._sector_bytes, min((sector + 1) * self._sector_bytes, size)
            if at < end:
                self.durable[at:end] = self.data[at:end]


class SimAppendFile:
    def __init__(self, disk: SimDisk, file: _File) -> None:
        self._disk = disk
        self._file = file
        self._crashes = disk.crashes
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._file.data)

    def _check(self) -> None:
        assert not self._closed, "used after close"
        assert self._crashes == self._disk.crashes, "used after a crash"
        self._disk.check()

    def write(self, data: bytes) -> None:
        self._check()
        self._disk.changing(lambda: self._file.extend(data[: self._disk.rng.randint(0, len(data))]))
        room = self._disk.room_bytes()
        self._file.extend(data[:room])
        if room < len(data):
            raise DiskFull("disk full: cannot write to the simulated disk")

    def write_all(self, buffers: Sequence[bytes]) -> None:
        self.write(b"".join(buffers))

    def sync(self) -> None:
        self._check()
        self._disk.changing()
        self._disk.syncs += 1
        if self._disk.failing_syncs:
            self._disk.failing_syncs -= 1
            self._file.lose(self._disk.rng)
            raise DiskError("cannot sync on the simulated disk: input/output error")
        self._file.sync()

    def trim(self) -> None:
        self._check()
        self._file.ahead = False

    def close(self) -> None:
        self._closed = True


class SimReadFile:
    def __init__(self, file: _File) -> None:
        self._file = file
        self._size = len(file.data)

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._file.data[offset : min(offset + length, self._size)])

    def close(self) -> None:
        pass


class SimDisk:
    """Implements `holdfast_shard.consensus.disk.Disk`. Faults: `failing`, `failing_syncs`, `capacity_bytes`, `rot`,
    `on_change`."""

    def __init__(self, *, capacity_bytes: int | None = None, seed: int = 0, sector_bytes: int = SECTOR_BYTES) -> None:
        self._sector_bytes = sector_bytes
        self.rng = random.Random(seed)
        """Decides what a failed sync loses."""
        self.capacity_bytes = capacity_bytes
        self.failing = False
        """Every operation that changes something fails."""
        self.failing_syncs = 0
        """So many syncs of files fail from now on."""
        self.syncs = 0
        self.crashes = 0
        self.on_change: Callable[[Callable[[], None]], None] | None = None
        """Called before each change and each sync with what does a part of it; what it raises ends the process in the
        midst of its work."""
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._versions: list[dict[str, _File]] = []
        """The directory after each change since it was last synced."""
        self._locked = False

    # The protocol.

    @property
    def place(self) -> str:
        return "the simulated disk"

    def append(self, name: str, *, ahead: bool = False) -> SimAppendFile:
        if name not in self._names:
            self.check()
            self._names[name] = _File(self._sector_bytes)
            self._changed()
        self._names[name].ahead = ahead
        return SimAppendFile(self, self._names[name])

    def open(self, name: str) -> SimReadFile:
        return SimReadFile(self._file(name))

    def read(self, name: str) -> bytes:
        return bytes(self._file(name).data)

    def names(self) -> list[str]:
        return sorted(self._names)

    def exists(self, name: str) -> bool:
        return name in self._names

    def write_atomic(self, name: str, data: bytes) -> None:
        temporary = name + TEMPORARY_SUFFIX
        if self.exists(temporary):
            self.remove(temporary)
        file = self.append(temporary)
        file.write(data)
        file.sync()
        self.rename(temporary, name)
        self.sync_directory()

    def truncate(self, name: str, size: int) -> None:
        self.check()
        self.changing()
        self._file(name).cut(size)

    def write_again(self, name: str, offset: int) -> None:
        file = self._file(name)
        file.touch(offset)
        SimAppendFile(self, file).sync()

    def rename(self, old: str, new: str) -> None:
        self.check()
        self.changing()
        self._file(old)
        self._names[new] = self._names.pop(old)
        self._changed()

    def remove(self, name: str) -> None:
        self.check()
        self.changing()
        self._file(name)
        del self._names[name]
        self._changed()

    def sync_directory(self) -> None:
        self.check()
        self.changing()
        self._durable_names = dict(self._names)
        self._versions.clear()

    def lock(self) -> None:
        if self._locked:
            raise DirectoryInUse("the simulated disk is in use by another process")
        self._locked = True

    # Faults.

    def crash(self, rng: random.Random) -> None:
        """Power loss. Files opened before must not be used any more."""
        self.crashes += 1
        self._locked = False
        self._names = dict(rng.choice((self._durable_names, *self._versions)))
        for name in sorted(self._names):
            self._names[name].crash(rng)
        self.sync_directory_after_crash()

    def kill(self) -> None:
        """The process dies and the system lives on: everything written is there, but not yet on the disk."""
        self.crashes += 1
        self._locked = False
        for file in self._names.values():
            file.kill()

    def repair(self) -> None:
        """No fault that is still to come comes."""
        self.failing = False
        self.failing_syncs = 0
        self.capacity_bytes = None
        self.on_change = None

    def rot(self, name: str, offset: int, mask: int = 1) -> None:
        """Flip bits of one byte, on the disk and for readers."""
        assert 0 < mask < 256
        file = self._file(name)
        file.data[offset] ^= mask
        if offset < len(file.durable):
            file.durable[offset] ^= mask

    def overwrite(self, name: str, at: int, data: bytes) -> None:
        for offset, (old, new) in enumerate(zip(self.read(name)[at:], data, strict=False), at):
            if old != new:
                self.rot(name, offset, old ^ new)

    # What files and faults ask.

    def check(self) -> None:
        if self.failing:
            raise DiskError("the simulated disk fails: input/output error")

    def changing(self, part: Callable[[], None] = lambda: None) -> None:
        if self.on_change is not None:
            self.on_change(part)

    def room_bytes(self) -> int:
        if self.capacity_bytes is None:
            return 1 << 62
        return max(self.capacity_bytes - self.used_bytes(), 0)

    def used_bytes(self) -> int:
        return sum(len(file.data) for file in self._names.values())

    def sync_directory_after_crash(self) -> None:
        self._durable_names = dict(self._names)
        self._versions.clear()

    def _changed(self) -> None:
        self._versions.append(dict(self._names))

    def _file(self, name: str) -> _File:
        if name not in self._names:
            raise FileNotFoundError(name)
        return self._names[name]
