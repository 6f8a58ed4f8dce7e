"""Snapshots of one group's state as files: complete and verified, or nothing.

A file is written under a temporary name, synced, and renamed when it is whole. docs/journal-format.md has its form.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from .disk import TEMPORARY_SUFFIX, AppendFile, Disk, DiskError, ReadFile

MAGIC: Final = b"HFSNAP01"
_HEADER: Final = struct.Struct("<8sIQQ")
"""Magic with version, group, index, term; a CRC-32 of these follows."""
_CRC: Final = struct.Struct("<I")
_CHUNK: Final = struct.Struct("<II")
"""Length and CRC-32 of length and data; the length `_END` ends the chunks."""
_END: Final = 0xFFFFFFFF
_BEGIN_BYTES: Final = _HEADER.size + _CRC.size
_END_BYTES: Final = _CHUNK.size + _CRC.size

CHUNK_BYTES_MAX: Final = 64 << 20
_BUFFER_BYTES: Final = 256 << 10
_SYNC_EVERY_BYTES: Final = 1 << 20
"""Synced piece by piece, so that the last sync, and a journal on the same disk, never waits for a whole snapshot."""
_READ_BYTES: Final = 1 << 20

_NAME: Final = re.compile(r"snapshot-(\d+)-([0-9a-f]{16})\.snap")


class SnapshotDamaged(Exception):
    """A snapshot file is not what was written; it changed nothing."""


def _name(group: int, index: int) -> str:
    return f"snapshot-{group}-{index:016x}.snap"


class Snapshot:
    """A verified snapshot: the state after entry `index` of `term`. Stays readable when a newer one replaces it."""

    def __init__(self, disk: Disk, file: ReadFile, name: str, index: int, term: int, crc: int) -> None:
        self._disk = disk
        self._file = file
        self._name = name
        self.index = index
        self.term = term
        self.crc: Final = crc
        """Over the whole file but its last four bytes, which hold it."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file as they are, for sending it on."""
        return self._file.read(offset, length)

    def chunks(self) -> Iterator[bytes]:
        """The chunks as they were written. Raises SnapshotDamaged if the file has changed since."""
        return _chunks(self._file, self._name)

    def renamed(self, name: str) -> Snapshot:
        return Snapshot(self._disk, self._file, name, self.index, self.term, self.crc)

    def discard(self) -> None:
        """It cannot be used after all: remove it."""
        self._disk.remove(self._name)
        self._disk.sync_directory()


class _Reader:
    """Reads a file from front to end in large pieces."""

    def __init__(self, file: ReadFile) -> None:
        self._file = file
        self._buffer = b""
        self._at = 0
        self._offset = 0

    def take(self, length: int) -> bytes:
        if len(self._buffer) - self._at < length:
            more = self._file.read(self._offset, max(_READ_BYTES, length))
            self._offset += len(more)
            self._buffer = self._buffer[self._at :] + more
            self._at = 0
        self._at += length
        return self._buffer[self._at - length : self._at]


def _chunks(file: ReadFile, name: str) -> Iterator[bytes]:
    reader = _Reader(file)
    reader.take(_BEGIN_BYTES)
    left = file.size - _BEGIN_BYTES - _END_BYTES
    while True:
        head = reader.take(_CHUNK.size)
        if len(head) < _CHUNK.size:
            raise SnapshotDamaged(f"{name}: ends within a chunk")
        length, crc = _CHUNK.unpack(head)
        if length == _END:
            break
        left -= _CHUNK.size + length
        if left < 0 or length > CHUNK_BYTES_MAX:
            raise SnapshotDamaged(f"{name}: a chunk reaches beyond the end")
        data = reader.take(length)
        if len(data) != length or zlib.crc32(data, zlib.crc32(head[:4])) != crc:
            raise SnapshotDamaged(f"{name}: a chunk of {length} bytes has changed")
        yield data
    if left != 0:
        raise SnapshotDamaged(f"{name}: bytes left over behind the last chunk")


