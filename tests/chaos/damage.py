"""Harm to a node's directory: a disk that is full, a journal with a flipped byte or a torn tail."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast_shard.consensus.records import HEADER, HEADER_BYTES, is_whole

DISK_BYTES: Final = 64 << 20
LEFT_BYTES: Final = 64 << 10
TORN_BYTES_MAX: Final = 5000


def missing() -> str:
    """Why this process cannot mount a small disk; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    with tempfile.TemporaryDirectory() as directory:
        try:
            disk = Path(directory, "disk")
            disk.mkdir()
            with small_disk(disk):
                return ""
        except subprocess.CalledProcessError as error:
            return f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}"


@contextmanager
def small_disk(at: Path) -> Iterator[None]:
    """A file system of its own under ``at``, with what was there; nobody may use the directory at either end."""
    aside = at.with_name(at.name + ".aside")
    at.rename(aside)
    at.mkdir(mode=0o700)
    used = sum(file.stat().st_size for file in aside.iterdir())
    options = f"mode=700,size={DISK_BYTES + 2 * used}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "holdfast", str(at)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        shutil.copytree(aside, at, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield
    finally:
        if not aside.exists():
            shutil.copytree(at, aside)
        subprocess.run(["umount", "--lazy", str(at)], check=True)
        at.rmdir()
        aside.rename(at)


def fill(directory: Path) -> Path:
    """Leave 64 KiB free; the file that takes the rest is returned."""
    ballast = directory / "ballast"
    found = os.statvfs(directory)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - LEFT_BYTES)
    return ballast


@dataclass(frozen=True, slots=True)
class Flip:
    """One byte that was changed; flipping it again restores it."""

    path: Path
    offset: int
    bits: int

    def apply(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            byte = file.read(1)[0]
            file.seek(self.offset)
            file.write(bytes([byte ^ self.bits]))
            os.fsync(file.fileno())


def flip_synced(directory: Path, chance: random.Random) -> Flip:
    """Change a byte of a record that the journal itself proves to have been synced; no node may run there."""
    path = chance.choice(_segments(directory))
    records = _records(path)
    proved = max(synced for segment in _segments(directory) for _, _, _, synced in _records(segment))
    offset, length, _, _ = chance.choice([record for record in records if record[2] <= proved])
    flip = Flip(path, offset + chance.randrange(length), 1 << chance.randrange(8))
    flip.apply()
    return flip


def tear_tail(directory: Path, chance: random.Random) -> None:
    """Leave behind the last record what a write that was cut short may leave: nobody was told of it."""
    with _segments(directory)[-1].open("ab") as file:
        torn = chance.randbytes(chance.randint(1, TORN_BYTES_MAX))
        file.write(torn if chance.random() < 0.5 else bytes(len(torn)))


def _segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*.log"))


def _records(path: Path) -> list[tuple[int, int, int, int]]:
    """Offset, length, number and synced of each record, up to the first that is not whole."""
    data, segment = path.read_bytes(), int(path.stem.rpartition("-")[2], 16)
    found, at = [], 0
    while at + HEADER_BYTES <= len(data) and is_whole(data, at, segment):
        _, length, number, synced, *_ = HEADER.unpack_from(data, at)
        found.append((at, length, number, synced))
        at += length
    return found
