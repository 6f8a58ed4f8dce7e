"""One directory on a disk, behind an interface small enough to simulate: append, read, rename, remove, sync.

Nothing is promised to survive a crash before it was synced: a file's bytes by its own sync, a name by `sync_directory`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn, Protocol

TEMPORARY_SUFFIX: Final = ".tmp"
"""Files of this suffix count for nothing; a crash may leave them behind."""

_BUFFERS_PER_CALL: Final = os.sysconf("SC_IOV_MAX")
_PART_BYTES: Final = 1 << 20
AHEAD_BYTES: Final = 1 << 18
"""So many zeros are written ahead at a time, and no more than that stand there."""
_ZEROS: Final = bytes(AHEAD_BYTES)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_sync_data: Final = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class DiskError(Exception):
    """The operating system refused something; says what, where and why."""


class DiskFull(DiskError):
    """No space left, a quota or a file size limit reached. What was being written is not to be relied on."""


class DirectoryInUse(DiskError):
    """Another process uses this directory."""


class AppendFile(Protocol):
    """A file that only grows. Raises DiskFull, DiskError."""

    @property
    def size(self) -> int:
        """Bytes, including those that are not synced."""

    def write(self, data: bytes) -> None: ...
    def write_all(self, buffers: Sequence[bytes]) -> None:
        """Write buffers one after the other, without joining them."""

    def sync(self) -> None:
        """Return when everything written is on the disk. After an error nothing is known, ever (fsyncgate)."""

    def trim(self) -> None:
        """No more will be written: give back what was written ahead."""

    def close(self) -> None: ...


class ReadFile(Protocol):
    """A file's content as of now; stays readable when the file is removed or replaced."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; fewer only at the end."""

    def close(self) -> None: ...


class Disk(Protocol):
    """One directory. Names are plain file names. Raises DiskFull, DiskError; FileNotFoundError for a missing name."""

    @property
    def place(self) -> str:
        """What messages call it."""

    def append(self, name: str, *, ahead: bool = False) -> AppendFile:
        """Open for appending, create if missing.

        ``ahead``: zeros may stand behind what was written, in the file and after a crash, until it is trimmed. Where
        the file and its blocks are there before, a sync has nothing but data to write: it need not wait for the file
        system's own journal, which the syncs of all processes share (fdatasync(2); loadtests/RESULTS.md).
        """

    def open(self, name: str) -> ReadFile: ...
    def read(self, name: str) -> bytes: ...
    def names(self) -> list[str]:
        """Sorted."""

    def exists(self, name: str) -> bool: ...
    def write_atomic(self, name: str, data: bytes) -> None:
        """Replace the whole content; durable when this returns, and never seen half done."""

    def truncate(self, name: str, size: int) -> None:
        """Cut a file; durable when this returns."""

    def write_again(self, name: str, offset: int) -> None:
        """Write what is read from `offset` on once more, in its place; durable when this returns.

        After a failed sync the system may call pages clean that never reached the disk, and a later sync would pass
        them over (fsyncgate): only writing them makes them dirty again.
        """

    def rename(self, old: str, new: str) -> None:
        """Replaces `new`; durable after `sync_directory`."""

    def remove(self, name: str) -> None: ...
    def sync_directory(self) -> None: ...
    def lock(self) -> None:
        """Take the directory for this process. Raises DirectoryInUse."""


def _fail(error: OSError, doing: str, path: Path) -> NoReturn:
    if error.errno in _FULL:
        raise DiskFull(f"disk full: cannot {doing} {path}: {error.strerror}; free space on that volume") from error
    if isinstance(error, FileNotFoundError):
        raise error
    raise DiskError(f"cannot {doing} {path}: {error.strerror or error}") from error


