from __future__ import annotations

import pytest
import typer

from holdfast.cli.durations import seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("7", 7), ("1.5s", 1.5), ("0", 0), (" 3s ", 3)],
)
def test_reads_a_duration(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "-1s", "ten", "1d", "inf", "nan", "1e999h", "5 s x"])
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration"):
        seconds(text)
