"""``python -m tests.mutants``: put every mutant before its catchers, and show who caught it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from .catalogue import MUTANTS, mutant
from .catching import Result, catch, trouble_without_mutant
from .mutant import Mutant, Selection
from .table import markdown, table

T = TypeVar("T")

WIDTH_UNSEEN = 200
"""Columns when nobody looks: a log wraps by itself."""


def main() -> int:
    """0 when all were caught; 1 when one survived, or a test fails without any; 2 for wrong arguments."""
    arguments = _arguments()
    try:
        mutants = [mutant(name) for name in arguments.only] or list(MUTANTS)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH_UNSEEN)
    results: dict[str, Result] = {}
    with ThreadPoolExecutor(arguments.jobs) as pool, Progress(console=Console(stderr=True), transient=True) as progress:
        files = sorted({file for each in mutants for file in _files(each)})
        checks = [pool.submit(trouble_without_mutant, file) for file in files]
        troubles = [found for found in _ended(progress, "tests without a mutant", checks) if found]
        if not troubles:
            runs = [pool.submit(catch, each, every=arguments.every) for each in mutants]
            results = {result.mutant.name: result for result in _ended(progress, "mutants", runs)}
    for trouble in troubles:
        console.print(trouble, markup=False, highlight=False)
    if troubles:
        return 1
    ordered = [results[each.name] for each in mutants]
    console.print(table(ordered))
    if arguments.markdown:
        arguments.markdown.write_text(markdown(ordered))
    survivors = [result for result in ordered if not result.catches]
    for result in survivors:
        console.print(f"survived: {result.mutant.name}: {'; '.join(result.survived)}", markup=False, highlight=False)
    console.print(f"{len(ordered) - len(survivors)} of {len(ordered)} mutants caught", highlight=False)
    return 1 if survivors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutant alone; repeatable")
    parser.add_argument("--every", action="store_true", help="ask every catcher, not only until one has caught it")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (%(default)s)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    return parser.parse_args()


def _files(each: Mutant) -> Iterator[str]:
    for catcher in each.caught_by:
        if isinstance(catcher, Selection):
            yield from catcher.files


def _ended(progress: Progress, what: str, futures: Sequence[Future[T]]) -> Iterator[T]:
    task = progress.add_task(what, total=len(futures))
    for future in as_completed(futures):
        progress.advance(task)
        yield future.result()


if __name__ == "__main__":
    sys.exit(main())
