"""A disk in memory that forgets unsynced writes when it crashes, in any order of 4 KiB sectors."""

from __future__ import annotations

import random
from collections.abc import Sequence

from holdfast_shard.consensus.disk import DiskError

SECTOR = 4096


class SimFile:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0


class SimAppendFile:
    def __init__(self, disk: SimDisk, file: SimFile) -> None:
        self._disk = disk
        self._file = file

    @property
    def size(self) -> int:
        return len(self._file.data)

    def write(self, data: bytes) -> None:
        self._disk.check()
        self._file.data += data

    def write_all(self, buffers: Sequence[bytes]) -> None:
        self.write(b"".join(buffers))

    def sync(self) -> None:
        self._disk.check()
        self._file.synced = len(self._file.data)
        self._disk.syncs += 1

    def close(self) -> None:
        pass


class SimReadFile:
    """Stays readable when the name is removed or given to another file."""

    def __init__(self, file: SimFile) -> None:
        self._file = file
        self.size = len(file.data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._file.data[offset : min(offset + length, self.size)])

    def close(self) -> None:
        pass


class SimDisk:
    """Implements holdfast_shard.consensus.disk.Disk. `failing` makes every write and sync fail."""

    def __init__(self) -> None:
        self._files: dict[str, SimFile] = {}
        self._durable_names: dict[str, SimFile] = {}
        self.failing = False
        self.syncs = 0

    def check(self) -> None:
        if self.failing:
            raise DiskError("simulated disk failure")

    def append(self, name: str) -> SimAppendFile:
        return SimAppendFile(self, self._files.setdefault(name, SimFile()))

    def open(self, name: str) -> SimReadFile:
        return SimReadFile(self._file(name))

    def read(self, name: str) -> bytes:
        return bytes(self._file(name).data)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        return bytes(self._file(name).data[offset : offset + length])

    def _file(self, name: str) -> SimFile:
        if name not in self._files:
            raise FileNotFoundError(name)
        return self._files[name]

    def truncate(self, name: str, size: int) -> None:
        self.check()
        file = self._file(name)
        del file.data[size:]
        file.synced = min(file.synced, size)

    def names(self) -> list[str]:
        return sorted(self._files)

    def exists(self, name: str) -> bool:
        return name in self._files

    def write_atomic(self, name: str, data: bytes) -> None:
        self.check()
        file = SimFile()
        file.data += data
        file.synced = len(data)
        self._files[name] = file
        self.sync_directory()

    def rename(self, old: str, new: str) -> None:
        self.check()
        self._file(old)
        self._files[new] = self._files.pop(old)

    def remove(self, name: str) -> None:
        self.check()
        self._file(name)
        del self._files[name]

    def sync_directory(self) -> None:
        self.check()
        self._durable_names = dict(self._files)

    def lock(self) -> None:
        pass

    def overwrite(self, name: str, at: int, data: bytes) -> None:
        """Damage a file."""
        self._files[name].data[at : at + len(data)] = data

    def crash(self, rng: random.Random) -> None:
        """Power loss: unsynced sectors persist or not, each by itself; so do unsynced names."""
        names = dict(self._durable_names)
        if rng.random() < 0.5:
            names = dict(self._files)
        for file in names.values():
            self._tear(file, rng)
        self._files = names
        self._durable_names = dict(names)

    def _tear(self, file: SimFile, rng: random.Random) -> None:
        size = len(file.data)
        if file.synced >= size:
            return
        at = file.synced
        while at < size:
            end = min((at // SECTOR + 1) * SECTOR, size)
            if rng.random() < 0.5:
                file.data[at:end] = bytes(end - at)
            at = end
        if rng.random() < 0.7:
            del file.data[rng.randint(file.synced, size) :]
        file.synced = len(file.data)
