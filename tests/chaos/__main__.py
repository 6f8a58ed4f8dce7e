"""``python -m tests.chaos --minutes 10 --seed S``: real processes, real faults, and what was seen of them judged."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .events import now
from .keep import keep
from .nemesis import Nemesis
from .run import Plan, make
from .summary import summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="decides the faults and what the clients do")
    parser.add_argument("--workers", type=int, default=4, help="client processes")
    parser.add_argument("--callers", type=int, default=4, help="concurrent callers in each")
    parser.add_argument("--out", type=Path, help="a new folder for all that is kept; else one in the temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when nothing is wrong")
    parser.add_argument("--proxies", action="store_true", help="links through a proxy, as where there is no root")
    options = parser.parse_args()
    directory = options.out or Path(tempfile.mkdtemp(prefix=f"chaos-{options.seed}-"))
    plan = Plan(options.minutes * 60, options.seed, directory, options.workers, options.callers, options.proxies)
    console = Console(stderr=True)
    console.print(f"seed {plan.seed}, {options.minutes:g} minutes, in {directory}")
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("starting", total=plan.seconds)
        report = make(plan, partial(_show, bar, task, now()))
    print(summary(report))
    if report.violations or options.keep:
        keep(plan, report)
        print(f"kept in {directory}: begin with {directory / 'timeline.html'}")
    else:
        shutil.rmtree(directory)
    return bool(report.violations)


def _show(bar: Progress, task: TaskID, began: float, nemesis: Nemesis) -> None:
    under_way = [
        f"{span.fault} ({span.chose})" if span.chose else span.fault for span in nemesis.spans if not span.ended
    ]
    bar.update(task, completed=now() - began, description=f"{len(nemesis.spans)} faults; {', '.join(under_way) or '-'}")


if __name__ == "__main__":
    sys.exit(main())