def _verify(file: ReadFile, name: str) -> tuple[int, int, int, int]:
    """Group, index, term and CRC of a snapshot that is whole. Raises SnapshotDamaged."""
    if file.size < _BEGIN_BYTES + _END_BYTES:
        raise SnapshotDamaged(f"{name}: {file.size} bytes are too few for a snapshot")
    begin = file.read(0, _BEGIN_BYTES)
    header = begin[: _HEADER.size]
    if begin[_HEADER.size :] != _CRC.pack(zlib.crc32(header)) or header[:6] != MAGIC[:6]:
        raise SnapshotDamaged(f"{name}: not a snapshot, or its beginning has changed")
    if header[:8] != MAGIC:
        raise SnapshotDamaged(f"{name}: written by another release ({header[:8]!r}, this one reads {MAGIC!r})")
    _, group, index, term = _HEADER.unpack(header)
    crc = 0
    body_bytes = file.size - _CRC.size
    for offset in range(0, body_bytes, _READ_BYTES):
        crc = zlib.crc32(file.read(offset, min(_READ_BYTES, body_bytes - offset)), crc)
    if file.read(body_bytes, _CRC.size) != _CRC.pack(crc):
        raise SnapshotDamaged(f"{name}: its checksum is wrong")
    for _ in _chunks(file, name):
        pass
    return group, index, term, crc


class _Draft:
    """A file under a temporary name."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        self.name = name
        self.temporary = name + TEMPORARY_SUFFIX
        if disk.exists(self.temporary):
            disk.remove(self.temporary)
        self._file: AppendFile | None = disk.append(self.temporary)
        self._buffers: list[bytes] = []
        self._buffered_bytes = 0
        self._unsynced_bytes = 0
        self.crc = 0

    def write(self, data: bytes) -> None:
        self.crc = zlib.crc32(data, self.crc)
        self._buffers.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes >= _BUFFER_BYTES:
            self._write_out()

    def _write_out(self) -> None:
        assert self._file is not None, "written after finish or abort"
        try:
            self._file.write_all(self._buffers)
            self._unsynced_bytes += self._buffered_bytes
            if self._unsynced_bytes >= _SYNC_EVERY_BYTES:
                self._file.sync()
                self._unsynced_bytes = 0
        except DiskError:
            self.abort()
            raise
        self._buffers.clear()
        self._buffered_bytes = 0

    def seal(self) -> None:
        """Everything is on the disk, still under the temporary name."""
        self._write_out()
        assert self._file is not None
        try:
            self._file.sync()
        except DiskError:
            self.abort()
            raise
        self._file.close()

    def publish(self) -> None:
        self.disk.rename(self.temporary, self.name)
        self.disk.sync_directory()
        self._file = None

    def abort(self) -> None:
        """May be repeated, and called after `publish` without effect."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self.disk.remove(self.temporary)


class SnapshotWriter:
    """Writes one snapshot of this replica's own state. Raises DiskFull, DiskError, and is then aborted."""

    def __init__(self, store: SnapshotStore, draft: _Draft, index: int, term: int) -> None:
        self._store = store
        self._draft = draft
        self._index = index
        self._term = term
        header = _HEADER.pack(MAGIC, store.group, index, term)
        draft.write(header + _CRC.pack(zlib.crc32(header)))

    def write(self, chunk: bytes) -> None:
        """At most 64 MiB. Raises ValueError beyond: a state machine cuts its rows smaller than that."""
        if len(chunk) > CHUNK_BYTES_MAX:
            raise ValueError(f"a chunk of a snapshot has at most {CHUNK_BYTES_MAX} bytes, this one {len(chunk)}")
        length = len(chunk).to_bytes(4, "little")
        self._draft.write(length + _CRC.pack(zlib.crc32(chunk, zlib.crc32(length))))
        self._draft.write(chunk)

    def finish(self) -> Snapshot:
        """Make it count, and remove older ones."""
        draft = self._draft
        draft.write(_CHUNK.pack(_END, zlib.crc32(_CRC.pack(_END))))
        crc = draft.crc
        draft.write(_CRC.pack(crc))
        draft.seal()
        draft.publish()
        self._store.remove_older(self._index)
        return Snapshot(draft.disk, draft.disk.open(draft.name), draft.name, self._index, self._term, crc)

    def abort(self) -> None:
        self._draft.abort()


