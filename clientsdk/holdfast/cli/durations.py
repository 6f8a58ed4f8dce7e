"""Durations on the command line (``10s``, ``500ms``, ``2m``, ``1h``, or seconds as a plain number), and moments."""

from __future__ import annotations

import contextlib
import datetime
import math

import typer

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Raises ``typer.BadParameter`` for anything else, and for what is negative or not finite."""
    number, unit = text.strip(), "s"
    for name in sorted(_UNITS, key=len, reverse=True):
        if number.endswith(name):
            number, unit = number[: -len(name)], name
            break
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"{text!r} is no duration: write 10s, 500ms, 2m or 1h")
    return value


def moment_ms(text: str, now_ms: int) -> int:
    """Unix time: an RFC 3339 date and time, or a duration before ``now_ms``.

    Raises ``typer.BadParameter`` for anything else, a time without its offset from UTC, and what lies before 1970.
    """
    found_ms = -1.0
    with contextlib.suppress(typer.BadParameter):
        found_ms = now_ms - 1000 * seconds(text)
    with contextlib.suppress(ValueError):
        moment = datetime.datetime.fromisoformat(text.strip().upper())
        found_ms = found_ms if moment.tzinfo is None else 1000 * moment.timestamp()
    if found_ms < 0:
        raise typer.BadParameter(f"{text!r} is no moment: write 2026-08-01T09:30:00Z, or 2h for two hours ago")
    return round(found_ms)
