"""Every row of the audit of PySyncObj, turned against our engine; each with its fix disabled, too."""

from __future__ import annotations

import pytest

from holdfast_shard.consensus import ReplicaHalted
from tests.consensus.regressions import ROWS, Row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_promise(row: Row) -> None:
    row.scenario()


@pytest.mark.seeds_bugs
@pytest.mark.parametrize("row", [row for row in ROWS if row.disable], ids=lambda row: row.name)
def test_mutant(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    assert row.disable is not None
    row.disable(monkeypatch)
    with pytest.raises((AssertionError, ReplicaHalted)):
        row.scenario()
