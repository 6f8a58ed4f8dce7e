"""A run in a page of text: operations by kind and outcome, faults by kind, gaps, and what was wrong."""

from __future__ import annotations

import statistics
from collections import Counter

from .events import Outcome
from .faults import Lane
from .run import Report

VIOLATIONS_SHOWN = 20


def summary(report: Report) -> str:
    history = report.history
    lines = [f"{len(history.calls)} calls, {history.grants()} grants in {report.ended - report.began:.0f} s"]
    lines.append(f"{'operation':<12}" + "".join(f"{outcome:>10}" for outcome in Outcome))
    for op, outcomes in sorted(history.counts().items()):
        lines.append(f"{op:<12}" + "".join(f"{outcomes[outcome]:>10}" for outcome in Outcome))
    lines.append("not ok: " + (", ".join(f"{what} {n}" for what, n in history.errors().most_common()) or "none"))
    lines += _faults(report)
    for name, added in report.added.items():
        lines.append(f"{name} set: {added} additions acknowledged, {report.lost[name]} lost")
    for need, why in report.missing.items():
        lines.append(f"this machine has no {need.value}: {why}")
    lines.append(f"violations: {len(report.violations)}")
    lines += [f"  {text}" for text in report.violations[:VIOLATIONS_SHOWN]]
    return "\n".join(lines)


def _faults(report: Report) -> list[str]:
    kinds = Counter(span.fault for span in report.spans)
    lines = [f"{len(report.spans)} faults: " + ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()))]
    for lane in Lane:
        gaps = report.gaps_s(lane.value)
        if gaps:
            silence = f"median {statistics.median(gaps):.2f} s, longest {max(gaps):.2f} s"
            lines.append(f"time without a grant at faults of {lane.value}: {silence}")
    return lines
