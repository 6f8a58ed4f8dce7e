"""What a load process is told, and what it says it saw."""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class Mode(enum.StrEnum):
    CYCLE = "cycle"
    """Each worker acquires and releases names of its own, until it is told the window."""
    HAND_OFF = "hand-off"
    """Two clients take turns with one name."""
    PROOF = "proof"
    """Two clients show that a grant excludes and that a release releases."""


class Part(msgspec.Struct, frozen=True):
    """The share of one load process: ``workers``, numbered from ``first_worker``, who share ``clients``.

    ``names_each``: how many names of its own a worker goes through, again and again; 0 for a new one each time.
    ``hold_s``, ``seconds``: of hand-offs.
    """

    mode: Mode
    module: str
    threads: bool
    target: dict[str, Any]
    run: str
    first_worker: int = 0
    workers: int = 1
    clients: int = 1
    names_each: int = 8
    hold_s: float = 0.0
    seconds: float = 0.0


class Seen(msgspec.Struct):
    """Times in seconds: of the cycles that ended within the window (sorted), of hand-offs. ``granted``: of each worker
    that had any, when its grants came, by CLOCK_MONOTONIC. ``errors``: how often calls failed, by type; a failed call
    is no cycle."""

    acquires: list[float] = []
    cycles: list[float] = []
    granted: list[list[float]] = []
    handoffs: list[float] = []
    errors: dict[str, int] = {}
