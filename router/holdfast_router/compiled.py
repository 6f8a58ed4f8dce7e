"""What every section passes in a router, as extensions (:mod:`holdfast.wire.extensions`, ADR 7).

``python -m holdfast_router.compiling`` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.wire import extensions

_HERE: Final = Path(__file__).parent
MODULES: Final = tuple(
    f"holdfast_router.{name}"
    for name in (
        "admission.bucket",
        "admission.gate",
        "admission.in_flight",
        "admission.shares",
        "breaker",
        "dispatch",
        "downstream",
        "fair_queue",
        "flight_limit",
        "groups",
        "haste",
        "lane",
        "requests",
        "resend_budget",
        "stamping",
    )
)


def source_of(module: str) -> Path:
    return _HERE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def directory() -> Path:
    # They import many of the others, whose constants are compiled in.
    return extensions.directory("router", sorted(_HERE.rglob("*.py")))


def prefer() -> bool:
    """Import the extensions from now on, if there are any; to be called before any of the modules is imported."""
    return extensions.prefer(MODULES, directory())


def in_use() -> bool:
    """Whether this process runs them."""
    return extensions.in_use(MODULES)