class SnapshotReceiver:
    """Writes a snapshot that comes from a leader, as raw bytes from the beginning on."""

    def __init__(self, store: SnapshotStore, draft: _Draft, announced: tuple[int, int, int, int]) -> None:
        self._store = store
        self._draft = draft
        self._announced = announced

    def write(self, data: bytes) -> None:
        self._draft.write(data)

    def finish(self) -> Snapshot:
        """Raises SnapshotDamaged unless it is whole and the one that was announced; then nothing is left of it.

        Older ones stay until `SnapshotStore.remove_older`, in case its content is of no use: see `Snapshot.discard`.
        """
        self._draft.seal()
        try:
            arrived = self._store.verify(self._draft.temporary)
            if (arrived.index, arrived.term, arrived.size, arrived.crc) != self._announced:
                raise SnapshotDamaged(f"{self._draft.name}: not the one that was announced")
        except SnapshotDamaged:
            self._draft.abort()
            raise
        self._draft.publish()
        return arrived.renamed(self._draft.name)

    def abort(self) -> None:
        self._draft.abort()


class SnapshotStore:
    """The snapshots of one group in a directory that other groups may share."""

    def __init__(self, disk: Disk, group: int) -> None:
        self._disk = disk
        self.group: Final = group
        for name in disk.names():
            if name.endswith(TEMPORARY_SUFFIX) and self._index_of(name.removesuffix(TEMPORARY_SUFFIX)) is not None:
                disk.remove(name)

    def begin(self, index: int, term: int) -> SnapshotWriter:
        """One writer at a time; it may be used in another thread."""
        return SnapshotWriter(self, _Draft(self._disk, _name(self.group, index)), index, term)

    def receive(self, index: int, term: int, size: int, crc: int) -> SnapshotReceiver:
        """`size` and `crc` are those of the leader's Snapshot."""
        return SnapshotReceiver(self, _Draft(self._disk, _name(self.group, index)), (index, term, size, crc))

    def latest(self) -> Snapshot | None:
        """The newest that verifies. Raises SnapshotDamaged when there are snapshots and none does."""
        damage: SnapshotDamaged | None = None
        for index, name in sorted(self._files(), reverse=True):
            try:
                snapshot = self.verify(name)
                if snapshot.index != index:
                    raise SnapshotDamaged(f"{name}: reaches to {snapshot.index}; it was renamed")
            except SnapshotDamaged as error:
                damage = damage or error
            else:
                return snapshot
        if damage is not None:
            raise SnapshotDamaged(
                f"{damage}; there is no other one: replace this node as one whose disk was lost"
            ) from damage
        return None

    def verify(self, name: str) -> Snapshot:
        """Read a file from end to end. Raises SnapshotDamaged."""
        file = self._disk.open(name)
        group, index, term, crc = _verify(file, name)
        if group != self.group:
            raise SnapshotDamaged(f"{name}: is a snapshot of group {group}, not {self.group}")
        return Snapshot(self._disk, file, name, index, term, crc)

    def remove_older(self, index: int) -> None:
        for older, name in self._files():
            if older < index:
                self._disk.remove(name)

    def _files(self) -> list[tuple[int, str]]:
        return [(index, name) for name in self._disk.names() if (index := self._index_of(name)) is not None]

    def _index_of(self, name: str) -> int | None:
        match = _NAME.fullmatch(name)
        return int(match[2], 16) if match is not None and int(match[1]) == self.group else None
