"""What a client process writes down, one JSON line at a time, so that a killed one leaves all that it saw.

Times are seconds of CLOCK_BOOTTIME, which all processes of one machine share: histories of several clients can be laid
over each other without any clock of the service.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import msgspec


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Op(StrEnum):
    ACQUIRE = "acquire"
    """Also try and steal."""
    RELEASE = "release"
    """Also by LockID, and each lock of a session that is ended."""
    RENEW = "renew"
    CHECK = "check"
    GET = "get"
    FORCE = "force"


class Mode(StrEnum):
    EXCLUSIVE = "exclusive"
    SHARED = "shared"
    PERMITS = "permits"


class Outcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    """For certain: it had no effect, nor will it have one."""
    UNKNOWN = "unknown"
    """It may take effect at any time after it was called, also later."""


class Shown(msgspec.Struct, frozen=True):
    """A holder as ``get`` showed it; ``call`` is the acquire's, which every acquire puts into its metadata."""

    token: int
    call: str
    mode: Mode
    permits: int = 1


class Called(msgspec.Struct, frozen=True, tag="called", omit_defaults=True):
    """Written before anything is asked of the SDK. ``hold``: the acquire that this is about."""

    id: str
    op: Op
    name: str
    at: float
    mode: Mode = Mode.EXCLUSIVE
    permits: int = 1
    capacity: int = 0
    hold: str = ""
    token: int = 0
    tries: bool = False
    """An acquire that does not wait."""
    takes: bool = False
    """A steal or a force: it takes away what others hold."""
    now: bool = False
    """And does not wait until they have stopped believing."""


class Returned(msgspec.Struct, frozen=True, tag="returned", omit_defaults=True):
    id: str
    at: float
    outcome: Outcome
    error: str = ""
    token: int = 0
    holds: bool = False
    """What ``check`` said."""
    shown: tuple[Shown, ...] = ()
    """What ``get`` said."""


class Believed(msgspec.Struct, frozen=True, tag="believed"):
    """The holder looked at ``at`` or a moment later, and may believe until ``until_s``; 0 when it does not any more."""

    id: str
    at: float
    until_s: float


class Added(msgspec.Struct, frozen=True, tag="added"):
    """A store has acknowledged that the element is in its set."""

    set: str
    element: str


Event = Called | Returned | Believed | Added
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


class EventFile:
    """Lines that outlive a kill -9 of their writer: each is one write to a file opened for appending."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def __call__(self, event: Event) -> None:
        os.write(self._file, _encode(event) + b"\n")


def read_events(paths: Iterable[Path]) -> Iterator[Event]:
    """A line that a kill cut short is left out: nobody acted on it."""
    for path in paths:
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield _decode(line)
