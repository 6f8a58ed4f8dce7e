"""What ``make mutants`` shows: one line for each mutant."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from .catching import Result

_HEAD = ("mutant", "breaks", "caught by", "after", "seconds")


def table(results: Iterable[Result]) -> Table:
    shown = Table(*_HEAD, box=None, pad_edge=False)
    for result in results:
        shown.add_row(*map(_plain, _cells(result)))
    return shown


def markdown(results: Iterable[Result]) -> str:
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line(cell.replace("|", "\\|") for cell in _cells(result)) for result in results]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(cell: str) -> str:
    """Names of tests have brackets, which would be taken for styles."""
    return cell.replace("[", "\\[")


def _cells(result: Result) -> tuple[str, str, str, str, str]:
    by = ", ".join(catch.by.rpartition("/")[2] for catch in result.catches) or "SURVIVED"
    after = ", ".join(catch.after for catch in result.catches)
    return (result.mutant.name, result.mutant.breaks, by, after, f"{result.seconds:.1f}")
