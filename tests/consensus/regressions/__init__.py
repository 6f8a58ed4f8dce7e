"""The audit of PySyncObj turned against our engine, by topic; `ROWS` has them all."""

from __future__ import annotations

from tests.consensus.regressions import durability, elections, identity, logs, snapshots
from tests.consensus.regressions.rows import ROWS, Row

__all__ = ["ROWS", "Row", "durability", "elections", "identity", "logs", "snapshots"]
