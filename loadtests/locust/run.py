"""One load test against a cluster of its own on this machine: ``python -m loadtests.locust.run --scenario hot``.

Leaves a directory with Locust's HTML and log, ``figures.json``, ``report.json``, ``report.md`` and the chart. Ends with
1 when anything failed; refusals are no failures.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from holdfast.bench import report as bench_report
from holdfast.cluster import ClusterError, LocalCluster

from . import report
from .catalogue import SCENARIOS, SHAPES, WAYS, user_classes
from .figures import Figures
from .processor import ProcessorWatch
from .verdict import Bounds

ROOT = Path(__file__).parents[2]
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
FINISH_S = 15
"""For users to end what they do, so that nothing is left held that nobody will let go of."""
SLACK_S = 60.0
LOOK_S = 0.1
LOG_TAIL_LINES = 15


class LoadFailed(Exception):
    """Locust ended without figures, or not in time; its log says why."""


def run(options: argparse.Namespace, out: Path) -> report.Report:
    """Raises :class:`LoadFailed`, and what a cluster raises that does not start."""
    out.mkdir(parents=True, exist_ok=True)
    with LocalCluster() as cluster, (out / "locust.log").open("wb") as log:
        load = subprocess.Popen(
            _command(options, out),
            cwd=ROOT,
            env={**os.environ, **_addresses(cluster)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=cluster.guardian.enlist,  # noqa: PLW1509 - one system call, no lock is taken
        )
        try:
            with ProcessorWatch(cluster.pids, load.pid) as watch:
                _await_end(load.pid, options.seconds + FINISH_S + SLACK_S, out)
        finally:
            os.killpg(load.pid, signal.SIGKILL)
            cluster.guardian.drop(load.pid)
            load.wait()
    if not (out / report.FIGURES).exists():
        raise LoadFailed(f"Locust ended with code {load.returncode} and no figures{_tail(out)}")
    _complete(out / report.FIGURES, watch)
    return report.make(out, Bounds(options.p99_ms, options.refused))


def _await_end(pid: int, timeout_s: float, out: Path) -> None:
    """It is not reaped, so that its number stays its own until the guardian has forgotten it."""
    deadline = time.monotonic() + timeout_s
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            raise LoadFailed(f"Locust did not end in time{_tail(out)}")
        time.sleep(LOOK_S)


def _addresses(cluster: LocalCluster) -> dict[str, str]:
    return {**cluster.environment, "LOCUST_HOST": cluster.http_url}


def _command(options: argparse.Namespace, out: Path) -> list[str]:
    words = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    words += ["--html", str(out / "locust.html"), "--stop-timeout", str(FINISH_S)]
    words += ["--figures", str(out / report.FIGURES), "--scenario", ", ".join(options.scenario)]
    words += ["--shape", options.shape]
    words += ["-u", str(options.users), "-t", f"{options.seconds}s", "--rate", str(options.rate)]
    words += ["--tenants", str(options.tenants), "--plan", options.plan, "--tenant-rate", str(options.tenant_rate)]
    words += ["--processes", str(options.workers)] if options.workers else []
    return [*words, *user_classes(options.through, options.scenario)]


def _complete(path: Path, watch: ProcessorWatch) -> None:
    figures = msgspec.json.decode(path.read_bytes(), type=Figures)
    figures.used = watch.used
    figures.machine = msgspec.to_builtins(bench_report.machine())
    figures.commit = bench_report.commit()
    path.write_bytes(msgspec.json.encode(figures))


def _tail(out: Path) -> str:
    lines = (out / "locust.log").read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "".join(f"\n  {line}" for line in lines)


def options_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.locust.run", description=__doc__)
    add = parser.add_argument
    add("--scenario", type=_some_of(SCENARIOS), default=["uncontended"], help=f"some of {', '.join(SCENARIOS)}")
    add("--through", type=_some_of(WAYS), default=["sdk"], help=f"some of {', '.join(WAYS)}")
    add("--shape", choices=SHAPES, default="steps")
    add("--users", type=int, default=200, help="most at a time")
    add("--seconds", type=int, default=60)
    add("--rate", type=float, default=10.0, help="most steps per second of each user")
    add("--workers", type=int, default=0, help="processes of Locust beside its master; 0: one process does it all")
    add("--tenants", type=int, default=2, help="among whom the users are shared out; the noisy scenario needs two")
    add("--plan", default="unlimited", help="of the tenants")
    add("--tenant-rate", type=int, default=0, help="operations per second of each tenant; 0: the plan's")
    add("--p99-ms", type=float, default=Bounds().p99_ms, help="beyond it a step is called broken")
    add("--refused", type=float, default=Bounds().refused, help="share of what is asked; beyond it likewise")
    add("--out", type=Path, default=None, help="directory of the report; load-reports/… when left out")
    options = parser.parse_args(words)
    if "noisy" in options.scenario and options.tenants < 2:
        parser.error("the noisy scenario needs --tenants 2: one that floods, and one beside it")
    return options


def _some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [each for each in found if each not in known]:
            raise argparse.ArgumentTypeError(
                f"{unknown[0]!r} is none of {', '.join(known)}; several have commas between"
            )
        return found

    return parse


def main() -> int:
    options = options_of()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    what = "-".join([*options.scenario, *options.through, options.shape])
    out = options.out or Path("load-reports") / f"{what}-{stamp}"
    try:
        made = run(options, out.absolute())
    except (LoadFailed, ClusterError) as why:
        print(why, file=sys.stderr)
        return 2
    print(f"{made.verdict}\n{made.failed} failures. Report: {out / 'report.md'}")
    return 1 if made.failed else 0


if __name__ == "__main__":
    sys.exit(main())
