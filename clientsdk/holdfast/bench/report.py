"""Figures, and what they were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .spec import Spec
from .work import Work


class Quantiles(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float
    max: float


class CpuPerCycle(msgspec.Struct, frozen=True):
    """Microseconds of processor time, user and system; ``None`` for processes of other machines."""

    client: float | None
    router: float | None
    nodes: float | None
    total: float | None


class Machine(msgspec.Struct, frozen=True):
    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str


class Report(msgspec.Struct, frozen=True):
    """``handoff_ms``: from letting go of the one name to the next holder's acquire returning; contended mode only.
    ``work`` is known to the operator alone."""

    spec: Spec
    cycles: int
    cycles_per_s: float
    acquire_ms: Quantiles | None
    cycle_ms: Quantiles | None
    handoff_ms: Quantiles | None
    cpu_us_per_cycle: CpuPerCycle
    work: Work | None
    errors: dict[str, int]
    nodes: int
    groups: int
    machine: Machine
    commit: str
    at: str


def quantiles(ordered_s: Sequence[float]) -> Quantiles | None:
    """Nearest rank, of sorted seconds; ``None`` when there are none."""
    if not ordered_s:
        return None

    def rank(part: float) -> float:
        return round(1000 * ordered_s[min(len(ordered_s) - 1, int(part * len(ordered_s)))], 3)

    return Quantiles(rank(0.5), rank(0.99), round(1000 * ordered_s[-1], 3))


def machine() -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        _processor(),
        os.cpu_count() or 1,
        round(memory, 1),
        f"{platform.system()} {platform.release()}",
        platform.python_version(),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()


def commit() -> str:
    """Of the checkout that this runs from, with ``+changes`` when files differ from it; empty when there is none."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+changes" if changed else "")


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]  # found on PATH, as everything of a developer's is
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
