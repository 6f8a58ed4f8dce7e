"""Tables of figures, on a terminal and in Markdown alike."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import MARKDOWN
from rich.table import Table

from .spread import Spread


def table_of(title: str, columns: Iterable[str]) -> Table:
    """Columns of text; of figures come with :func:`numbers`."""
    table = Table(title=title, box=MARKDOWN, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def numbers(table: Table, *columns: Iterable[str]) -> None:
    for column in (column for group in columns for column in group):
        table.add_column(column, justify="right", no_wrap=True)


def whole(spread: Spread | None) -> str:
    """The median; empty when there is none."""
    return "" if spread is None else f"{spread.median:,.0f}"


def figure(spread: Spread | None, digits: int) -> str:
    return "" if spread is None else f"{spread.median:,.{digits}f}"


def span(spread: Spread | None, digits: int = 0) -> str:
    return "" if spread is None else f"{spread.min:,.{digits}f} to {spread.max:,.{digits}f}"