class _RealAppendFile:
    __slots__ = ("_ahead", "_end", "_fd", "_path", "_size")

    def __init__(self, path: Path, *, ahead: bool) -> None:
        self._path = path
        self._ahead = ahead
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size
        except OSError as error:
            _fail(error, "open", path)
        self._end = self._size
        """Of the file, with what was written ahead."""

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                written = os.pwrite(self._fd, rest, self._size)
            except OSError as error:
                _fail(error, "write", self._path)
            self._size += written
            rest = rest[written:]
        self._go_ahead()

    def write_all(self, buffers: Sequence[bytes]) -> None:
        for at in range(0, len(buffers), _BUFFERS_PER_CALL):
            batch = buffers[at : at + _BUFFERS_PER_CALL]
            try:
                written = os.pwritev(self._fd, batch, self._size)
            except OSError as error:
                _fail(error, "write", self._path)
            self._size += written
            if written != sum(map(len, batch)):
                self.write(b"".join(batch)[written:])
        self._go_ahead()

    def _go_ahead(self) -> None:
        if self._size < self._end or not self._ahead:
            return
        self._end = self._size
        try:
            self._end += os.pwrite(self._fd, _ZEROS, self._size)
        except OSError:
            # Whatever it is, it is met again, and told, when there is something to write.
            self._ahead = False

    def trim(self) -> None:
        self._ahead = False
        if self._end > self._size:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError as error:
                _fail(error, "truncate", self._path)
            self._end = self._size

    def sync(self) -> None:
        try:
            _sync_data(self._fd)
        except OSError as error:
            _fail(error, "sync", self._path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class _RealReadFile:
    __slots__ = ("_fd", "_path", "_size")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._size = os.fstat(self._fd).st_size
        except OSError as error:
            _fail(error, "open", path)

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        try:
            while length > 0 and (part := os.pread(self._fd, length, offset)):
                parts.append(part)
                offset += len(part)
                length -= len(part)
        except OSError as error:
            _fail(error, "read", self._path)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class RealDisk:
    """A directory of the file system, created if missing. Files are readable by their owner only."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._fd = -1
        try:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise DiskError(f"cannot use directory {self._path}: {error.strerror}") from error

    @property
    def place(self) -> str:
        return str(self._path)

    def append(self, name: str, *, ahead: bool = False) -> AppendFile:
        return _RealAppendFile(self._path / name, ahead=ahead)

    def open(self, name: str) -> ReadFile:
        return _RealReadFile(self._path / name)

    def read(self, name: str) -> bytes:
        file = self.open(name)
        try:
            return file.read(0, file.size)
        finally:
            file.close()

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._path))
        except OSError as error:
            _fail(error, "list", self._path)

    def exists(self, name: str) -> bool:
        return (self._path / name).exists()

    def write_atomic(self, name: str, data: bytes) -> None:
        temporary = name + TEMPORARY_SUFFIX
        try:
            (self._path / temporary).unlink(missing_ok=True)
        except OSError as error:
            _fail(error, "remove", self._path / temporary)
        file = self.append(temporary)
        try:
            file.write(data)
            file.sync()
        finally:
            file.close()
        self.rename(temporary, name)
        self.sync_directory()

    def truncate(self, name: str, size: int) -> None:
        path = self._path / name
        try:
            with path.open("r+b") as file:
                file.truncate(size)
                os.fsync(file.fileno())
        except OSError as error:
            _fail(error, "truncate", path)

    def write_again(self, name: str, offset: int) -> None:
        path = self._path / name
        try:
            with path.open("r+b", buffering=0) as file:
                while part := os.pread(file.fileno(), _PART_BYTES, offset):
                    offset += os.pwrite(file.fileno(), part, offset)
                os.fsync(file.fileno())
        except OSError as error:
            _fail(error, "write", path)

    def rename(self, old: str, new: str) -> None:
        try:
            os.replace(self._path / old, self._path / new)
        except OSError as error:
            _fail(error, "rename", self._path / old)

    def remove(self, name: str) -> None:
        try:
            os.unlink(self._path / name)
        except OSError as error:
            _fail(error, "remove", self._path / name)

    def sync_directory(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            _fail(error, "sync", self._path)

    def lock(self) -> None:
        """May be repeated. Held until `close` or the end of the process."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryInUse(f"{self._path} is in use by another process; stop it or use another one") from error
        except OSError as error:
            _fail(error, "lock", self._path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close
