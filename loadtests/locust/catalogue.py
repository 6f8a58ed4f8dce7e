"""What there is, by the names that are used on command lines. Needs no Locust."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SCENARIOS: Final[dict[str, tuple[str, ...]]] = {
    "uncontended": ("Uncontended",),
    "hot": ("HotLocks",),
    "zipf": ("ZipfNames",),
    "semaphores": ("Semaphores",),
    "sessions": ("Sessions",),
    "jobs": ("JobScheduler",),
    "noisy": ("Quiet", "Flood"),
    "keepalive": ("Keepalive",),
    "inspection": ("Inspection",),
}
"""By their names: the classes of ``scenarios``."""
WAYS: Final = ("sdk", "grpc", "http")
SHAPES: Final = ("steps", "spike", "soak")


def user_class(way: str, scenario: str) -> str:
    """As it is called in Locust: ``SdkHotLocks``."""
    return way.title() + scenario


def user_classes(ways: Iterable[str], scenarios: Iterable[str]) -> list[str]:
    """``scenarios``: names of ``SCENARIOS``."""
    return [user_class(way, each) for way in ways for scenario in scenarios for each in SCENARIOS[scenario]]
