"""A node of the floor: ``python -m loadtests.floor.node PORT DIRECTORY [FOLLOWER …]``; only a leader has followers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvloop

from . import GROUPS, WINDOW
from .wire import (
    ACQUIRE,
    DONE,
    HELD,
    Link,
    Operations,
    Outcomes,
    decode_entry,
    decode_operations,
    dial,
    encode,
    serve,
)


class Locks:
    """Who holds what, and what each holds."""

    def __init__(self) -> None:
        self._holders: dict[str, tuple[int, int, int]] = {}
        self._leases: dict[int, set[str]] = {}
        self._token = 0

    def apply(self, operations: Operations) -> Outcomes:
        holders, leases, token = self._holders, self._leases, self._token
        statuses, tokens = bytearray(), []
        columns = zip(operations.kinds, operations.names, operations.owners, operations.ttls_ms, strict=True)
        for kind, name, owner, ttl_ms in columns:
            status, granted = DONE, 0
            if kind != ACQUIRE:
                holder = holders.pop(name, None)
                if holder is not None:
                    leases[holder[0]].discard(name)
            elif name in holders:
                status = HELD
            else:
                token += 1
                granted = token
                holders[name] = (owner, token, ttl_ms)
                lease = leases.get(owner)
                if lease is None:
                    lease = leases[owner] = set()
                lease.add(name)
            statuses.append(status)
            tokens.append(granted)
        self._token = token
        return Outcomes(statuses, tokens)


class Journal:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def append(self, entry: bytes) -> None:
        """On disk when it returns. Nothing else happens meanwhile, as in the service it would."""
        os.write(self._file, entry)
        os.fdatasync(self._file)


Section = tuple[Link, int, bytes]
"""From whom, under which number, its operations."""


class Follower:
    def __init__(self, journals: list[Journal]) -> None:
        self._journals = journals
        self._locks = [Locks() for _ in journals]

    def on_frame(self, leader: Link, number: int, group: int, entry: bytes) -> None:
        self._journals[group].append(entry)
        leader.send(number, group, b"")
        for section in decode_entry(entry):
            self._locks[group].apply(decode_operations(section))


class Leader:
    def __init__(self, journals: list[Journal]) -> None:
        self._journals = journals
        self._locks = [Locks() for _ in journals]
        self._followers: list[Link] = []
        self._queued: list[list[Section]] = [[] for _ in journals]
        self._under_way: list[dict[int, list[Section]]] = [{} for _ in journals]
        self._last = 0

    async def follow(self, ports: list[int]) -> None:
        self._followers = [await dial(port, self._on_acknowledged) for port in ports]

    def on_frame(self, router: Link, number: int, group: int, section: bytes) -> None:
        self._queued[group].append((router, number, section))
        self._propose(group)

    def _propose(self, group: int) -> None:
        sections = self._queued[group]
        if not sections or len(self._under_way[group]) >= WINDOW:
            return
        self._queued[group] = []
        self._last += 1
        self._under_way[group][self._last] = sections
        entry = encode([section for _, _, section in sections])
        for follower in self._followers:
            follower.send(self._last, group, entry)
        self._journals[group].append(entry)

    def _on_acknowledged(self, follower: Link, number: int, group: int, nothing: bytes) -> None:
        sections = self._under_way[group].pop(number, None)
        if sections is None:
            return  # the other follower was first, and made a majority
        for router, request, section in sections:
            router.send(request, group, encode(self._locks[group].apply(decode_operations(section))))
        self._propose(group)


async def run(port: int, directory: Path, followers: list[int]) -> None:
    journals = [Journal(directory / f"journal-{port}-{group}") for group in range(GROUPS)]
    if not followers:
        await serve(port, Follower(journals).on_frame)
    leader = Leader(journals)
    await leader.follow(followers)
    await serve(port, leader.on_frame)


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in sys.argv[3:]]))
