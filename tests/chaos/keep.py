"""All that is needed to understand a run, in one folder. Logs, journals and the clients' own histories are there
already; what is put together from them is added."""

from __future__ import annotations

import json
from operator import attrgetter

import msgspec

from .run import Plan, Report
from .summary import summary
from .timeline import timeline


def keep(plan: Plan, report: Report) -> None:
    """``history.jsonl`` (calls by their beginning), ``faults.json``, ``summary.txt`` and ``timeline.html``."""
    calls = sorted(report.history.calls.values(), key=attrgetter("began"))
    encode = msgspec.json.Encoder().encode
    (plan.directory / "history.jsonl").write_bytes(b"".join(encode(call) + b"\n" for call in calls))
    schedule = {
        "seed": plan.seed,
        "seconds": plan.seconds,
        "workers": plan.workers,
        "callers": plan.callers,
        "faults": msgspec.to_builtins(report.spans),
    }
    (plan.directory / "faults.json").write_text(json.dumps(schedule, indent=1))
    (plan.directory / "summary.txt").write_text(summary(report) + "\n" + "\n".join(report.violations) + "\n")
    (plan.directory / "timeline.html").write_text(timeline(report))
