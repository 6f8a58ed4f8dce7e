"""The state machine's hot modules as extensions (:mod:`holdfast.wire.extensions`, ADR 7).

``python -m holdfast_shard.compiling`` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.wire import extensions

_HERE: Final = Path(__file__).parent
MODULES: Final = tuple(
    f"holdfast_shard.machine.{name}"
    for name in (
        "acquire",
        "answering",
        "entry",
        "expiry",
        "ledger",
        "operations",
        "roster",
        "rows",
        "timers",
    )
)
"""Where the profile of a busy node points: half of its time (loadtests/RESULTS.md)."""


def source_of(module: str) -> Path:
    return _HERE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def directory() -> Path:
    return extensions.directory("node", map(source_of, MODULES))


def prefer() -> bool:
    """Import the extensions from now on, if there are any; to be called before any of the modules is imported."""
    return extensions.prefer(MODULES, directory())


def in_use() -> bool:
    """Whether this process runs them."""
    return extensions.in_use(MODULES)
