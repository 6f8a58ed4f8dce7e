"""The hot modules of state machine and engine as extensions (:mod:`holdfast.wire.extensions`, ADR 7).

``python -m holdfast_shard.compiling`` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.wire import extensions

_HERE: Final = Path(__file__).parent
MODULES: Final = tuple(
    f"holdfast_shard.{name}"
    for name in (
        "consensus.application",
        "consensus.durability",
        "consensus.following",
        "consensus.host",
        "consensus.links",
        "consensus.log",
        "consensus.records",
        "consensus.replica",
        "consensus.replication",
        "consensus.segments",
        "machine.acquire",
        "machine.answering",
        "machine.entry",
        "machine.expiry",
        "machine.ledger",
        "machine.operations",
        "machine.roster",
        "machine.rows",
        "machine.timers",
    )
)
"""Where the profile of a busy node points (loadtests/RESULTS.md)."""


def source_of(module: str) -> Path:
    return _HERE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def directory() -> Path:
    # They import many of the others, whose constants are compiled in.
    return extensions.directory("node", sorted(_HERE.rglob("*.py")))


def prefer() -> bool:
    """Import the extensions from now on, if there are any; to be called before any of the modules is imported."""
    return extensions.prefer(MODULES, directory())


def in_use() -> bool:
    """Whether this process runs them."""
    return extensions.in_use(MODULES)
