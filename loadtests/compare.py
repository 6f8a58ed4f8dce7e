"""Holdfast and other lock services side by side in one run: same machine, same work, same clock.

``make compare``; or, for a short one, ``python -m loadtests.compare --peers holdfast redis --concurrency 1 64
--seconds 2 --repetitions 1``. Prints tables and keeps every repetition as JSON. What a service lacks is said in one
line, and the others go on.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from loadtests.peers.chart import svg
from loadtests.peers.comparing import Options, Run
from loadtests.peers.figures import Comparison
from loadtests.peers.loaders import LOAD_S_MAX
from loadtests.peers.roster import PEERS
from loadtests.peers.table import show

WIDE = 260
"""Columns where nobody looks: no line of a table is to be broken in a file."""


def options_of(words: list[str] | None) -> tuple[Options, argparse.Namespace]:
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=usual.peers, metavar="NAME")
    parser.add_argument("--concurrency", nargs="+", type=int, default=usual.concurrency, metavar="CLIENTS")
    parser.add_argument("--processes", nargs="+", type=int, default=usual.processes, help="client processes")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each measurement")
    parser.add_argument("--warm-up", type=float, default=usual.warm_up_s, help="seconds of the same load before")
    parser.add_argument("--cold", action="store_true", help="do not warm servers up; figures then mean little")
    parser.add_argument("--repetitions", type=int, default=usual.repetitions)
    parser.add_argument("--hold-ms", nargs="*", type=float, default=usual.hold_ms, help="of hand-offs")
    parser.add_argument("--kills", type=int, default=usual.kills, help="of leaders, by kill -9, in each repetition")
    parser.add_argument("--stops", type=int, default=usual.stops, help="of leaders, by SIGSTOP, in each repetition")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--chart", type=Path, help="where to draw them, as SVG")
    parser.add_argument("--again", type=Path, help="show the figures kept there, and measure nothing")
    chosen = parser.parse_args(words)
    if sys.platform != "linux" and not chosen.again:
        parser.error("servers are measured by what Linux tells of processes; run it there")
    if not 0 < chosen.seconds <= LOAD_S_MAX / 2 or chosen.warm_up > LOAD_S_MAX / 4:
        parser.error(f"--seconds is more than 0 and up to {LOAD_S_MAX / 2:g}, --warm-up up to {LOAD_S_MAX / 4:g}")
    if min([*chosen.concurrency, *chosen.processes, chosen.repetitions]) < 1:
        parser.error("--concurrency, --processes and --repetitions are 1 or more")
    options = Options(
        peers=tuple(chosen.peers),
        concurrency=tuple(sorted(chosen.concurrency)),
        processes=tuple(sorted(chosen.processes)),
        seconds=chosen.seconds,
        warm_up_s=chosen.warm_up,
        warm_servers=not chosen.cold,
        repetitions=chosen.repetitions,
        hold_ms=tuple(sorted(chosen.hold_ms)),
        kills=chosen.kills,
        stops=chosen.stops,
    )
    return options, chosen


def measured(options: Options, keep: Path | None) -> Comparison:
    """What is measured is kept after every repetition, so that a long run that is cut short is not lost."""
    with tempfile.TemporaryDirectory(prefix="holdfast-compare-") as directory:
        run = Run(options, Path(directory) / "rawload")
        for number in range(options.repetitions):
            run.repetition(number)
            if keep is not None:
                keep.parent.mkdir(parents=True, exist_ok=True)
                keep.write_bytes(msgspec.json.format(msgspec.json.encode(run.found), indent=1))
    return run.found


def main(words: list[str] | None = None) -> None:
    options, chosen = options_of(words)
    # So that a run that is told to end stops its servers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if chosen.again:
        found = msgspec.json.decode(chosen.again.read_bytes(), type=Comparison)
    else:
        found = measured(options, chosen.json)
    titles = {name: peer.title for name, peer in PEERS.items()}
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    show(found, titles, console)
    if chosen.chart:
        chosen.chart.parent.mkdir(parents=True, exist_ok=True)
        chosen.chart.write_text(svg(found, titles))


if __name__ == "__main__":
    main()
