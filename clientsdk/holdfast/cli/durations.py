"""Durations on the command line: ``10s``, ``500ms``, ``2m``, ``1h``, or seconds as a plain number."""

from __future__ import annotations

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
