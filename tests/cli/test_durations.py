from __future__ import annotations

import pytest
import typer

from holdfast.cli.durations import moment_ms, seconds


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


@pytest.mark.parametrize(
    ("text", "value_ms"),
    [
        ("2h", 1_792_800_000), ("90", 1_799_910_000), ("0s", 1_800_000_000), ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01t01:00:01.5+01:00", 1_500),
    ],
)  # fmt: skip
def test_reads_a_moment(text: str, value_ms: int) -> None:
    assert moment_ms(text, 1_800_000_000) == value_ms


@pytest.mark.parametrize("text", ["", "yesterday", "2026-08-01", "2026-08-01T00:00:00", "1969-01-01T00:00:00Z", "501h"])
def test_refuses_what_is_no_moment(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no moment"):
        moment_ms(text, 1_800_000_000)
