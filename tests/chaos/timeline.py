"""A run as a picture: one self-contained page, with what is wrong in words, and below it one drawing for each name.

Faults are grey bands. A bar is a hold, from its grant to the end of its belief, a thin line the call that asked for it,
a red tick a call that was not ok. Of a long run, what surrounds the first violation is drawn, else its last minute; of
the names, those that a violation names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final

from .events import Op, Outcome
from .history import Call, believed_until
from .run import Report

PIXELS_PER_S: Final = 60
ROW_PIXELS: Final = 12
LEFT_PIXELS: Final = 150
BEFORE_S: Final = 20.0
AFTER_S: Final = 10.0
LAST_S: Final = 60.0
COLOURS: Final = {"exclusive": "#3a6ea5", "shared": "#5aa469", "permits": "#c78f2d"}
_MOMENT: Final = re.compile(r"\d+\.\d{6}")
_STYLE: Final = "body{font:13px sans-serif}svg{display:block;border-bottom:1px solid #ccc}text{font:10px monospace}"


def timeline(report: Report) -> str:
    since, until = _window(report)
    calls = [call for call in report.history.calls.values() if call.began < until and _over(call) > since]
    names = sorted({call.name for call in calls})
    names = [name for name in names if any(repr(name) in text for text in report.violations)] or names
    wrong = "".join(f"<li>{escape(text)}</li>" for text in report.violations) or "<li>nothing</li>"
    drawings = (
        _Drawing(since, until, report).of(name, [call for call in calls if call.name == name]) for name in names
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>chaos</title><style>{_STYLE}</style><h1>What was wrong</h1>"
        f"<ul>{wrong}</ul><h1>{since:.3f} to {until:.3f}</h1>{''.join(drawings)}"
    )


def _window(report: Report) -> tuple[float, float]:
    """The first moment that a violation names, and what surrounds it."""
    for text in report.violations:
        moments = [float(found) for found in _MOMENT.findall(text)]
        if moments:
            return min(moments) - BEFORE_S, min(moments) + AFTER_S
    return report.ended - LAST_S, report.ended


def _over(call: Call) -> float:
    """The end of a call, or of the belief that it began."""
    if call.granted:
        return believed_until(call, None, taken=False)
    return call.ended


class _Drawing:
    def __init__(self, since: float, until: float, report: Report) -> None:
        self._since = since
        self._until = until
        self._spans = report.spans

    def of(self, name: str, calls: list[Call]) -> str:
        rows: list[float] = []
        bars = []
        for call in sorted(calls, key=lambda call: call.began):
            row = next((number for number, free in enumerate(rows) if free <= call.began), len(rows))
            rows[row : row + 1] = [_over(call)]
            bars.append(self._bar(call, row))
        width, height = self._x(self._until) + 10, (len(rows) + 2) * ROW_PIXELS
        label = f'<text x="2" y="{ROW_PIXELS}">{escape(name)}</text>'
        inside = "".join([*self._bands(height), *bars])
        return f'<svg width="{width:.0f}" height="{height}">{inside}{label}</svg>'

    def _x(self, at: float) -> float:
        return LEFT_PIXELS + (min(max(at, self._since), self._until) - self._since) * PIXELS_PER_S

    def _bands(self, height: int) -> Iterator[str]:
        for span in self._spans:
            left, right = self._x(span.began), self._x(span.ended or self._until)
            if right > left:
                what = escape(f"{span.fault} {span.chose}")
                yield f'<rect x="{left:.1f}" width="{right - left:.1f}" height="{height}" fill="#0002">'
                yield f'<title>{what}</title></rect><text x="{left:.1f}" y="{height - 2}" fill="#888">{what}</text>'

    def _bar(self, call: Call, row: int) -> str:
        top = (row + 1) * ROW_PIXELS
        asked, answered, over = self._x(call.began), self._x(call.ended), self._x(_over(call))
        told = escape(f"{call} {call.error}")
        colour = COLOURS[call.mode] if call.outcome == Outcome.OK else "#c0392b"
        thin = f'<rect x="{asked:.1f}" y="{top + 4}" width="{max(answered - asked, 1):.1f}" height="2" fill="{colour}">'
        shapes = f"{thin}<title>{told}</title></rect>"
        if call.granted and call.op == Op.ACQUIRE:
            shapes += f'<rect x="{answered:.1f}" y="{top}" width="{max(over - answered, 1):.1f}" height="9" '
            shapes += f'fill="{colour}"><title>{told}</title></rect>'
            shapes += f'<text x="{answered:.1f}" y="{top + 9}">{call.token}</text>'
        return shapes
