"""``loadtests.http_cost``, for a moment: the router's HTTP, a bare endpoint and the SDK are asked in turn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtests import http_cost
from loadtests.http_cost import BARE, BATCHED, HTTP, SDK, Measured

CHECKOUT = Path(__file__).parents[2]
OPTIONS = "--connections 2 --batches 1 --repetitions 2 --seconds 0.2"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are measured by what Linux tells of them")
@pytest.mark.timeout(120)
def test_everything_is_asked_in_each_round_and_shown(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "http-cost.json"
    command = [sys.executable, "-m", "loadtests.http_cost", *OPTIONS.split(), "--json", str(kept)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    rounds = msgspec.json.decode(kept.read_bytes(), type=list[list[Measured]])
    asked = [(one.what, one.at_once) for one in rounds[0]]
    assert asked == [(BARE, 2), (HTTP, 2), (SDK, 2), (BATCHED, 1), (SDK, 100)]
    assert [(one.what, one.at_once) for one in rounds[1]] == asked
    assert all(one.operations_per_s > 0 and one.total_us > 0 for some in rounds for one in some)
    assert "bare/router" in done.stdout
    assert "/v1/batch of 100" in done.stdout


def test_ratios_are_those_of_a_round() -> None:
    """And not of medians, which may be of different rounds: 50 of 500 requests a second would be 10 %."""
    rounds = [
        [Measured(BARE, 1, bare, 10, 0, 5), Measured(HTTP, 1, http, 20, 0, 5), Measured(SDK, 1, 1, 1, 1, 1)]
        for bare, http in ((1000, 10), (500, 100), (200, 50))
    ]
    cells = [list(column.cells) for column in http_cost.one_by_one_table(rounds, [1]).columns]
    assert cells[:4] == [["1"], ["500"], ["50"], ["20 %"]]
    assert cells[6] == ["50 %"], "of processor time: the bare server's by the router's"
