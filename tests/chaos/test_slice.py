"""A minute of everything, by a seed. ``make chaos`` does the same for longer, with another seed each time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .keep import keep
from .nemesis import Nemesis
from .run import Plan, make
from .sets import Set

SECONDS = 60.0
SEED = "slice"


def _silent(nemesis: Nemesis) -> None:
    pass


@pytest.mark.timeout(300)
def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    plan = Plan(SECONDS, SEED, tmp_path / "chaos", workers=3)
    report = make(plan, _silent)
    if report.violations:
        keep(plan, report)
    assert report.violations == []
    if "CI" in os.environ:
        assert report.missing == {}, "CI has all that every fault needs"
    assert report.history.grants() > 500
    assert len({span.fault for span in report.spans}) >= 5
    assert report.added[Set.GUARDED] > 0
