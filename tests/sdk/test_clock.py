"""The clock of belief."""

from __future__ import annotations

import sys
import time

import pytest

from holdfast import clock


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the monotonic clock runs on through suspend")
def test_it_runs_on_through_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep_s = 60.0
    clocks = {time.CLOCK_MONOTONIC: 100.0, time.CLOCK_BOOTTIME: 100.0 + asleep_s}
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)
    assert clock.boottime_ms() == (100.0 + asleep_s) * 1000
