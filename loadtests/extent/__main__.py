"""How far one local cluster goes. ``python -m loadtests.extent WHAT``: figures as JSON, and a line for people.

Have nothing else running: what is compared is taken in turn, but a loud neighbour is heard all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import uvloop

from holdfast.cluster import LocalCluster

from .expiring import expiring
from .flat import by_groups, by_locks
from .million import million
from .names import names
from .rows import memory
from .sessions import sessions
from .waiters import waiters


class Figures(Protocol):
    @property
    def line(self) -> str:
        """What people want to know first."""


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.extent", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = parser.add_subparsers(dest="what", required=True)

    def what(name: str, said: str, **defaults: int | float) -> argparse.ArgumentParser:
        one = every.add_parser(name, help=said, description=said)
        for option, value in defaults.items():
            kind = float if isinstance(value, float) else int
            one.add_argument(f"--{option.replace('_', '-')}", type=kind, default=value, help=f"default: {value:,}")
        return one

    what("names", "ever new names, twice: what stays of them", count=1_000_000)
    what(
        "waiters", "few and many waiters on one name, and a long run of clients that come back",
        few=10, many=1000, repetitions=5, seconds=4.0, long=50, long_seconds=30.0,
    )  # fmt: skip
    what("sessions", "sessions that are only kept alive", count=100_000, processes=4, ttl=30.0, seconds=60.0)
    what("expiring", "leases that run out within one second, beside others who cycle", count=10_000, rounds=5)
    what("rows", "memory of a held lock in a replica, compiled and pure", count=200_000)
    what("million", "many locks held, and snapshots of them: the longest pauses", count=1_000_000)
    levels = what("locks", "what a cycle costs beside ever more locks held", repetitions=3, seconds=4.0)
    levels.add_argument("--levels", type=int, nargs="+", default=[10, 1000, 100_000, 1_000_000])
    groups = what(
        "groups", "what a cycle costs over ever more groups, 64 at once for each, and what idle ones cost",
        repetitions=3, seconds=4.0, idle=20.0, nodes=3,
    )  # fmt: skip
    groups.add_argument("--levels", type=int, nargs="+", default=[2, 4, 8, 16])
    return parser.parse_args(words)


def measured(options: argparse.Namespace) -> Figures:
    if options.what == "rows":
        return memory(options.count)
    if options.what == "groups":
        return by_groups(options.levels, options.repetitions, options.seconds, options.idle, options.nodes)
    with LocalCluster() as cluster:
        return IN_ONE_CLUSTER[options.what](cluster, options)


def _waiters(cluster: LocalCluster, options: argparse.Namespace) -> Figures:
    long = (options.long, options.long_seconds)
    return uvloop.run(waiters(cluster, options.few, options.many, options.repetitions, options.seconds, *long))


IN_ONE_CLUSTER: dict[str, Callable[[LocalCluster, argparse.Namespace], Figures]] = {
    "names": lambda cluster, of: uvloop.run(names(cluster, of.count)),
    "waiters": _waiters,
    "sessions": lambda cluster, of: sessions(cluster, of.count, of.processes, of.ttl, of.seconds),
    "expiring": lambda cluster, of: expiring(cluster, of.count, of.rounds),
    "million": lambda cluster, of: million(cluster, of.count),
    "locks": lambda cluster, of: by_locks(cluster, sorted(of.levels), of.repetitions, of.seconds),
}


def main(words: Sequence[str] | None = None) -> None:
    figures = measured(options_of(words))
    print(figures.line, file=sys.stderr)
    print(msgspec.json.format(msgspec.json.encode(figures), indent=1).decode())


if __name__ == "__main__":
    main()
