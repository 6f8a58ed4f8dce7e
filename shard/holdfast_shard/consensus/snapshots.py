"""Snapshot files of one group: written in chunks, each with a checksum, and renamed when whole and synced."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final
from zlib import crc32

from .disk import AppendFile, Disk

MAGIC: Final = b"HOLDFAST-SNAPSHOT\x00\x01\r\n"
_HEADER: Final = struct.Struct("<21sIQQI")
_CHUNK: Final = struct.Struct("<II")
_END: Final = 0xFFFFFFFF


class SnapshotDamaged(Exception):
    """A snapshot file is not what was written. With no older one the node must not start."""


class Snapshot:
    """A whole, verified snapshot on disk. ``crc`` covers the whole file of ``size`` bytes."""

    def __init__(self, disk: Disk, name: str, index: int, term: int, size: int, crc: int) -> None:
        self._disk = disk
        self._name = name
        self.index = index
        self.term = term
        self.size = size
        self.crc = crc

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, for sending it to a follower."""
        return self._disk.read_at(self._name, offset, length)

    def chunks(self) -> Iterator[bytes]:
        """What was exported, chunk by chunk."""
        at = _HEADER.size
        while True:
            length, _ = _CHUNK.unpack(self.read(at, _CHUNK.size))
            if length == _END:
                return
            yield self.read(at + _CHUNK.size, length)
            at += _CHUNK.size + length

    def discard(self) -> None:
        """Remove the file: its content turned out to be unusable."""
        self._disk.remove(self._name)


class SnapshotWriter:
    """Writes one snapshot; any one thread. Nothing counts before ``finish`` returns."""

    def __init__(self, store: SnapshotStore, index: int, term: int) -> None:
        self._store = store
        self._index = index
        self._term = term
        self._file = store.fresh_part(index)
        self._crc = 0
        head = _HEADER.pack(MAGIC, store.group, index, term, 0)[:-4]
        self._put(head + crc32(head).to_bytes(4, "little"))

    def _put(self, data: bytes) -> None:
        self._crc = crc32(data, self._crc)
        self._file.write(data)

    def write(self, chunk: bytes) -> None:
        self._put(_CHUNK.pack(len(chunk), crc32(chunk)) + chunk)

    def finish(self) -> Snapshot:
        self._put(_CHUNK.pack(_END, self._crc))
        size = self._file.size
        self._file.sync()
        self._file.close()
        return self._store.adopt(self._index, self._term, size, self._crc)

    def abort(self) -> None:
        self._file.close()
        self._store.drop_part(self._index)


class SnapshotReceiver:
    """Takes the raw bytes of a leader's snapshot. ``finish`` verifies all of it before it counts."""

    def __init__(self, store: SnapshotStore, index: int, term: int, size: int, crc: int) -> None:
        self._store = store
        self._index = index
        self._term = term
        self._size = size
        self._crc = crc
        self._file = store.fresh_part(index)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def finish(self) -> Snapshot:
        """Raises :class:`SnapshotDamaged` when a byte is missing or wrong; the file is gone then."""
        size = self._file.size
        self._file.sync()
        self._file.close()
        try:
            if size != self._size:
                raise SnapshotDamaged(f"the snapshot has {self._size} bytes, {size} arrived")
            found = self._store.verify(self._store.part_name(self._index))
            if (found.index, found.term, found.crc) != (self._index, self._term, self._crc):
                raise SnapshotDamaged("the snapshot's bytes are not those that were sent")
        except SnapshotDamaged:
            self._store.drop_part(self._index)
            raise
        return self._store.adopt(self._index, self._term, size, self._crc)

    def abort(self) -> None:
        self._file.close()
        self._store.drop_part(self._index)


class SnapshotStore:
    """The snapshots of one group in one directory. A newer whole one replaces the older."""

    def __init__(self, disk: Disk, group: int) -> None:
        self._disk = disk
        self.group = group

    def _name(self, index: int) -> str:
        return f"snapshot-{self.group:05d}-{index:020d}.snap"

    def part_name(self, index: int) -> str:
        return self._name(index) + ".part"

    def _names(self, suffix: str) -> list[str]:
        prefix = f"snapshot-{self.group:05d}-"
        return [name for name in self._disk.names() if name.startswith(prefix) and name.endswith(suffix)]

    def begin(self, index: int, term: int) -> SnapshotWriter:
        return SnapshotWriter(self, index, term)

    def receive(self, index: int, term: int, size: int, crc: int) -> SnapshotReceiver:
        return SnapshotReceiver(self, index, term, size, crc)

    def fresh_part(self, index: int) -> AppendFile:
        self.drop_part(index)
        return self._disk.append(self.part_name(index))

    def drop_part(self, index: int) -> None:
        if self._disk.exists(self.part_name(index)):
            self._disk.remove(self.part_name(index))

    def adopt(self, index: int, term: int, size: int, crc: int) -> Snapshot:
        """A part that is whole and synced becomes the newest snapshot; older ones go."""
        name = self._name(index)
        self._disk.rename(self.part_name(index), name)
        self._disk.sync_directory()
        for older in self._names(".snap"):
            if older < name:
                self._disk.remove(older)
        return Snapshot(self._disk, name, index, term, size, crc)

    def latest(self) -> Snapshot | None:
        """The newest whole snapshot, None when there is none. Raises :class:`SnapshotDamaged` when files are there
        and none is good: an empty state would be a lie."""
        for part in self._names(".part"):
            self._disk.remove(part)
        damage: SnapshotDamaged | None = None
        for name in reversed(self._names(".snap")):
            try:
                return self.verify(name)
            except SnapshotDamaged as error:
                damage = damage or error
        if damage is not None:
            raise damage
        return None

    def verify(self, name: str) -> Snapshot:
        """Read a file from end to end; raises :class:`SnapshotDamaged`."""
        head = self._disk.read_at(name, 0, _HEADER.size)
        if len(head) < _HEADER.size or crc32(head[:-4]).to_bytes(4, "little") != head[-4:]:
            raise SnapshotDamaged(f"{name}: the header is damaged")
        magic, group, index, term, _ = _HEADER.unpack(head)
        if magic != MAGIC or group != self.group:
            raise SnapshotDamaged(f"{name}: not a snapshot of group {self.group} in a format known here")
        crc, at = crc32(head), _HEADER.size
        while True:
            frame = self._disk.read_at(name, at, _CHUNK.size)
            if len(frame) < _CHUNK.size:
                raise SnapshotDamaged(f"{name}: ends at byte {at} without its last chunk")
            length, expected = _CHUNK.unpack(frame)
            if length == _END:
                if expected != crc:
                    raise SnapshotDamaged(f"{name}: the checksum of the whole is wrong")
                return Snapshot(self._disk, name, index, term, at + _CHUNK.size, crc32(frame, crc))
            chunk = self._disk.read_at(name, at + _CHUNK.size, length)
            if len(chunk) < length or crc32(chunk) != expected:
                raise SnapshotDamaged(f"{name}: the chunk at byte {at} is damaged")
            crc = crc32(chunk, crc32(frame, crc))
            at += _CHUNK.size + length
