"""How many bytes a replica needs for a held lock, without cluster and log: ``python -m loadtests.extent rows``.

A state machine of its own is filled by entries as a leader builds them; memory is the process's, before and after.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import msgspec

from holdfast.wire.extensions import PURE_VARIABLE
from holdfast.wire.frames import Allotment, Kind, Options, Section, Stamped, encode
from holdfast.wire.limits import QUOTA_MAX, SLOTS
from holdfast.wire.names import slot_of
from holdfast_shard import compiled

from .usage import own_memory

SECTION = 256
PER_SESSION = 1000
TENANT = 1
NO_SLOT = 0xFFFF
TTL_MS = 30_000


class Rows(msgspec.Struct, frozen=True):
    """Bytes for a lock under a lease of its own, and for one of a thousand under a session; names of some 12 bytes."""

    locks: int
    compiled: bool
    plain_bytes: int
    session_bytes: int


class Memory(msgspec.Struct, frozen=True):
    every: list[Rows]

    @property
    def line(self) -> str:
        return "a held lock in a replica: " + "; ".join(
            f"{rows.plain_bytes} bytes with a lease of its own, {rows.session_bytes} under a session "
            f"({'compiled' if rows.compiled else 'pure'}, {rows.locks:,} held)"
            for rows in self.every
        )


def memory(count: int) -> Memory:
    """Each in a process of its own: compiled where the extensions were made, and from the sources."""
    every = []
    for pure in ("", "1"):
        plain, session = (_apart(count, shape, pure) for shape in ("plain", "session"))
        every.append(Rows(count, plain[1], plain[0], session[0]))
    return Memory(every)


def _apart(count: int, shape: str, pure: str) -> tuple[int, bool]:
    environment = {name: value for name, value in os.environ.items() if name != PURE_VARIABLE}
    if pure:
        environment[PURE_VARIABLE] = pure
    command = [sys.executable, "-m", "loadtests.extent.rows", shape, str(count)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=600)
    return msgspec.json.decode(done.stdout, type=tuple[int, bool])


def _filled(count: int, per_session: int) -> int:
    """Bytes for each of ``count`` locks."""
    from holdfast_shard.machine import Genesis, LockMachine, build_entry  # noqa: PLC0415 - once it is known which

    allotment = Allotment(TENANT, 1, QUOTA_MAX, QUOTA_MAX, QUOTA_MAX)
    machine = LockMachine(Genesis("extent", 1, tuple(range(SLOTS)), (allotment,)))
    gc.disable()
    index = 1

    def apply(*columns: tuple[int, str, int, Options | None], first: int) -> None:
        nonlocal index
        index += 1
        kinds = bytes(kind for kind, _, _, _ in columns)
        of = range(len(columns))
        section = Section(
            1 if first else 0, first, kinds, [first + at for at in of], [name for _, name, _, _ in columns],
            [lease for _, _, lease, _ in columns], [0] * len(columns), [TTL_MS] * len(columns), [0] * len(columns),
            {at: options for at, (_, _, _, options) in enumerate(columns) if options is not None},
        )  # fmt: skip
        slots = (slot_of(TENANT, name) if name else NO_SLOT for name in section.names)
        stamped = Stamped(TENANT, b"".join(slot.to_bytes(2, "little") for slot in slots), section)
        machine.apply(index, 1, build_entry(1, 0, [encode([stamped])]))

    machine.apply(1, 1, None)
    apply((Kind.REGISTER, "", 0, None), first=0)
    gc.collect()
    before, seq, lease = own_memory(), 1, 0
    for begin in range(0, count, SECTION):
        if per_session and begin % (per_session // SECTION * SECTION) == 0:
            apply((Kind.OPEN, "", 0, Options(session=begin.to_bytes(16, "big"))), first=seq)
            lease, seq = seq, seq + 1
        names = [f"held/{number:07d}" for number in range(begin, min(begin + SECTION, count))]
        apply(*((Kind.ACQUIRE, name, lease, None) for name in names), first=seq)
        seq += len(names)
    gc.collect()
    assert machine.counts()["held"] == count, machine.counts()
    return round((own_memory() - before) / count)


def main() -> None:
    compiled.prefer()
    shape, count = sys.argv[1:]
    per_lock = _filled(int(count), PER_SESSION if shape == "session" else 0)
    print(msgspec.json.encode((per_lock, compiled.in_use())).decode())


if __name__ == "__main__":
    main()
