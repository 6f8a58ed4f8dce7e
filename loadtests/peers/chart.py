"""The chart of a comparison for the README: the best throughput of each service and kind of client, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from loadtests.spread import Spread

from .figures import OURS, Comparison, best_of, throughput

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 760, 290, 130
BAR_HEIGHT, STEP, TOP, BOTTOM = 16, 26, 52, 34
OURS_COLOUR, PEER_COLOUR, FLOOR_COLOUR = "#1a7f5a", "#8c959f", "#c9d1d9"
INK = "#1f2328"
FONT = 'font-family="system-ui, sans-serif"'
TITLE = "Lock cycles per second, best of each"
FLOOR = "floor"

Bar = tuple[str, str, Spread]
"""A peer's name, what stands beside its bar, and how long it is."""


def bars(found: Comparison, titles: Mapping[str, str]) -> list[Bar]:
    """Longest first."""
    kinds = dict.fromkeys((cycles.peer, cycles.kind) for cycles in found.cycles)
    every = []
    for peer, kind in kinds:
        cells = [cycles for cycles in found.cycles if (cycles.peer, cycles.kind) == (peer, kind)]
        if spread := Spread.of(best_of(cells, throughput)):
            every.append((peer, f"{titles.get(peer, peer)} · {kind}", spread))
    return sorted(every, key=lambda bar: -bar[2].median)


def svg(found: Comparison, titles: Mapping[str, str]) -> str:
    """Bars are medians of the repetitions, whiskers their range."""
    drawn = bars(found, titles)
    height = TOP + STEP * len(drawn) + BOTTOM
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / max((bar[2].max for bar in drawn), default=1.0)
    size = f'width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size} {FONT} font-size="13">',
        f'<rect {size} rx="6" fill="#ffffff"/>',
        f'<text x="16" y="28" font-size="16" font-weight="600" fill="{INK}">{TITLE}</text>',
    ]
    for number, bar in enumerate(drawn):
        lines += _bar(bar, TOP + STEP * number, scale)
    lines.append(f'<text x="16" y="{height - 12}" font-size="11" fill="#59636e">{escape(_foot(found))}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _bar(bar: Bar, y: int, scale: float) -> Sequence[str]:
    peer, label, spread = bar
    colour = {OURS: OURS_COLOUR, FLOOR: FLOOR_COLOUR}.get(peer, PEER_COLOUR)
    weight = ' font-weight="600"' if peer == OURS else ""
    middle = y + BAR_HEIGHT / 2
    low, end, high = (LABEL_WIDTH + value * scale for value in (spread.min, spread.median, spread.max))
    width = max(1.0, end - LABEL_WIDTH)
    return [
        f'<text x="{LABEL_WIDTH - 10}" y="{y + 13}" text-anchor="end" fill="{INK}"{weight}>{escape(label)}</text>',
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{INK}" stroke-width="1"/>',
        f'<text x="{high + 8:.1f}" y="{y + 13}" fill="{INK}"{weight}>{spread.median:,.0f}</text>',
    ]


def _foot(found: Comparison) -> str:
    machine = found.machine
    where = f"{machine.cores} cores of {machine.processor}, servers and clients on one machine"
    return f"{where}; {found.repetitions} repetitions of {found.seconds:g} s, {found.at[:10]}"
