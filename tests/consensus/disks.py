"""The simulated disk on which the engine's tests run."""

from __future__ import annotations

from tests.simulation.disk import SimDisk

__all__ = ["SimDisk"]
